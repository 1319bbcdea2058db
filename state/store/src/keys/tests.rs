use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const PLACE: &[&[u8]] = &[b"log", b"core/secrets/a"];

fn keys() -> (tempfile::TempDir, PathBuf, Keys) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.key");
    let keys = Keys::open(&path).unwrap();
    (folder, path, keys)
}

#[test]
fn a_first_start_makes_a_private_file_with_one_key_and_the_next_one_reads_it() {
    let (folder, path, keys) = keys();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(keys.ids(), [keys.newest()]);
    let again = Keys::open(&path).unwrap();
    assert_eq!(again.ids(), keys.ids());
    let (id, sealed) = keys.seal(PLACE, b"hello").unwrap();
    assert_eq!(again.open_sealed(id, PLACE, sealed).unwrap(), b"hello");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside the file"
    );
}

#[test]
fn a_missing_file_is_made_by_open_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.key");
    assert!(matches!(Keys::load(&path), Err(KeyError::File { what: "read", .. })));
    assert!(!path.exists());
}

#[test]
fn those_who_make_the_file_at_the_same_time_agree_on_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.key");
    let ids: Vec<KeyId> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Keys::open(&path).unwrap().newest()))
            .collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn debug_shows_no_key() {
    let (_folder, _, keys) = keys();
    assert_eq!(
        format!("{keys:?}"),
        format!("Keys {{ ids: [\"{}\"], .. }}", keys.newest())
    );
}

#[test]
fn a_file_that_others_may_read_is_refused_with_what_to_do() {
    let (_folder, path, _) = keys();
    for mode in [0o640, 0o604, 0o620, 0o700, 0o4600] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Keys::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())),
            "{mode:o}: {error}"
        );
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    Keys::open(&path).unwrap();
}

#[test]
fn a_damaged_line_is_named_and_never_shown() {
    let (_folder, path, keys) = keys();
    let good = keys.to_text();
    let line = good.lines().last().unwrap();
    let (id, key) = line.split_once(' ').unwrap();
    let number = good.lines().count() + 1;
    for bad in [
        "what is this".to_string(),
        id.to_string(),
        format!("00000000 {key}"),
        format!("123 {key}"),
        format!("+1234567 {key}"),
        format!("12345678 {}", &key[4..]),
        format!("12345678 {key}AAAA"),
        line.to_string(),
    ] {
        std::fs::write(&path, format!("{good}{bad}\n")).unwrap();
        let error = Keys::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:{number}: ", path.display())), "{error}");
        assert!(!error.contains(&key[4..]), "{error}");
    }
}

#[test]
fn a_file_that_is_none_is_refused() {
    let (folder, path, _) = keys();
    for bad in [
        Vec::new(),
        b"# nothing\n".to_vec(),
        vec![0xff; 10],
        vec![b'#'; 65 << 10],
    ] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(Keys::open(&path), Err(KeyError::Unusable { .. })));
    }
    assert!(matches!(Keys::open(folder.path()), Err(KeyError::Unusable { .. })));
}

#[test]
fn numbers_of_keys_are_read_back_from_text_and_columns() {
    let (_folder, _, keys) = keys();
    let id = keys.newest();
    assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
    assert_eq!(KeyId::from_i64(id.as_i64()).unwrap(), Some(id));
    assert_eq!(KeyId::from_i64(0).unwrap(), None);
    assert!(KeyId::from_i64(-1).is_err());
    assert!(KeyId::from_i64(1 << 32).is_err());
    assert!(KeyId::new(0).is_none());
}

#[test]
fn what_is_sealed_opens_and_shows_nothing() {
    let (_folder, _, keys) = keys();
    for plain in [Vec::new(), b"x".to_vec(), b"password".repeat(100), vec![0; 1 << 20]] {
        let (id, sealed) = keys.seal(PLACE, &plain).unwrap();
        assert_eq!(sealed.len(), plain.len() + 28);
        assert!(!sealed.windows(8).any(|window| window == b"password"));
        let (_, other) = keys.seal(PLACE, &plain).unwrap();
        assert_ne!(sealed, other, "each has a nonce of its own");
        assert_eq!(keys.open_sealed(id, PLACE, sealed).unwrap(), plain);
    }
}

#[test]
fn a_sealed_value_with_any_byte_changed_or_cut_does_not_open() {
    let (_folder, _, keys) = keys();
    let (id, sealed) = keys.seal(PLACE, b"some plain bytes").unwrap();
    for index in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[index] ^= 1;
        assert!(matches!(
            keys.open_sealed(id, PLACE, bad),
            Err(KeyError::Damaged { .. })
        ));
        assert!(matches!(
            keys.open_sealed(id, PLACE, sealed[..index].to_vec()),
            Err(KeyError::Damaged { .. })
        ));
    }
    let mut longer = sealed.clone();
    longer.push(0);
    assert!(keys.open_sealed(id, PLACE, longer).is_err());
}

