//! People and programs outside the cluster that were given access: one Secret each.
//!
//! A user is a Secret of type [`SECRET_TYPE`] in `kube-system`, so that it is sealed at rest, part of backups, and known to every
//! part of the server the moment that it is written. Its uid is the user's, and a certificate that is made for the user carries it
//! ([`UID_ATTRIBUTE`], as Kubernetes reads it): such a certificate is good as long as the Secret with this uid is there, whatever
//! its own dates say, and never again once it is gone, also when the name is given out anew. The groups are the Secret's, not the
//! certificate's. Bearer tokens are kept as digests only.
//!
//! Who writes such a Secret makes a user: `Guard` lets only those do it who may be that user and in these groups already, by
//! RBAC's `impersonate`.

mod guard;
mod record;
mod token;

pub(crate) use guard::Guard;
pub use record::{RecordError, User};
pub(crate) use token::user_of;
pub use token::{Token, TokenText};

use crate::cache::Cache;
use crate::request::UserInfo;

/// The type of the Secrets that are users.
pub const SECRET_TYPE: &str = "setpoint.dev/user";
/// The namespace of the Secrets that are users.
pub const NAMESPACE: &str = "kube-system";
/// The attribute of a certificate's subject that holds the user's uid, in dotted form: Kubernetes' own.
pub const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// Where the users are in the cache.
const RESOURCE: &str = "core/secrets";

/// Finds the user of this name as it is kept now, with its uid; `None` when there is none.
pub(crate) fn find(cache: &Cache, name: &str) -> Option<(User, String)> {
    let stored = cache.get(RESOURCE, NAMESPACE, &User::secret_name(name))?;
    if stored.deleting {
        return None;
    }
    // What is there but is no user (somebody else's Secret, or a damaged one) gives nobody access.
    let user = User::from_secret(&stored.value()).ok()?;
    (user.name == name).then(|| (user, stored.uid.to_string()))
}

/// The user as requests see it.
pub(crate) fn info(user: &User, uid: String) -> UserInfo {
    let groups: Vec<&str> = user.groups.iter().map(String::as_str).collect();
    let mut info = UserInfo::new(&user.name, &groups);
    info.uid = uid;
    info
}
