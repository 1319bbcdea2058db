//! What happens, told to whoever listens: one line each.

use serde::Serialize;

/// Something that happened to an app or a repository.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// What it is about: an app's or a repository's name.
    pub subject: String,
    /// What sort of thing happened.
    pub kind: NoticeKind,
    /// In words.
    pub text: String,
}

/// What sort of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NoticeKind {
    /// A repository has a new commit.
    Commit,
    /// A sync began.
    Begun,
    /// A sync ended well.
    Healthy,
    /// Something failed.
    Failed,
    /// An object was put back.
    Healed,
    /// Objects were deleted.
    Pruned,
}