#[test]
fn a_sealed_value_opens_at_no_other_place() {
    let (_folder, _, keys) = keys();
    let (id, sealed) = keys.seal(&[b"ab", b"c"], b"plain").unwrap();
    let others: [&[&[u8]]; 6] = [
        &[],
        &[b"abc"],
        &[b"a", b"bc"],
        &[b"ab", b"c", b""],
        &[b"", b"ab", b"c"],
        &[b"c", b"ab"],
    ];
    for place in others {
        assert!(matches!(
            keys.open_sealed(id, place, sealed.clone()),
            Err(KeyError::Damaged { .. })
        ));
    }
    keys.open_sealed(id, &[b"ab", b"c"], sealed).unwrap();
}

#[test]
fn a_key_that_is_not_held_is_named() {
    let (_folder, path, keys) = keys();
    let (_other, _, others) = self::keys();
    let (id, sealed) = others.seal(PLACE, b"plain").unwrap();
    let error = keys.open_sealed(id, PLACE, sealed).unwrap_err();
    assert!(matches!(error, KeyError::Missing { id: missing, .. } if missing == id));
    let error = error.to_string();
    assert!(
        error.contains(&id.to_string()) && error.contains(&path.display().to_string()),
        "{error}"
    );
}

#[test]
fn a_rotation_seals_with_a_new_key_and_still_opens_with_the_old_one() {
    let (_folder, path, keys) = keys();
    let (old, sealed) = keys.seal(PLACE, b"old").unwrap();
    let clone = keys.clone();
    let new = keys.rotate().unwrap();
    assert_ne!(old, new);
    assert_eq!(clone.newest(), new, "clones see it");
    assert_eq!(keys.ids(), [old, new]);
    assert_eq!(keys.seal(PLACE, b"new").unwrap().0, new);
    assert_eq!(keys.open_sealed(old, PLACE, sealed.clone()).unwrap(), b"old");
    let reopened = Keys::open(&path).unwrap();
    assert_eq!(reopened.ids(), [old, new]);
    assert_eq!(reopened.open_sealed(old, PLACE, sealed).unwrap(), b"old");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn another_process_takes_up_a_rotation_by_reload() {
    let (_folder, path, keys) = keys();
    let other = Keys::open(&path).unwrap();
    let new = keys.rotate().unwrap();
    assert!(!other.has(new));
    other.reload().unwrap();
    assert_eq!(other.newest(), new);
    assert_eq!(other.ids(), keys.ids());
}

#[test]
fn rotations_of_two_processes_lose_no_key() {
    let (_folder, path, keys) = keys();
    let first = keys.newest();
    // Each has read the file before the other one has changed it.
    let other = Keys::open(&path).unwrap();
    let second = keys.rotate().unwrap();
    let third = other.rotate().unwrap();
    assert_eq!(Keys::open(&path).unwrap().ids(), [first, second, third]);
    assert_eq!(other.ids(), [first, second, third]);
}

#[test]
fn a_rotation_while_another_process_changes_the_file_changes_nothing() {
    let (_folder, path, keys) = keys();
    let held = file::lock(&path).unwrap();
    assert!(matches!(keys.rotate(), Err(KeyError::File { what: "lock", .. })));
    assert_eq!(keys.ids().len(), 1);
    drop(held);
    keys.rotate().unwrap();
}

#[test]
fn a_key_that_is_held_is_never_dropped() {
    let (_folder, path, keys) = keys();
    let first = keys.newest();
    std::fs::remove_file(&path).unwrap();
    let fresh = Keys::open(&path).unwrap().newest();
    keys.reload().unwrap();
    assert_eq!(keys.ids(), [first, fresh]);
    let newest = keys.rotate().unwrap();
    assert_eq!(Keys::open(&path).unwrap().ids(), [first, fresh, newest]);
}

#[test]
fn a_damaged_file_leaves_the_keys_that_are_held_in_use() {
    let (_folder, path, keys) = keys();
    std::fs::write(&path, "damaged\n").unwrap();
    assert!(keys.reload().is_err());
    assert!(keys.rotate().is_err());
    let (id, sealed) = keys.seal(PLACE, b"plain").unwrap();
    keys.open_sealed(id, PLACE, sealed).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "damaged\n");
}

#[test]
fn one_number_for_two_keys_is_a_conflict() {
    let (_folder, path, keys) = keys();
    let (_other, _, others) = self::keys();
    let stolen = others
        .to_text()
        .replace(&others.newest().to_string(), &keys.newest().to_string());
    std::fs::write(&path, &stolen).unwrap();
    assert!(matches!(keys.reload(), Err(KeyError::Conflict { .. })));
}

#[test]
fn adopted_keys_are_older_ones() {
    let (_folder, path, keys) = keys();
    let carried = Keys::from_text(&self::keys().2.to_text(), "the backup").unwrap();
    let newest = keys.newest();
    let (id, sealed) = carried.seal(PLACE, b"plain").unwrap();
    keys.adopt(&carried).unwrap();
    keys.adopt(&carried).unwrap();
    let read = Keys::open(&path).unwrap();
    assert_eq!(read.ids(), [carried.newest(), newest]);
    assert_eq!(read.open_sealed(id, PLACE, sealed).unwrap(), b"plain");
    assert!(carried.rotate().is_err());
}

