//! What a plan has to know about its app.

use crate::ignore::Ignore;

/// How an app's objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The field manager that applies.
    pub manager: String,
    /// Who the app is: `<namespace>/<app>`, as the annotation `setpoint.dev/owner` says it.
    pub owner: String,
    /// The fields that are left to others.
    pub ignore: Vec<Ignore>,
    /// Whether objects that git no longer has are deleted.
    pub prune: bool,
}
