use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use super::*;

const DAY: i64 = 24 * 3600;

fn tokens(dir: &Path, at: &Arc<AtomicI64>) -> Tokens {
    let at = Arc::clone(at);
    let now: Now = Arc::new(move || Timestamp::from_second(at.load(Ordering::SeqCst)).expect("a time in range"));
    Tokens::open(dir, now).expect("a key")
}

fn named(name: &str, uid: &str) -> Named {
    Named {
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn sign_until(tokens: &Tokens, audiences: &[&str], pod: Option<&Named>, end: i64) -> String {
    let audiences: Vec<String> = audiences.iter().map(|&audience| audience.to_owned()).collect();
    let request = TokenRequest {
        namespace: "default",
        account: &named("robot", "u-1"),
        audiences: &audiences,
        expires: Timestamp::from_second(end).expect("a time"),
        pod,
        secret: None,
        node: None,
    };
    tokens.sign(&request).expect("a token")
}

fn sign(tokens: &Tokens, audiences: &[&str], pod: Option<&Named>) -> String {
    sign_until(tokens, audiences, pod, 2_000)
}

#[test]
fn a_token_is_good_until_it_expires_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(AtomicI64::new(1_000));
    let pod = named("p", "u-2");
    let token = sign(&tokens(dir.path(), &clock), &[ISSUER], Some(&pod));
    let again = tokens(dir.path(), &clock);
    let claims = again.verify(&token, &[]).expect("a good token");
    assert_eq!(
        (claims.namespace.as_str(), &claims.account),
        ("default", &named("robot", "u-1"))
    );
    assert_eq!(claims.pod, Some(pod));
    clock.store(2_000, Ordering::SeqCst);
    assert_eq!(again.verify(&token, &[]), Err(TokenError::Expired));
}

#[test]
fn a_token_for_others_or_with_a_changed_byte_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(AtomicI64::new(1_000));
    let tokens = tokens(dir.path(), &clock);
    let vault = vec!["vault".to_owned()];
    let token = sign(&tokens, &["vault"], None);
    assert!(matches!(tokens.verify(&token, &[]), Err(TokenError::Audience { .. })));
    assert_eq!(tokens.verify(&token, &vault).expect("good").audiences, vault);
    let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"x"}"#);
    let parts: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
    assert_eq!(tokens.verify(&forged, &vault), Err(TokenError::Invalid));
    assert_eq!(tokens.verify("", &[]), Err(TokenError::Invalid));
    assert_eq!(tokens.verify("a.b.c", &[]), Err(TokenError::Invalid));
}

#[test]
fn a_token_that_is_kept_in_a_secret_has_no_end_and_is_for_the_api_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(AtomicI64::new(1_000));
    let tokens = tokens(dir.path(), &clock);
    let token = tokens
        .sign_for_secret("default", &named("robot", "u-1"), "robot-token")
        .expect("a token");
    clock.store(400 * 365 * DAY / 4, Ordering::SeqCst);
    let claims = tokens.verify(&token, &[]).expect("a good token");
    assert!(claims.in_secret);
    assert_eq!(claims.secret.expect("a Secret").name, "robot-token");
    let vault = ["vault".to_owned()];
    assert!(matches!(
        tokens.verify(&token, &vault),
        Err(TokenError::Audience { .. })
    ));
}

#[test]
fn a_new_key_is_published_before_it_signs_and_the_old_one_is_accepted_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = 1_767_225_600;
    let clock = Arc::new(AtomicI64::new(start));
    let tokens = tokens(dir.path(), &clock);
    let end = start + 800 * DAY;
    let first = sign_until(&tokens, &[ISSUER], None, end);
    let keys = |tokens: &Tokens| tokens.key_set()["keys"].as_array().expect("keys").clone();
    assert!(!tokens.renew().expect("nothing to do"));
    clock.store(start + 366 * DAY, Ordering::SeqCst);
    assert!(tokens.renew().expect("made"));
    let published = keys(&tokens);
    assert_eq!(published.len(), 2);
    let kid = |token: &str| decode_json(token.split('.').next().expect("a header")).expect("JSON")["kid"].clone();
    assert_eq!(kid(&sign_until(&tokens, &[ISSUER], None, end)), kid(&first));
    assert!(!tokens.renew().expect("nothing to do"));
    clock.store(start + 374 * DAY, Ordering::SeqCst);
    assert!(tokens.renew().expect("taken"));
    let second = sign_until(&tokens, &[ISSUER], None, end);
    assert_eq!(kid(&second), published[1]["kid"]);
    // Also after a restart: both are published, both are good.
    let again = self::tokens(dir.path(), &clock);
    assert_eq!(keys(&again).len(), 2);
    assert!(again.verify(&first, &[]).is_ok() && again.verify(&second, &[]).is_ok());
    assert!(!again.renew().expect("nothing to do"));
}

#[test]
fn the_key_is_readable_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(AtomicI64::new(0));
    let tokens = tokens(dir.path(), &clock);
    let mode = fs::metadata(dir.path().join("service-account.key"))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(tokens.key_set()["keys"][0]["crv"], "P-256");
}
