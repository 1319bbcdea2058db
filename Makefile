# The one command for every test: `make test` (as root; installs what it needs).

.PHONY: build test bench fmt

build:
	cargo build --release

test:
	bash .ci/test

bench:
	bash .ci/bench

fmt:
	cargo fmt --all
