//! The simulated disk against a naive model, what its power cuts may and may not take, and the contract that it shares with
//! the operating system's files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::storage_os::OsStorage;

fn write(file: &dyn File, bytes: &[u8], at: u64) {
    file.write_all_vectored_at(&[IoSlice::new(bytes)], at)
        .unwrap();
}

fn contents(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    let file = storage.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

/// What every storage does.
fn contract(storage: &dyn Storage, root: &Path) {
    let dir = root.join("a/b");
    storage.create_dir_all(&dir).unwrap();
    storage.create_dir_all(&dir).unwrap();
    let path = dir.join("file");
    assert_eq!(
        storage.open(&path, OpenMode::Read).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        storage.open(&path, OpenMode::Write).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let file = storage.open(&path, OpenMode::Create).unwrap();
    assert!(file.is_empty().unwrap());

    let many: Vec<[u8; 3]> = (0..2_500_u32)
        .map(|n| [n as u8, (n >> 8) as u8, 7])
        .collect();
    let slices: Vec<_> = many.iter().map(|bytes| IoSlice::new(bytes)).collect();
    file.write_all_vectored_at(&slices, 10).unwrap();
    file.write_all_vectored_at(&[], 5).unwrap();
    file.write_all_vectored_at(
        &[IoSlice::new(b""), IoSlice::new(b"xy"), IoSlice::new(b"")],
        1,
    )
    .unwrap();
    assert_eq!(file.len().unwrap(), 7_510);
    let all = contents(storage, &path);
    assert_eq!(&all[..10], b"\0xy\0\0\0\0\0\0\0");
    assert_eq!(all[10..], many.concat()[..]);

    let mut short = [9; 8];
    assert_eq!(file.read_at(&mut short, 7_505).unwrap(), 5);
    assert_eq!(file.read_at(&mut short, 8_000).unwrap(), 0);
    match file.try_read_at(&mut short, 10) {
        Ok(read) => assert_eq!(short[..read], many.concat()[..read]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    file.set_len(4).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(contents(storage, &path), b"\0xy\0\0\0");
    file.sync_data().unwrap();

    let other = dir.join("other");
    storage.open(&other, OpenMode::Create).unwrap();
    assert_eq!(storage.list(&dir).unwrap(), ["file", "other"]);
    storage.rename(&path, &other).unwrap();
    assert_eq!(storage.list(&dir).unwrap(), ["other"]);
    assert_eq!(contents(storage, &other), b"\0xy\0\0\0");
    write(&*file, b"!", 0);
    assert_eq!(
        contents(storage, &other)[0],
        b'!',
        "an open file goes with its name"
    );
    storage.sync_dir(&dir).unwrap();
    storage.sync_file_system(&dir).unwrap();
    assert!(storage.exists(&other).unwrap() && !storage.exists(&path).unwrap());
    let space = storage.space(&dir).unwrap();
    assert!(space.available_bytes > 0 && space.available_bytes <= space.total_bytes);

    storage.remove_file(&other).unwrap();
    assert_eq!(
        storage.remove_file(&other).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let mut byte = [0];
    assert_eq!(
        file.read_at(&mut byte, 0).unwrap(),
        1,
        "an open file outlives its name"
    );
    storage.rename(&dir, &root.join("c")).unwrap();
    storage
        .open(&root.join("c/left"), OpenMode::Create)
        .unwrap();
    storage.remove_dir_all(&root.join("c")).unwrap();
    assert!(!storage.exists(&root.join("c")).unwrap());
    assert_eq!(
        storage.list(&root.join("c")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    storage.remove_dir_all(&root.join("a")).unwrap();
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    contract(&SimStorage::new(), Path::new("/root"));
}

#[test]
fn the_operating_systems_files_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&OsStorage::new(), dir.path());
    let file = OsStorage::new()
        .open(&dir.path().join("file"), OpenMode::Create)
        .unwrap();
    assert!(file.as_std().is_some());
}

fn disk_with(path: &str, bytes: &[u8]) -> (SimStorage, Arc<dyn File>) {
    let disk = SimStorage::new();
    let file = disk.open(Path::new(path), OpenMode::Create).unwrap();
    write(&*file, bytes, 0);
    (disk, file)
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let (disk, file) = disk_with("/f", b"old");
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    write(&*file, b"new", 0);
    let after = disk.power_cut(Unsynced::Lost);
    assert_eq!(contents(&after, Path::new("/f")), b"old");
    assert!(file.len().is_err(), "the old machine is off");
}

#[test]
fn a_file_without_a_synced_name_is_gone_however_well_it_was_synced() {
    let (disk, file) = disk_with("/f", b"synced");
    file.sync_data().unwrap();
    assert!(
        !disk
            .power_cut(Unsynced::Lost)
            .exists(Path::new("/f"))
            .unwrap()
    );
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    for seed in 0..20 {
        let (disk, file) = disk_with("/from", b"1");
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.rename(Path::new("/from"), Path::new("/to")).unwrap();
        let after = disk.power_cut(Unsynced::Mixed(seed));
        assert_eq!(after.list(Path::new("/")).unwrap().len(), 1);
    }
}

#[test]
fn unsynced_writes_are_torn_at_sectors_and_nowhere_else() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = disk_with("/f", &[1; 2_048]);
        disk.sync_file_system(Path::new("/")).unwrap();
        write(&*file, &[2; 2_048], 0);
        let after = contents(&disk.power_cut(Unsynced::Mixed(seed)), Path::new("/f"));
        for sector in after.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
        }
        seen.insert(after);
    }
    assert!(seen.len() > 4, "whole, none, and several kinds of torn");
}

#[test]
fn after_a_failed_sync_the_pages_count_as_clean_and_are_lost() {
    let (disk, file) = disk_with("/f", b"x");
    disk.sync_file_system(Path::new("/")).unwrap();
    write(&*file, b"y", 0);
    disk.fail_next(Operation::Sync, "/f", 1);
    assert!(file.sync_data().is_err());
    assert_eq!(
        contents(&disk, Path::new("/f")),
        b"y",
        "the cache shows it still"
    );
    file.sync_data().unwrap();
    let after = disk.power_cut(Unsynced::Kept);
    assert_eq!(
        contents(&after, Path::new("/f")),
        b"x",
        "though the second sync said yes"
    );
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, file) = disk_with("/f", b"12");
    disk.set_capacity(5);
    let error = file
        .write_all_vectored_at(&[IoSlice::new(b"3456")], 2)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(contents(&disk, Path::new("/f")), b"12345");
    file.set_len(2).unwrap();
    assert_eq!(disk.space(Path::new("/")).unwrap().available_bytes, 3);
    write(&*file, b"345", 2);
}

#[test]
fn a_cold_page_is_not_waited_for() {
    let (disk, file) = disk_with("/f", b"12");
    disk.evict_page_cache();
    let mut bytes = [0; 2];
    assert_eq!(
        file.try_read_at(&mut bytes, 0).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(file.try_read_at(&mut bytes, 0).unwrap(), 2);
}

#[test]
fn a_disk_that_dies_does_its_last_operation_and_no_more() {
    let (disk, file) = disk_with("/f", b"");
    disk.die_after(2);
    write(&*file, b"1", 0);
    assert!(
        file.write_all_vectored_at(&[IoSlice::new(b"2")], 1)
            .is_err()
    );
    assert!(
        file.write_all_vectored_at(&[IoSlice::new(b"3")], 2)
            .is_err()
    );
    assert!(disk.list(Path::new("/")).is_err());
    let after = disk.process_killed();
    assert_eq!(contents(&after, Path::new("/f")), b"12");
}

#[test]
fn a_flipped_bit_is_flipped_for_good() {
    let (disk, _file) = disk_with("/f", b"\0\0");
    disk.sync_file_system(Path::new("/")).unwrap();
    assert!(disk.flip_bit(Path::new("/f"), 9));
    assert!(!disk.flip_bit(Path::new("/f"), 16));
    assert_eq!(
        contents(&disk.power_cut(Unsynced::Lost), Path::new("/f")),
        b"\0\x02"
    );
}

#[derive(Clone, Debug)]
enum Act {
    Write(u8, u64, Vec<u8>),
    SetLen(u8, u64),
    Remove(u8),
    Rename(u8, u8),
    Sync(u8),
    SyncDir,
    SyncAll,
}

fn act() -> impl Strategy<Value = Act> {
    let file = 0_u8..4;
    prop_oneof![
        4 => (file.clone(), 0_u64..1_500, prop::collection::vec(1_u8..=255, 1..1_500))
            .prop_map(|(file, at, bytes)| Act::Write(file, at, bytes)),
        1 => (file.clone(), 0_u64..2_000).prop_map(|(file, len)| Act::SetLen(file, len)),
        1 => file.clone().prop_map(Act::Remove),
        1 => (file.clone(), 0_u8..4).prop_map(|(from, to)| Act::Rename(from, to)),
        2 => file.prop_map(Act::Sync),
        1 => Just(Act::SyncDir),
        1 => Just(Act::SyncAll),
    ]
}

fn path(file: u8) -> PathBuf {
    PathBuf::from(format!("/{file}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Without a power cut it is a map of names to bytes; with one, what was synced as a whole just before is all there.
    #[test]
    fn the_disk_behaves_as_a_map_of_files(acts in prop::collection::vec(act(), 1..40), seed in any::<u64>()) {
        let disk = SimStorage::new();
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Write(name, at, bytes) => {
                    write(&*disk.open(&path(name), OpenMode::Create).unwrap(), &bytes, at);
                    let file = model.entry(name).or_default();
                    let end = at as usize + bytes.len();
                    file.resize(file.len().max(end), 0);
                    file[at as usize..end].copy_from_slice(&bytes);
                }
                Act::SetLen(name, len) => {
                    disk.open(&path(name), OpenMode::Create).unwrap().set_len(len).unwrap();
                    model.entry(name).or_default().resize(len as usize, 0);
                }
                Act::Remove(name) => {
                    prop_assert_eq!(disk.remove_file(&path(name)).is_ok(), model.remove(&name).is_some());
                }
                Act::Rename(from, to) => {
                    let moved = model.remove(&from);
                    prop_assert_eq!(disk.rename(&path(from), &path(to)).is_ok(), moved.is_some());
                    if let Some(bytes) = moved {
                        model.insert(to, bytes);
                    }
                }
                Act::Sync(name) => {
                    if let Ok(file) = disk.open(&path(name), OpenMode::Write) {
                        file.sync_data().unwrap();
                    }
                }
                Act::SyncDir => disk.sync_dir(Path::new("/")).unwrap(),
                Act::SyncAll => disk.sync_file_system(Path::new("/")).unwrap(),
            }
            let names: Vec<_> = model.keys().map(u8::to_string).collect();
            prop_assert_eq!(disk.list(Path::new("/")).unwrap(), names);
        }
        for (name, bytes) in &model {
            prop_assert_eq!(&contents(&disk, &path(*name)), bytes);
        }
        let used: u64 = model.values().map(|bytes| bytes.len() as u64).sum();
        prop_assert_eq!(disk.space(Path::new("/")).unwrap().total_bytes - disk.space(Path::new("/")).unwrap().available_bytes, used);
        disk.sync_file_system(Path::new("/")).unwrap();
        let after = disk.power_cut(Unsynced::Mixed(seed));
        for (name, bytes) in &model {
            prop_assert_eq!(&contents(&after, &path(*name)), bytes);
        }
    }
}
