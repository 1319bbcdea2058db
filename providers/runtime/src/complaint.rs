//! What the processes beside the daemon (the spawner, shims, the unpacker) say to whoever reads their standard error.

use std::fmt;
use std::io::Write;

/// Writes a line to standard error as `eprintln!` does, which panics where that cannot be written: a shim's is a file, and a full or failing disk must
/// not end the pod.
macro_rules! complain {
    ($($part:tt)*) => {
        $crate::complaint::write(format_args!($($part)*))
    };
}

pub(crate) use complain;

pub(crate) fn write(line: fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    // There is nobody else to tell.
    drop(std::io::stderr().write_all(line.as_bytes()));
}