#[test]
fn keys_are_saved_to_a_new_file_only() {
    let (folder, path, keys) = keys();
    assert!(keys.save(&path).is_err());
    let saved = keys.save(&folder.path().join("other.key")).unwrap();
    assert_eq!(saved.ids(), keys.ids());
    saved.rotate().unwrap();
}

fn stream(keys: &Keys, plain: &[u8]) -> (KeyId, Vec<u8>) {
    let mut writer = keys.seal_stream(PLACE, Vec::new()).unwrap();
    // In odd pieces, so that chunks are cut across them.
    for piece in plain.chunks(10_007) {
        writer.write_all(piece).unwrap();
    }
    (writer.key(), writer.finish().unwrap())
}

fn read(keys: &Keys, id: KeyId, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut plain = Vec::new();
    keys.open_stream(id, PLACE, sealed)?
        .read_to_end(&mut plain)
        .map_err(|error| {
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
            *error.into_inner().unwrap().downcast().unwrap()
        })?;
    Ok(plain)
}

const CHUNK: usize = 64 << 10;
const SEALED: usize = CHUNK + 16;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 + index % 251) as u8).collect()
}

#[test]
fn a_stream_of_any_length_comes_back() {
    let (_folder, _, keys) = keys();
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
        let plain = bytes(length);
        let (id, sealed) = stream(&keys, &plain);
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(sealed.len(), 32 + length + 16 * chunks);
        assert_eq!(read(&keys, id, &sealed).unwrap(), plain);
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_does_not_come_to_its_end() {
    let (_folder, _, keys) = keys();
    let (id, sealed) = stream(&keys, &bytes(3 * CHUNK));
    for chunks in 1..3 {
        let cut = &sealed[..32 + chunks * SEALED];
        assert!(matches!(read(&keys, id, cut), Err(KeyError::Truncated { .. })));
    }
    for length in [
        0,
        5,
        31,
        32,
        33,
        47,
        48,
        100,
        32 + SEALED - 1,
        32 + SEALED + 1,
        sealed.len() - 1,
    ] {
        assert!(read(&keys, id, &sealed[..length]).is_err(), "{length}");
    }
    let mut longer = sealed.clone();
    longer.push(0);
    assert!(read(&keys, id, &longer).is_err());
}

#[test]
fn chunks_that_are_changed_swapped_left_out_or_from_another_stream_do_not_open() {
    let (_folder, _, keys) = keys();
    let (id, sealed) = stream(&keys, &bytes(3 * CHUNK + 9));
    let (_, other) = stream(&keys, &bytes(3 * CHUNK + 9));
    let chunk = |index: usize| 32 + index * SEALED..32 + (index + 1) * SEALED;
    let mut swapped = sealed.clone();
    swapped[chunk(0)].copy_from_slice(&sealed[chunk(1)]);
    swapped[chunk(1)].copy_from_slice(&sealed[chunk(0)]);
    let mut short = sealed.clone();
    short.drain(chunk(1));
    let mut foreign = sealed.clone();
    foreign[chunk(1)].copy_from_slice(&other[chunk(1)]);
    for bad in [&swapped, &short, &foreign] {
        assert!(matches!(read(&keys, id, bad), Err(KeyError::Damaged { .. })));
    }
    let (_, small) = stream(&keys, b"a small stream");
    for index in 0..small.len() {
        let mut bad = small.clone();
        bad[index] ^= 0x80;
        assert!(read(&keys, id, &bad).is_err(), "byte {index}");
    }
}

#[test]
fn a_reader_that_was_refused_a_chunk_never_reports_an_end() {
    let (_folder, _, keys) = keys();
    let (id, mut sealed) = stream(&keys, &bytes(2 * CHUNK));
    sealed[32] ^= 1;
    let mut reader = keys.open_stream(id, PLACE, &sealed[..]).unwrap();
    let mut buffer = [0; 100];
    for _ in 0..3 {
        assert!(reader.read(&mut buffer).is_err());
    }
}

#[test]
fn a_stream_opens_at_its_place_and_with_its_key_only() {
    let (_folder, _, keys) = keys();
    let (id, sealed) = stream(&keys, b"plain");
    keys.rotate().unwrap();
    assert_eq!(read(&keys, id, &sealed).unwrap(), b"plain");
    let mut plain = Vec::new();
    let mut elsewhere = keys.open_stream(id, &[b"elsewhere"], &sealed[..]).unwrap();
    assert!(elsewhere.read_to_end(&mut plain).is_err());
    assert!(read(&keys, keys.newest(), &sealed).is_err());
    assert!(matches!(
        read(&self::keys().2, id, &sealed),
        Err(KeyError::Missing { .. })
    ));
}

#[test]
fn a_writer_that_is_dropped_leaves_no_whole_stream() {
    let (_folder, _, keys) = keys();
    let mut into = Vec::new();
    let mut writer = keys.seal_stream(PLACE, &mut into).unwrap();
    writer.write_all(&bytes(2 * CHUNK + 1)).unwrap();
    drop(writer);
    assert!(read(&keys, keys.newest(), &into).is_err());
}
