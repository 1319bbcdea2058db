//! The title of a process: what `ps` shows as its command line.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Writes a title over the arguments and environment that this process was started with; a longer one is cut.
///
/// The kernel shows the bytes at the arguments' place and, once their end is overwritten, those of the environment behind them up to the first zero.
pub(crate) fn set(title: &str) -> io::Result<()> {
    let (start, end) = place(&fs::read_to_string("/proc/self/stat")?)
        .ok_or_else(|| io::Error::other("/proc/self/stat does not say where the arguments are"))?;
    let room = usize::try_from(end - start).unwrap_or(0);
    let mut bytes = vec![0; room];
    let length = title.len().min(room.saturating_sub(1));
    bytes[..length].copy_from_slice(&title.as_bytes()[..length]);
    // By the kernel, which checks the addresses, and not through pointers of our own.
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.write_all_at(&bytes, start)
}

/// Returns where the arguments begin and where the environment ends (proc_pid_stat(5), fields 48 and 51).
fn place(stat: &str) -> Option<(u64, u64)> {
    // The name, field 2, may contain anything but ends at the last parenthesis; field 3 comes after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (start, end) = (field(48)?, field(51)?);
    (start > 0 && end > start).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_arguments_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        let stat = format!("12 (a ) b) {}", fields.join(" "));
        assert_eq!(place(&stat), Some((48, 51)));
        assert_eq!(place("12 (a) S 1 2"), None);
    }
}
