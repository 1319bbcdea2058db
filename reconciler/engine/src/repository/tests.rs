use super::*;

fn app(owner: Option<(&str, &str)>, repository: Option<&str>) -> App {
    let spec = AppSpec {
        repository: repository.map(str::to_owned),
        ..AppSpec::default()
    };
    let mut app = App::new("web", spec);
    app.metadata.owner_references = owner.map(|(name, uid)| {
        vec![OwnerReference {
            api_version: Repository::api_version(&()).into_owned(),
            kind: Repository::kind(&()).into_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]
    });
    app
}

fn repository(uid: &str, url: &str) -> Repository {
    let spec = crate::api::RepositorySpec {
        url: url.to_owned(),
        ..Default::default()
    };
    let mut repository = Repository::new("fleet", spec);
    repository.metadata.uid = Some(uid.to_owned());
    repository
}

#[test]
fn a_repository_that_was_made_again_has_its_apps_back() {
    let fleet = Name::new("setpoint-system", "fleet");
    let of_the_former = app(Some(("fleet", "1")), Some("fleet"));
    assert!(is_ours(&of_the_former, &fleet));
    assert!(!owned(&of_the_former, "2"), "its owner is written anew");
    assert!(owned(&app(Some(("fleet", "2")), Some("fleet")), "2"));
    assert!(is_ours(&app(None, Some("fleet")), &fleet), "its owner was lost");
    assert!(!is_ours(&app(None, None), &fleet));
    assert!(!is_ours(&app(Some(("other", "3")), Some("fleet")), &fleet));
}

#[test]
fn what_another_repository_of_the_name_declared_does_not_count() {
    let declared = Declared {
        uid: "1".to_owned(),
        url: "/srv/fleet".to_owned(),
        ..Declared::default()
    };
    assert!(declared.is_of(&repository("1", "/srv/fleet")));
    assert!(!declared.is_of(&repository("2", "/srv/fleet")));
    assert!(!declared.is_of(&repository("1", "/srv/other")));
    assert!(
        Declared::default().is_of(&repository("2", "/srv/fleet")),
        "older records do not say"
    );
}

#[test]
fn what_may_pass_in_one_of_two_places_is_tried_again_soon() {
    let wrong = |reason: &str, after| RepositoryError::Wrong {
        reason: reason.to_owned(),
        after,
    };
    let both = wrong("no branch", NET).and(wrong("no watch", INTERVAL));
    assert!(matches!(both, RepositoryError::Wrong { reason, after: INTERVAL } if reason == "no branch; no watch"));
    let passing = wrong("no branch", NET).and(
        RecordsError {
            operation: "written",
            source: "the disk is full".into(),
        }
        .into(),
    );
    assert!(matches!(passing, RepositoryError::Passing(reason) if reason.contains("the disk is full")));
}

#[test]
fn a_repository_in_the_place_of_another_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet");
    git2::Repository::init(&path).unwrap();
    let before = Place::of(&path).unwrap();
    assert!(before == Place::of(&path).unwrap());
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    git2::Repository::init(&path).unwrap();
    let after = Place::of(&path).unwrap();
    assert!(before.paths == after.paths && before != after);
}
