//! The certificates of one installation: its authority, what the API shows, and the administrator's.
//!
//! Everything lies in one directory, readable for its owner only. A certificate is made again when it no longer fits: a third of its
//! life is left, or it is for other names, of another authority, or with a key that is not its own. The authority is renewed with
//! an overlap ([`authorities`]), so that nobody is ever shown a certificate of an authority that they were not told of.

mod authorities;
mod files;
mod issue;
mod kubeconfig;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use authorities::Authorities;
use issue::Authority;
pub use kubeconfig::kubeconfig;

/// How long the authority is good for.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// How long other certificates are good for.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);

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

/// What a renewal has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The authorities that are to be trusted are others.
    pub authorities: bool,
    /// The serving certificate is another.
    pub serving: bool,
    /// The administrator's certificate is another.
    pub admin: bool,
}

impl Renewed {
    /// Whether anything is new.
    pub fn any(self) -> bool {
        self.authorities || self.serving || self.admin
    }
}

/// The certificates of one installation.
pub struct Pki {
    dir: PathBuf,
    options: PkiOptions,
    authorities: Authorities,
    serving: Identity,
    admin: Identity,
}

impl Pki {
    /// Reads the certificates from a directory; makes what is not there or no longer fits.
    pub fn open(dir: &Path, options: PkiOptions, now: Timestamp) -> Result<Pki, PkiError> {
        files::create_dir(dir)?;
        let authorities = Authorities::open(dir, now)?;
        let (serving, _) = serving(dir, authorities.signing(), &options, now)?;
        let (admin, _) = admin(dir, authorities.signing(), now)?;
        Ok(Pki {
            dir: dir.to_owned(),
            options,
            authorities,
            serving,
            admin,
        })
    }

    /// Takes every step that is due; says what is new. To be asked every now and then.
    pub fn renew(&mut self, now: Timestamp) -> Result<Renewed, PkiError> {
        let authorities = self.authorities.renew(now)?;
        let (serving, new_serving) = serving(&self.dir, self.authorities.signing(), &self.options, now)?;
        let (admin, new_admin) = admin(&self.dir, self.authorities.signing(), now)?;
        self.serving = serving;
        self.admin = admin;
        Ok(Renewed {
            authorities,
            serving: new_serving,
            admin: new_admin,
        })
    }

    /// The certificates of all authorities that are to be trusted as PEM, the one that signs first.
    pub fn ca_pem(&self) -> String {
        self.authorities.bundle()
    }

    /// What the API shows to its clients.
    pub fn serving(&self) -> &Identity {
        &self.serving
    }

    /// The administrator's kubeconfig for a server, such as `https://127.0.0.1:6443`.
    pub fn admin_kubeconfig(&self, server: &str) -> String {
        kubeconfig(server, ADMIN, &self.ca_pem(), &self.admin)
    }
}

/// The right to sign for users, beside a running daemon: it reads and changes nothing.
pub struct Signer {
    authorities: Authorities,
}

impl Signer {
    /// Reads the authorities of a directory.
    pub fn open(dir: &Path) -> Result<Signer, PkiError> {
        Ok(Signer {
            authorities: Authorities::look(dir)?,
        })
    }

    /// The certificates of all authorities that are to be trusted as PEM.
    pub fn ca_pem(&self) -> String {
        self.authorities.bundle()
    }

    /// Until when the authority that signs is good: no certificate holds longer.
    pub fn until(&self) -> Timestamp {
        self.authorities.signing().until()
    }

    /// Makes a certificate for a user that is kept under this uid.
    pub fn user(
        &self,
        name: &str,
        groups: &[String],
        uid: &str,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.authorities.signing().client(name, &groups, Some(uid), life, now)
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
        authority.client(ADMIN, &[MASTERS], None, LIFE, now)
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
        && authority.fits(&identity, names, now)
    {
        return Ok((identity, false));
    }
    let identity = make()?;
    files::write(dir, what, &identity)?;
    Ok((identity, true))
}
