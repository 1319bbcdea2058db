//! Why a reconcile did not get through, and what that means for the next try.

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody else wrote first: read again and decide anew.
    Conflict,
    /// It may pass: back off and try again.
    Transient,
    /// It will not pass until the object changes.
    Terminal,
}

/// Why a controller could not do what it decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or did not answer.
    #[error("cannot {operation} {kind} {name}")]
    Api {
        /// A verb phrase.
        operation: &'static str,
        /// The kind, as `pods`.
        kind: String,
        /// `namespace/name`, or the name.
        name: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A request could not even be built.
    #[error("cannot build a request for {kind} {name}")]
    Request {
        /// The kind, as `pods`.
        kind: String,
        /// `namespace/name`, or the name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API did not answer in time.
    #[error("{kind} {name}: no answer within {seconds} s to {operation}")]
    Timeout {
        /// A verb phrase.
        operation: &'static str,
        /// The kind, as `pods`.
        kind: String,
        /// `namespace/name`, or the name.
        name: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A label selector that cannot be evaluated.
    #[error("the selector of {kind} {name} cannot be evaluated: {reason}")]
    Selector {
        /// The kind.
        kind: &'static str,
        /// `namespace/name`.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cluster could not say which kinds it serves.
    #[error("cannot discover the kinds that the cluster serves")]
    Discovery(#[source] Box<kube::Error>),
    /// A metric could not be registered.
    #[error("cannot register the controllers' metrics")]
    Metrics(#[from] prometheus::Error),
    /// A watch ended before it had delivered a first list.
    #[error("the watch of {kind} ended before its first list")]
    WatchEnded {
        /// The kind.
        kind: String,
    },
    /// Something that runs for ever ended; a bug, since nothing waits for it to be started again.
    #[error("the controllers cannot go on: {part} ended")]
    Ended {
        /// What ended.
        part: String,
    },
}

impl Error {
    /// Says what to do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => match (status.code, status.reason.as_str()) {
                    (409, "AlreadyExists") => Class::Conflict,
                    (409, _) => Class::Conflict,
                    (429 | 500..=599, _) => Class::Transient,
                    (404, _) => Class::Conflict,
                    _ => Class::Terminal,
                },
                _ => Class::Transient,
            },
            Error::Timeout { .. } | Error::Discovery(_) | Error::WatchEnded { .. } => Class::Transient,
            Error::Ended { .. } | Error::Request { .. } | Error::Selector { .. } | Error::Metrics(_) => Class::Terminal,
        }
    }

    /// Returns the API's Status where it answered with one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns whether the API said that the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Returns whether the API said that the object is there already.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// Returns whether a precondition or a resource version did not hold.
    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && status.reason != "AlreadyExists")
    }

    /// Returns the message that a person should read: the API's own, where it has one.
    pub fn reason_text(&self) -> String {
        match self.status() {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            _ => {
                let mut text = self.to_string();
                let mut source = std::error::Error::source(self);
                while let Some(cause) = source {
                    text.push_str(": ");
                    text.push_str(&cause.to_string());
                    source = cause.source();
                }
                text
            }
        }
    }
}
