use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    let again = Pki::open(dir.path(), options(), at("2026-11-01T00:00:00Z")).expect("certificates");
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert_eq!(first.serving(), again.serving());
    assert_eq!(first.admin(), again.admin());
    let mut late = Pki::open(dir.path(), options(), at("2026-12-15T00:00:00Z")).expect("certificates");
    assert_eq!(first.ca_pem(), late.ca_pem());
    assert!(first.serving() != late.serving() && first.admin() != late.admin());
    assert!(!late.renew(at("2026-12-16T00:00:00Z")).expect("nothing to do"));
    assert!(late.renew(at("2027-12-01T00:00:00Z")).expect("renewed"));
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
    assert_eq!(first.admin(), second.admin());
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
    assert!(changed.serving() != first.serving() && changed.admin() != first.admin());
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
    assert_eq!(STANDARD.decode(data).expect("base64"), pki.admin().key.as_bytes());
}
