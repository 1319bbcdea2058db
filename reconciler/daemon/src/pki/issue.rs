//! The authority: it signs, and tells whether a certificate is still one of its good ones.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use setpoint_server::users::UID_ATTRIBUTE;

use super::{AUTHORITY_LIFE, Identity, PkiError, files};

/// Clocks differ: a certificate holds from a little before it is made.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// A certificate authority of the installation.
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    since: Timestamp,
    until: Timestamp,
}

impl Authority {
    /// Reads an authority; `None` where neither its certificate nor its key is there.
    pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Authority>, PkiError> {
        let bad = |reason: &str| PkiError::Authority {
            path: dir.to_owned(),
            reason: reason.to_owned(),
        };
        match files::read(dir, name)? {
            Some(identity) => Authority::of(identity).map(Some).map_err(|reason| bad(&reason)),
            None if files::any(dir, name) => Err(bad("its certificate or its key is missing")),
            None => Ok(None),
        }
    }

    /// Makes an authority and writes it.
    pub(super) fn make(dir: &Path, name: &str, now: Timestamp) -> Result<Authority, PkiError> {
        let identity = make(now).map_err(|source| PkiError::Issue {
            what: "authority's".to_owned(),
            source,
        })?;
        files::write(dir, name, &identity)?;
        Authority::of(identity).map_err(|reason| PkiError::Authority {
            path: dir.to_owned(),
            reason,
        })
    }

    fn of(identity: Identity) -> Result<Authority, String> {
        let key = KeyPair::from_pem(&identity.key).map_err(|error| error.to_string())?;
        let public_key = key.public_key_raw().to_vec();
        let own = read(&identity.certificate, |certificate| {
            *certificate.public_key().subject_public_key.data == *public_key
        });
        match own {
            None => return Err("its certificate cannot be read".to_owned()),
            Some(false) => return Err("its key is not its certificate's".to_owned()),
            Some(true) => {}
        }
        let (since, until) = validity(&identity.certificate).ok_or("its certificate has no dates")?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate, key).map_err(|error| error.to_string())?;
        Ok(Authority {
            certificate: identity.certificate,
            issuer,
            since,
            until,
        })
    }

    /// When it was made.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// When it ends.
    pub(super) fn until(&self) -> Timestamp {
        self.until
    }

    /// The certificate as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a certificate for a server.
    pub(super) fn server(
        &self,
        name: &str,
        names: &BTreeSet<String>,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let names: Vec<String> = names.iter().cloned().collect();
        self.issue("serving", life, now, || {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            Ok(params)
        })
    }

    /// Makes a certificate for a user, whose groups are its organizations; `uid` ties it to a user that is kept.
    pub(super) fn client(
        &self,
        user: &str,
        groups: &[&str],
        uid: Option<&str>,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        self.issue(user, life, now, || {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, user);
            for group in groups {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
            if let Some(uid) = uid {
                let attribute = UID_ATTRIBUTE.split('.').filter_map(|part| part.parse().ok()).collect();
                params.distinguished_name.push(DnType::CustomDnType(attribute), uid);
            }
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
            Ok(params)
        })
    }

    fn issue(
        &self,
        what: &str,
        life: SignedDuration,
        now: Timestamp,
        params: impl FnOnce() -> Result<CertificateParams, rcgen::Error>,
    ) -> Result<Identity, PkiError> {
        let make = || -> Result<Identity, rcgen::Error> {
            let mut params = params()?;
            // Nobody trusts what outlives its authority.
            hold(&mut params, life.min(self.until.duration_since(now)), now);
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok(Identity {
                certificate: certificate.pem(),
                key: key.serialize_pem(),
            })
        };
        make().map_err(|source| PkiError::Issue {
            what: what.to_owned(),
            source,
        })
    }

    /// Whether a pair belongs together, comes from this authority, is for these names, and has more than a third of its life left.
    pub(super) fn fits(&self, identity: &Identity, names: &BTreeSet<String>, now: Timestamp) -> bool {
        let Ok(key) = KeyPair::from_pem(&identity.key) else {
            return false;
        };
        // The authority's name carries the time of its making: another authority has another.
        let Some(authority) = read(&self.certificate, |certificate| certificate.subject().to_string()) else {
            return false;
        };
        read(&identity.certificate, |certificate| {
            certificate.issuer().to_string() == authority
                && *certificate.public_key().subject_public_key.data == *key.public_key_raw()
                && names.is_subset(&subject_names(certificate))
        })
        .unwrap_or(false)
            && validity(&identity.certificate).is_some_and(|(since, until)| !is_near_end(since, until, now))
    }
}

/// Whether less than a third is left of a life.
pub(super) fn is_near_end(since: Timestamp, until: Timestamp, now: Timestamp) -> bool {
    until.duration_since(now) < until.duration_since(since) / 3
}

/// From when until when a PEM certificate holds.
pub(super) fn validity(pem: &str) -> Option<(Timestamp, Timestamp)> {
    let (since, until) = read(pem, |certificate| {
        let validity = certificate.validity();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    })?;
    Some((Timestamp::from_second(since).ok()?, Timestamp::from_second(until).ok()?))
}

fn make(now: Timestamp) -> Result<Identity, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("setpoint-ca@{}", now.as_nanosecond()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    hold(&mut params, AUTHORITY_LIFE, now);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Sets from when until when a certificate holds.
fn hold(params: &mut CertificateParams, life: SignedDuration, now: Timestamp) {
    let seconds = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(now - BACKDATE);
    params.not_after = epoch + seconds(now + life);
}

/// Reads something from a PEM certificate; `None` when it is none.
fn read<T>(pem: &str, with: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(with(&certificate))
}

fn subject_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            },
            _ => None,
        })
        .collect()
}
