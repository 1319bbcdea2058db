//! What stands in `examples/` works as it stands.

use std::path::Path;

use crate::harness::{World, http_get};

#[test]
fn hello_answers_with_its_configuration() {
    let world = World::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
    world.kubectl(&["apply", "-f", folder.to_str().unwrap()]);
    world.kubectl(&["rollout", "status", "deployment/hello", "--timeout=90s"]);
    let page = http_get(&format!("http://{}/", world.cluster_ip("hello"))).unwrap();
    assert!(page.contains("GREETING=hello from a ConfigMap"), "{page}");
}
