//! Volumes that only an image declares.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use libtest_mimic::Trial;
use setpoint_runtime::images::Image;
use setpoint_runtime::spec::{ContainerSpec, ContainerState, Mount, MountSource};

use crate::trial;
use crate::world::{World, image, script};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("a_volume_of_the_image_begins_with_what_the_image_has_there", filled),
        trial("a_volume_of_the_image_ends_with_its_attempt", ended),
        trial("what_is_no_directory_cannot_be_a_volume", no_directory),
    ]
}

/// The host's root under a layer that has `/srv/data`, with these volumes. The layer is on another file system, because it must not be part of the root.
fn declaring(volumes: &[&str]) -> (tempfile::TempDir, Image) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let layer = folder.path().join("layer");
    let data = layer.join("srv/data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("file"), "content\n").unwrap();
    std::fs::hard_link(data.join("file"), data.join("sub/again")).unwrap();
    symlink("/srv/data/file", data.join("link")).unwrap();
    std::fs::set_permissions(data.join("file"), PermissionsExt::from_mode(0o4640)).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o1750)).unwrap();
    for path in [&data, &data.join("file")] {
        std::os::unix::fs::chown(path, Some(7), Some(8)).unwrap();
    }
    // The owner's change has taken it away.
    std::fs::set_permissions(data.join("file"), PermissionsExt::from_mode(0o4640)).unwrap();
    let mut image = image();
    image.layers.push(layer);
    image.config.volumes = volumes.iter().map(|&path| path.to_owned()).collect();
    (folder, image)
}

async fn run(world: &World, spec: ContainerSpec, image: &Image) -> (ContainerState, String) {
    let started = world.runtime.start_container_with("a", spec, image).await.unwrap();
    let ended = world.ended("a", &started.id()).await;
    (ended, world.log("a", &started).await)
}

async fn filled() {
    let world = World::new().await;
    world.sandbox("a").await;
    let taken = world.folder.join("taken");
    std::fs::create_dir(&taken).unwrap();
    let (folder, image) = declaring(&["/srv/data", "fresh", "/srv/taken"]);
    let text = "stat -c '%a %u %g' /srv/data /srv/data/file /fresh; cat /srv/data/link; \
                stat -c %h /srv/data/sub/again; echo more >> /srv/data/file && cat /srv/data/sub/again; \
                touch /fresh/made /srv/taken/made; touch /no 2>/dev/null || echo ro; \
                grep -c -e ' /srv/data ' -e ' /fresh ' /proc/self/mountinfo";
    let mut spec = script("app", text);
    spec.security.read_only_root = true;
    spec.mounts.push(Mount {
        target: "/srv/taken/".into(),
        source: MountSource::Bind { path: taken.clone() },
        read_only: false,
    });
    let (ended, log) = run(&world, spec, &image).await;
    assert_eq!(log, "1750 7 8\n4640 7 8\n755 0 0\ncontent\n2\ncontent\nmore\nro\n2\n");
    assert_eq!(ended.exit.unwrap().code, 0);
    let [upper, volumes] = world.runtime.written_paths("a", "app", 0);
    let files = |name: &str| {
        let found = std::fs::read_dir(&volumes).unwrap().flatten();
        found.filter(|volume| volume.path().join(name).exists()).count()
    };
    assert_eq!((files("file"), files("made")), (1, 1));
    assert!(
        taken.join("made").exists(),
        "what is mounted there is no volume of the image"
    );
    assert!(!upper.join("srv/data/file").exists());
    // The image's own file is as it was.
    let file = folder.path().join("layer/srv/data/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content\n");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o4640);
    world.finish().await;
}

async fn ended() {
    let world = World::new().await;
    world.sandbox("a").await;
    let (_folder, image) = declaring(&["/srv/data"]);
    let text = "test -e /srv/data/made && echo old; touch /srv/data/made; cat /srv/data/file";
    let (first, log) = run(&world, script("app", text), &image).await;
    assert_eq!(log, "content\n");
    let again = ContainerSpec {
        attempt: 1,
        ..script("app", text)
    };
    assert_eq!(run(&world, again, &image).await.1, "content\n");
    let [_, volumes] = world.runtime.written_paths("a", "app", 0);
    assert!(volumes.join("0/made").exists());
    world.runtime.remove_container("a", &first.id()).await.unwrap();
    assert!(!volumes.exists());
    world.finish().await;
}

async fn no_directory() {
    let world = World::new().await;
    world.sandbox("a").await;
    let (_folder, image) = declaring(&["/srv/data/file"]);
    let refused = world
        .runtime
        .start_container_with("a", script("app", "true"), &image)
        .await;
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("/srv/data/file") && error.contains("not a directory"),
        "{error}"
    );
    world.finish().await;
}
