//! Writes the table of the charts and examples that the binary carries, so that a new file is carried without being named.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("../..")
        .canonicalize()?;
    let mut table = String::new();
    for (constant, folder) in [("CHARTS", "charts"), ("EXAMPLES", "examples")] {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        collect(&folder, &folder, &mut files)?;
        files.sort();
        writeln!(
            table,
            "/// Paths and contents.\npub const {constant}: &[(&str, &[u8])] = &["
        )
        .expect("memory");
        for (name, path) in files {
            writeln!(
                table,
                "    ({name:?}, include_bytes!({:?})),",
                path.display().to_string()
            )
            .expect("memory");
        }
        table.push_str("];\n");
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("carried.rs"), table)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push((name.to_string_lossy().into_owned(), path.clone()));
        }
    }
    Ok(())
}
