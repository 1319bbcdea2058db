//! Gives a volume to a group, as `fsGroup` asks.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Makes a tree readable (and unless `read_only` writable) for a group; new files in its directories get the group as well.
/// Symbolic links are not followed.
pub(super) fn give(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.gid() != group {
        std::os::unix::fs::lchown(path, None, Some(group))?;
    }
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut add = if read_only { 0o440 } else { 0o660 };
    if metadata.is_dir() {
        add |= 0o2110;
    }
    let mode = metadata.permissions().mode();
    if mode | add != mode {
        fs::set_permissions(path, fs::Permissions::from_mode((mode | add) & 0o7777))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}
