use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn options() -> PkiOptions {
    PkiOptions {
        node_name: "box".to_owned(),
        addresses: vec!["10.96.0.1".parse().expect("an address")],
        names: vec!["api.example.com".to_owned()],
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn what_is_there_is_kept_until_it_nears_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Pki::open(dir.path(), options(), at("2026-01-01T00:00:00Z")).expect("certificates");
    let again = Pki::open(dir.path(), options(), at("2026-08-01T00:00:00Z")).expect("certificates");
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert_eq!(first.serving(), again.serving());
    assert_eq!(&first.admin, &again.admin);
    let mut late = Pki::open(dir.path(), options(), at("2026-09-15T00:00:00Z")).expect("certificates");
    assert_eq!(first.ca_pem(), late.ca_pem());
    assert!(first.serving() != late.serving() && first.admin != late.admin);
    assert!(!late.renew(at("2026-09-16T00:00:00Z")).expect("nothing to do").any());
    let renewed = late.renew(at("2027-06-01T00:00:00Z")).expect("renewed");
    assert!(renewed.serving && renewed.admin && !renewed.authorities);
}

#[test]
fn another_name_makes_another_serving_certificate_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = at("2026-01-01T00:00:00Z");
    let first = Pki::open(dir.path(), options(), now).expect("certificates");
    let mut more = options();
    more.addresses.push("192.0.2.7".parse().expect("an address"));
    let second = Pki::open(dir.path(), more, now).expect("certificates");
    assert!(first.serving() != second.serving());
    assert_eq!(&first.admin, &second.admin);
}

#[test]
fn a_lost_or_foreign_authority_is_told_and_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = at("2026-01-01T00:00:00Z");
    let first = Pki::open(dir.path(), options(), now).expect("certificates");
    let other = tempfile::tempdir().expect("a directory");
    let foreign = Pki::open(other.path(), options(), at("2026-01-02T00:00:00Z")).expect("certificates");
    for file in ["ca.crt", "ca.key"] {
        fs::copy(other.path().join(file), dir.path().join(file)).expect("copied");
    }
    let changed = Pki::open(dir.path(), options(), now).expect("certificates");
    assert_eq!(changed.ca_pem(), foreign.ca_pem());
    assert!(changed.serving() != first.serving() && changed.admin != first.admin);
    fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let lost = Pki::open(dir.path(), options(), now).err().expect("an error");
    assert!(lost.to_string().contains("missing"), "{lost}");
}

#[test]
fn keys_are_readable_for_their_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    Pki::open(dir.path(), options(), at("2026-01-01T00:00:00Z")).expect("certificates");
    for entry in fs::read_dir(dir.path()).expect("a list") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn a_kubeconfig_is_yaml_with_everything_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path(), options(), at("2026-01-01T00:00:00Z")).expect("certificates");
    let text = pki.admin_kubeconfig("https://127.0.0.1:6443");
    let config: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(config["contexts"][0]["context"]["user"], ADMIN);
    let data = config["users"][0]["user"]["client-key-data"].as_str().expect("text");
    assert_eq!(STANDARD.decode(data).expect("base64"), pki.admin.key.as_bytes());
}

/// The names of those who signed the certificates in a text, or of the certificates themselves.
fn names(pem: &str, of: fn(&x509_parser::certificate::X509Certificate<'_>) -> String) -> Vec<String> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .map(|block| of(&block.expect("PEM").parse_x509().expect("a certificate")))
        .collect()
}

fn subjects(pem: &str) -> Vec<String> {
    names(pem, |certificate| certificate.subject().to_string())
}

fn issuers(pem: &str) -> Vec<String> {
    names(pem, |certificate| certificate.issuer().to_string())
}

#[test]
fn through_thirty_years_nobody_is_shown_a_certificate_of_an_authority_that_they_were_not_told_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut now = at("2026-01-01T00:00:00Z");
    let end = at("2056-01-01T00:00:00Z");
    let mut pki = Pki::open(dir.path(), options(), now).expect("certificates");
    // Users with the certificate and the bundle that they were given, and when theirs ends.
    let mut users: Vec<(Identity, String, Timestamp)> = Vec::new();
    let mut authorities = BTreeSet::new();
    let year = SignedDuration::from_hours(24 * 365);
    while now < end {
        // Sometimes it renews while it runs, sometimes by a start.
        if now.as_second() % 3 == 0 {
            pki = Pki::open(dir.path(), options(), now).expect("certificates");
        } else {
            pki.renew(now).expect("renewed");
        }
        let bundle = subjects(&pki.ca_pem());
        let shown = issuers(&pki.serving().certificate);
        users.retain(|(_, _, until)| *until > now);
        for (identity, known, _) in &users {
            assert!(
                subjects(known).contains(&shown[0]),
                "at {now} a user does not know {shown:?}"
            );
            assert!(
                bundle.contains(&issuers(&identity.certificate)[0]),
                "at {now} a user is not known"
            );
        }
        let signer = Signer::open(dir.path()).expect("a signer");
        assert_eq!(signer.ca_pem(), pki.ca_pem());
        let identity = signer.user("ann", &[], "uid", year, now).expect("a certificate");
        users.push((identity, signer.ca_pem(), now + year));
        authorities.extend(shown);
        now += SignedDuration::from_hours(24 * 25 + 1);
    }
    assert!((4..=6).contains(&authorities.len()), "{authorities:?}");
    assert!(subjects(&pki.ca_pem()).len() <= 3);
}

#[test]
fn a_change_of_authorities_that_was_cut_off_is_finished() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Pki::open(dir.path(), options(), at("2026-01-01T00:00:00Z")).expect("certificates");
    let known = Pki::open(dir.path(), options(), at("2033-01-01T00:00:00Z")).expect("certificates");
    assert_eq!(subjects(&known.ca_pem()).len(), 2);
    assert_eq!(issuers(&known.serving().certificate), subjects(&first.ca_pem()));
    // As it is when the key was put in place, and the certificate was not.
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca-old.crt"), first.ca_pem()).expect("written");
    fs::rename(path("ca-next.key"), path("ca.key")).expect("renamed");
    let after = Pki::open(dir.path(), options(), at("2033-01-02T00:00:00Z")).expect("certificates");
    assert_eq!(issuers(&after.serving().certificate)[0], subjects(&known.ca_pem())[1]);
    assert_eq!(
        subjects(&after.ca_pem()).len(),
        2,
        "the old one is trusted until its end"
    );
    // One whose making was cut off is made again.
    fs::write(path("ca-next.key"), "half").expect("written");
    assert!(Pki::open(dir.path(), options(), at("2040-01-01T00:00:00Z")).is_ok());
}
