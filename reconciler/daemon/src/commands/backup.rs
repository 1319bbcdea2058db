//! `setpoint backup`: everything that is not had again from elsewhere, in one file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use setpoint_store::Keys;

use crate::backup::{self, Header, pack, stage};
use crate::cli::{Format, Global};
use crate::instance::Paths;
use crate::{output, stores, wall_clock};

/// Options of `setpoint backup`.
#[derive(Args)]
pub struct Backup {
    /// The file to write; its folder has to be there
    file: PathBuf,
    /// Put the key file into the backup: whoever has the file can then read every secret in it
    #[arg(long)]
    with_key: bool,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Backup {
    /// Takes a consistent copy beside a running daemon, or without one, and writes it sealed.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("what setpoint stores belongs to root: run this as root (sudo setpoint backup …)");
        }
        let paths = Paths::new(&global.data_dir)?;
        let file =
            std::path::absolute(&self.file).with_context(|| format!("{} cannot be used", self.file.display()))?;
        if !self.force && file.symlink_metadata().is_ok() {
            return Err(pack::there(&file));
        }
        let created = wall_clock();
        let staged = stage::stage(&paths).await?;
        let keys = keys(&paths, &staged).await?;
        let mut needed = staged.keys.clone();
        needed.insert(keys.newest());
        let header = Header {
            created,
            instance: staged.instance.id.clone(),
            node: staged.instance.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            newest_revision: staged.newest_revision,
            key: keys.newest().to_string(),
            keys: needed.iter().map(ToString::to_string).collect(),
            contents: staged.contents.clone(),
            key_file: self.with_key.then(|| keys.to_text()),
        };
        output::progress(&format!("writing {}", file.display()));
        let bytes = pack::write(&header, staged.folder.path(), &keys, &file, self.force)?;
        staged
            .folder
            .close()
            .context("cannot remove the folder that the parts waited in; the backup itself is complete")?;
        match global.output {
            Format::Json => {
                let mut shown = header.shown()?;
                shown["file"] = json!(file);
                shown["bytes"] = json!(bytes);
                shown["keyFile"] = json!(paths.key());
                output::json(&shown)
            }
            Format::Text => {
                output::text(&text(&header, &file, bytes, &paths.key()));
                Ok(())
            }
        }
    }
}

/// Opens the keys, after a look at whether they are the ones that are needed.
async fn keys(paths: &Paths, staged: &stage::Staged) -> anyhow::Result<Keys> {
    let keys = stores::open_keys(paths).await?;
    if let Some(id) = staged.keys.iter().find(|id| !keys.has(**id)) {
        bail!(
            "a database is sealed with key {id}, which {} does not have: add its line from a copy of the key file",
            paths.key().display()
        );
    }
    Ok(keys)
}

fn text(header: &Header, file: &Path, bytes: u64, key: &Path) -> String {
    let mut text = contents(header);
    text.push_str(&format!("\nwrote {} ({})\n", file.display(), backup::size(bytes)));
    text.push_str(&if header.key_file.is_some() {
        "The key file is in it: whoever has this file can read every secret. Keep it as safe as the key.\n".to_string()
    } else {
        format!(
            "It is sealed with key {}, which is not in it: a restore needs a copy of {}.\nKeep one in a safe place, apart from the backup.\n",
            header.key,
            key.display()
        )
    });
    text
}

/// Says what a backup holds.
pub fn contents(header: &Header) -> String {
    let mut text = format!(
        "instance {} (node {}), {:.0}, setpoint {}, revision {} at most\n",
        header.instance, header.node, header.created, header.version, header.newest_revision
    );
    for part in &header.contents {
        let files = match part.files {
            1 => String::new(),
            files => format!(" in {files} files"),
        };
        text.push_str(&format!(
            "  {:<20} {:>10}{files}\n",
            part.name,
            backup::size(part.bytes)
        ));
    }
    text
}
