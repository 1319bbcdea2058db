//! The roles that this binary takes when it is executed again.

use crate::spawner;
use crate::sys;
use crate::unpacker;

/// Runs one of the runtime's own hidden roles when this process was started for that, and then never returns.
///
/// Must be the first thing in `main`, before threads, an async runtime or the parsing of arguments: the roles fork.
pub fn reexec_main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(verb) if verb == spawner::VERB => sys::process::exit(spawner::run()),
        Some(verb) if verb == unpacker::VERB => sys::process::exit(unpacker::run()),
        _ => {}
    }
}
