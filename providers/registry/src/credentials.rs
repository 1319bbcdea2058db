//! Who asks a registry: credentials, where they come from, and which of them are for which image.
//!
//! Invariant: what is secret never appears in a log, an error or `Debug`.

mod docker;
mod helper;
mod keyring;
mod matching;
mod node;

use std::fmt;

use ring::digest::{Context, SHA256};

pub use docker::{CredentialsError, from_secret};
pub use keyring::Keyring;
pub use node::NodeCredentials;

/// What shows that somebody is who he says.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A password, or a token that is used as one.
    Password(String),
    /// A token that the registry's token server takes in exchange for another (`identitytoken`).
    IdentityToken(String),
    /// A token that the registry itself takes (`registrytoken`).
    RegistryToken(String),
}

/// Where credentials come from; it decides who may use what was fetched with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Secret of a pod.
    Secret {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// The Secret's uid.
        uid: String,
    },
    /// A file of this machine, for every pod of it.
    Node {
        /// The file.
        place: String,
    },
    /// The command line.
    Given,
}

/// A user with what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user; empty where a token alone is enough.
    pub user: String,
    /// What proves it; never shown.
    pub proof: Proof,
    /// Where it comes from.
    pub origin: Origin,
}

impl Credential {
    /// Returns a digest that tells credentials apart without telling what they are.
    pub fn hash(&self) -> String {
        let (kind, secret) = match &self.proof {
            Proof::Password(secret) => ("password", secret),
            Proof::IdentityToken(secret) => ("identity", secret),
            Proof::RegistryToken(secret) => ("registry", secret),
        };
        let mut hash = Context::new(&SHA256);
        for part in [kind, &self.user, secret] {
            // Lengths part them, so that no two different ones run into the same bytes.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hex::encode(hash.finish())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?} from {:?})", self.user, self.origin)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}
