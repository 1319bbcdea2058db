//! What takes no worker; the rest is in `tests/images`.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lock_that_another_process_does_not_let_go_of_is_named_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let held = names::lock(folder.path()).await.unwrap();
    let error = names::lock(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("references.lock"), "{error}");
    assert_eq!(error.class(), ImageErrorClass::Transient);
    drop(held);
    names::lock(folder.path()).await.unwrap();
}
