//! The certificates of one installation: its authority, what the API shows, and the administrator's.
//!
//! Everything lies in one directory, readable for its owner only. The authority is made once and kept; the others are made
//! again when they no longer fit: near their end, for other names, of another authority, or with a key that is not theirs.

mod files;
mod issue;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};

use issue::Authority;

/// How long the authority is good for.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// How long other certificates are good for.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// When less than this is left, a certificate is made again.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 30);

/// The user of the administrator's certificate.
pub const ADMIN: &str = "setpoint-admin";
/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// Whom the serving certificate is for, beside what every installation has.
#[derive(Clone, Debug, Default)]
pub struct PkiOptions {
    /// The node's name.
    pub node_name: String,
    /// Addresses that clients reach the API at: the host's, the gateway of pods, the `kubernetes` Service.
    pub addresses: Vec<IpAddr>,
    /// More names that clients use.
    pub names: Vec<String>,
}

/// Why certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The authority's certificate or key is missing or broken, and what it signed depends on it.
    #[error(
        "the certificate authority in {path} cannot be used: {reason}; restore its files, or remove the directory to begin anew, which locks out all kubeconfigs given out so far"
    )]
    Authority {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the {what} certificate")]
    Issue {
        /// Whose.
        what: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
}

/// A certificate with its key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The certificates of one installation.
pub struct Pki {
    dir: PathBuf,
    options: PkiOptions,
    authority: Authority,
    serving: Identity,
    admin: Identity,
}

impl Pki {
    /// Reads the certificates from a directory; makes what is not there or no longer fits.
    pub fn open(dir: &Path, options: PkiOptions, now: Timestamp) -> Result<Pki, PkiError> {
        files::create_dir(dir)?;
        let authority = Authority::open(dir, now)?;
        let (serving, _) = serving(dir, &authority, &options, now)?;
        let (admin, _) = admin(dir, &authority, now)?;
        Ok(Pki {
            dir: dir.to_owned(),
            options,
            authority,
            serving,
            admin,
        })
    }

    /// Makes again what is near its end; returns whether anything was. To be asked once a day or so.
    pub fn renew(&mut self, now: Timestamp) -> Result<bool, PkiError> {
        let (serving, new_serving) = serving(&self.dir, &self.authority, &self.options, now)?;
        let (admin, new_admin) = admin(&self.dir, &self.authority, now)?;
        self.serving = serving;
        self.admin = admin;
        Ok(new_serving || new_admin)
    }

    /// The authority's certificate as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate()
    }

    /// What the API shows to its clients.
    pub fn serving(&self) -> &Identity {
        &self.serving
    }

    /// What the administrator shows to the API.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// The administrator's kubeconfig for a server, such as `https://127.0.0.1:6443`.
    pub fn admin_kubeconfig(&self, server: &str) -> String {
        self.kubeconfig(server, ADMIN, self.admin())
    }

    /// A kubeconfig, as YAML, for a user of this installation.
    fn kubeconfig(&self, server: &str, user: &str, identity: &Identity) -> String {
        // Written as JSON strings, which are YAML too, so that no name can break out of its place.
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let encode = |pem: &str| STANDARD.encode(pem);
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: setpoint\n\
             \x20 cluster:\n\
             \x20   server: {server}\n\
             \x20   certificate-authority-data: {authority}\n\
             users:\n\
             - name: {user}\n\
             \x20 user:\n\
             \x20   client-certificate-data: {certificate}\n\
             \x20   client-key-data: {key}\n\
             contexts:\n\
             - name: setpoint\n\
             \x20 context:\n\
             \x20   cluster: setpoint\n\
             \x20   user: {user}\n\
             current-context: setpoint\n\
             preferences: {{}}\n",
            server = quote(server),
            authority = encode(self.ca_pem()),
            user = quote(user),
            certificate = encode(&identity.certificate),
            key = encode(&identity.key),
        )
    }
}

/// The names and addresses that the serving certificate is for.
fn subject_names(options: &PkiOptions) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .into();
    names.insert(IpAddr::V4(Ipv4Addr::LOCALHOST).to_string());
    names.extend(options.addresses.iter().map(IpAddr::to_string));
    names.extend(options.names.iter().cloned());
    names.insert(options.node_name.clone());
    names.retain(|name| !name.is_empty());
    names
}

fn serving(
    dir: &Path,
    authority: &Authority,
    options: &PkiOptions,
    now: Timestamp,
) -> Result<(Identity, bool), PkiError> {
    let names = subject_names(options);
    keep_or_make(dir, "serving", authority, &names, now, || {
        authority.server(&options.node_name, &names, LIFE, now)
    })
}

fn admin(dir: &Path, authority: &Authority, now: Timestamp) -> Result<(Identity, bool), PkiError> {
    keep_or_make(dir, "admin", authority, &BTreeSet::new(), now, || {
        authority.client(ADMIN, &[MASTERS], LIFE, now)
    })
}

fn keep_or_make(
    dir: &Path,
    what: &str,
    authority: &Authority,
    names: &BTreeSet<String>,
    now: Timestamp,
    make: impl FnOnce() -> Result<Identity, PkiError>,
) -> Result<(Identity, bool), PkiError> {
    if let Some(identity) = files::read(dir, what)?
        && authority.fits(&identity, names, now, RENEW_BEFORE)
    {
        return Ok((identity, false));
    }
    let identity = make()?;
    files::write(dir, what, &identity)?;
    Ok((identity, true))
}
