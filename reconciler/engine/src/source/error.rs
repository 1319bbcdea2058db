//! What goes wrong with a source, in words for whoever can mend it.

use std::io;
use std::path::PathBuf;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass by itself: back off and try again.
    Transient,
    /// Nothing changes until somebody changes something: say so and wait for the input.
    Terminal,
}

/// Why a source could not be read, watched, fetched or made.
///
/// No variant carries a password: addresses are printed without their user information.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing is at the path.
    #[error("{path} does not exist; give the path of a git repository")]
    Missing {
        /// Where a repository was looked for.
        path: PathBuf,
    },
    /// Something is at the path, but no repository.
    #[error("{path} is no git repository; run `git init` in it, or give the path of one")]
    NotRepository {
        /// Where a repository was looked for.
        path: PathBuf,
    },
    /// A repository in a format that cannot be read here.
    #[error("the repository {path} uses {feature}, which Setpoint cannot read; {advice}")]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// What it uses.
        feature: String,
        /// How to get one that can be read.
        advice: &'static str,
    },
    /// A branch that the repository does not have.
    #[error("{repository} has no branch {branch}; it has {}", listed(.known))]
    NoBranch {
        /// The repository.
        repository: String,
        /// What was asked for.
        branch: String,
        /// What there is, sorted.
        known: Vec<String>,
    },
    /// A commit that the repository does not have.
    #[error("the repository {path} has no commit {commit}; if history was rewritten, choose a newer one")]
    NoCommit {
        /// The repository.
        path: PathBuf,
        /// What was asked for.
        commit: String,
    },
    /// A prefix that fits several objects.
    #[error("several objects of the repository {path} begin with {revision}; write more of the id")]
    Ambiguous {
        /// The repository.
        path: PathBuf,
        /// What was asked for.
        revision: String,
    },
    /// A path that the commit does not have.
    #[error("the commit {commit} has no {path}; add it, or correct the path")]
    NoPath {
        /// The commit's abbreviated id.
        commit: String,
        /// Relative to the repository's root.
        path: String,
    },
    /// A path of the commit that cannot be used as it is.
    #[error("{path} {problem}")]
    Content {
        /// Relative to the repository's root.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A path that is not one.
    #[error("{problem}")]
    BadPath {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// libgit2 could not do it: damage, a lock, an I/O error.
    #[error("cannot {operation} in the repository {path}")]
    Git {
        /// What was tried.
        operation: &'static str,
        /// The repository.
        path: PathBuf,
        /// What libgit2 said.
        #[source]
        source: git2::Error,
    },
    /// The file system refused.
    #[error("cannot {operation} {path}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The machine allows no more watches.
    #[error("the machine's limit of inotify {what} is reached; raise it, as in `sysctl {sysctl}={suggestion}`")]
    WatchLimit {
        /// `watches` or `instances`.
        what: &'static str,
        /// The setting to raise.
        sysctl: &'static str,
        /// A value that is large enough.
        suggestion: u32,
    },
    /// A folder could not be watched.
    #[error("cannot watch {path}")]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What notify said.
        #[source]
        source: notify::Error,
    },
    /// An address that cannot be understood.
    #[error("`{address}` is no address of a git repository: {problem}")]
    BadAddress {
        /// As written, without user information.
        address: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The remote did not answer in time.
    #[error("{remote} did not {what} within {seconds} s")]
    Timeout {
        /// The address.
        remote: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// The remote could not be reached, or the connection broke.
    #[error("cannot reach {remote}")]
    Unreachable {
        /// The address.
        remote: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody whom this machine trusts vouches for the remote.
    #[error(
        "{remote} shows a certificate of an authority that this machine does not trust; start setpoint with SSL_CERT_FILE=FILE if it is one of your own"
    )]
    Untrusted {
        /// The address.
        remote: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The remote does not let us in.
    #[error("{remote} refuses access: {problem}")]
    Denied {
        /// The address.
        remote: String,
        /// What it said, and what to do.
        problem: String,
    },
    /// The remote has no such repository.
    #[error("{remote}: there is no such repository, or it is hidden from these credentials")]
    NoRemote {
        /// The address.
        remote: String,
    },
    /// The remote answered with an error that may pass.
    #[error("{remote} answered: {answer}")]
    Answer {
        /// The address.
        remote: String,
        /// Its words, shortened.
        answer: String,
    },
    /// The remote does not speak git's protocol, or speaks it wrongly.
    #[error("{remote} does not answer as a git server does: {problem}")]
    Protocol {
        /// The address.
        remote: String,
        /// What was unexpected.
        problem: String,
    },
    /// The remote sends more than allowed.
    #[error("{remote} sends more than {limit} bytes; raise the limit, or follow a smaller repository")]
    TooLarge {
        /// The address.
        remote: String,
        /// The limit.
        limit: u64,
    },
    /// The transport cannot be set up on this machine.
    #[error("cannot fetch {remote}: {problem}")]
    Setup {
        /// The address.
        remote: String,
        /// What is missing, and what to do.
        problem: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something is already where a repository or clone should go.
    #[error("{path} is not empty; choose another place, or empty it")]
    Occupied {
        /// The place.
        path: PathBuf,
    },
    /// A name or address that git does not take.
    #[error("`{name} <{email}>` cannot sign a commit; neither part may be empty or have `<`, `>` or a line break")]
    BadIdentity {
        /// The name.
        name: String,
        /// The mail address.
        email: String,
    },
}

impl SourceError {
    /// Says whether trying again can help while nobody changes anything.
    pub fn class(&self) -> Class {
        match self {
            Self::Git { .. } | Self::Disk { .. } | Self::Watch { .. } => Class::Transient,
            Self::Timeout { .. } | Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Answer { .. } => {
                Class::Transient
            }
            Self::Missing { .. } | Self::NotRepository { .. } | Self::Unsupported { .. } => Class::Terminal,
            Self::NoBranch { .. } | Self::NoCommit { .. } | Self::Ambiguous { .. } => Class::Terminal,
            Self::NoPath { .. } | Self::Content { .. } | Self::BadPath { .. } => Class::Terminal,
            Self::WatchLimit { .. } | Self::BadAddress { .. } | Self::Denied { .. } => Class::Terminal,
            Self::NoRemote { .. } | Self::Protocol { .. } | Self::TooLarge { .. } => Class::Terminal,
            Self::Setup { .. } | Self::Occupied { .. } | Self::BadIdentity { .. } => Class::Terminal,
        }
    }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names.len() {
        0 => "none yet".to_owned(),
        all if all > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), all - SHOWN),
        _ => names.join(", "),
    }
}

/// What others wrote, on one line, without control characters and not longer than `longest` characters.
pub(super) fn plain(text: &[u8], longest: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let one_line: String = text
        .trim()
        .chars()
        .take(longest)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    one_line.trim_end().to_owned()
}
