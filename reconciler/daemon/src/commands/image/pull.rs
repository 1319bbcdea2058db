//! `setpoint image pull`.

use std::io::{IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use setpoint_runtime::images::{Credential, Image, ImageStore, Keyring, Origin, Progress, Proof};

use super::print;
use crate::cli::{Format, Global};
use crate::output;

/// How often a terminal is shown how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// The longest password, in bytes.
const LONGEST: u64 = 64 << 10;

/// Options of `setpoint image pull`.
#[derive(Args)]
pub struct Pull {
    /// The image, such as `nginx:1.27`
    reference: String,
    /// The user at the registry (default: what docker's configuration files on this machine say)
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from the standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl Pull {
    /// Fetches the image and prints it.
    pub async fn run(self, store: &ImageStore, global: &Global) -> anyhow::Result<()> {
        let (keyring, progress) = (self.keyring()?, Progress::default());
        let pull = store.pull(&self.reference, keyring, &progress);
        let image = match std::io::stderr().is_terminal() && global.output == Format::Text {
            true => watched(pull, &progress).await,
            false => {
                output::progress(&format!("pulling {} …", self.reference));
                pull.await
            }
        };
        let image = image.with_context(|| format!("cannot pull {}", self.reference))?;
        print::list(&[image], global.output)
    }

    fn keyring(&self) -> anyhow::Result<Keyring> {
        let mut keyring = Keyring::default();
        let Some(user) = &self.username else { return Ok(keyring) };
        let mut password = String::new();
        std::io::stdin()
            .lock()
            .take(LONGEST)
            .read_to_string(&mut password)
            .context("cannot read the password")?;
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            bail!("the password is empty: --password-stdin reads it from the standard input");
        }
        let credential = Credential {
            user: user.clone(),
            proof: Proof::Password(password.to_owned()),
            origin: Origin::Given,
        };
        // For the registry that the image is in: the first part of a name that looks like a host.
        let host = match self.reference.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => "index.docker.io",
        };
        keyring.add(host, credential);
        Ok(keyring)
    }
}

/// Waits for a pull and shows in one line how far it is.
async fn watched<E>(pull: impl Future<Output = Result<Image, E>>, progress: &Progress) -> Result<Image, E> {
    tokio::pin!(pull);
    let outcome = loop {
        tokio::select! {
            outcome = &mut pull => break outcome,
            () = tokio::time::sleep(LOOK) => show(&pulled(progress)),
        }
    };
    show("");
    outcome
}

/// Replaces the line on the terminal. One that cannot be written is not worth breaking off for.
fn show(text: &str) {
    let mut terminal = std::io::stderr().lock();
    drop(write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush()));
}

/// Says how far a pull is.
pub fn pulled(progress: &Progress) -> String {
    let layers = progress.layers();
    if layers.is_empty() {
        return "asking the registry …".to_owned();
    }
    let (done, all) = progress.bytes();
    let ready = layers.iter().filter(|layer| layer.ready).count();
    format!(
        "{} of {} · {ready} of {} layers",
        print::size(done),
        print::size(all),
        layers.len()
    )
}
