//! What a client certificate says of its holder, once TLS has verified it.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::request::UserInfo;
use crate::users::UID_ATTRIBUTE;

/// The extra field that names the credential behind a request.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The holder of a certificate, as the certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The common name, with the organizations as groups; `uid` is empty where the certificate names none.
    pub user: UserInfo,
    /// The certificate's end: a connection may outlive it, a request may not.
    pub expires: Timestamp,
}

impl Holder {
    /// Reads a certificate that was verified; `None` when it names no user.
    pub(crate) fn read(der: &[u8]) -> Option<Holder> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok())
            .collect();
        if name.is_empty() {
            return None;
        }
        let mut user = UserInfo::new(name, &groups);
        let uid = subject
            .iter_attributes()
            .find(|attribute| attribute.attr_type().to_id_string() == UID_ATTRIBUTE);
        if let Some(uid) = uid {
            // One that cannot be read is no reason to go without: then it is nobody's.
            user.uid = uid.as_str().ok().filter(|uid| !uid.is_empty())?.to_owned();
        }
        let digest: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        user.extra
            .insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")]);
        Some(Holder {
            user,
            expires: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?,
        })
    }
}
