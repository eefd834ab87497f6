#![allow(clippy::unwrap_used, reason = "tests")]

use weir_log::storage_sim::{Operation, SimStorage, Unsynced};

use super::*;

fn dir() -> &'static Path {
    Path::new("/q")
}

fn disk() -> SimStorage {
    let disk = SimStorage::new();
    files::make_dir(&disk, dir()).unwrap();
    disk
}

fn open(disk: &SimStorage, committed: Option<u64>) -> Result<LogFile, LogOpenError> {
    LogFile::open(Arc::new(disk.clone()), dir(), committed)
}

fn payloads(range: Range<u64>) -> Vec<Vec<u8>> {
    range
        .map(|index| format!("{{\"entry {index}\"}}").into_bytes())
        .collect()
}

fn contents(log: &LogFile) -> Vec<Vec<u8>> {
    let reader = log.reader();
    reader.read(reader.bounds(), usize::MAX).unwrap()
}

fn flip(disk: &SimStorage, at: u64) {
    let file = disk.open(&dir().join(NAME), OpenMode::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_all_vectored_at(&[IoSlice::new(&[byte[0] ^ 0x10])], at)
        .unwrap();
    file.sync_data().unwrap();
}

fn len(disk: &SimStorage) -> u64 {
    disk.open(&dir().join(NAME), OpenMode::Read)
        .unwrap()
        .len()
        .unwrap()
}

#[test]
fn what_was_appended_survives_a_power_cut() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..3)).unwrap();
    log.append(3, &payloads(3..5)).unwrap();
    let log = open(&disk.power_cut(Unsynced::Lost), Some(4)).unwrap();
    assert_eq!(contents(&log), payloads(0..5));
}

#[test]
fn an_append_that_was_torn_by_a_power_cut_is_cut_off() {
    for seed in 0..200 {
        let disk = disk();
        let mut log = open(&disk, None).unwrap();
        log.append(0, &payloads(0..3)).unwrap();
        // The write happens, its sync does not.
        disk.fail_next(Operation::Sync, "log", 1);
        let many: Vec<Vec<u8>> = (3..40).map(|_| vec![7; 300]).collect();
        log.append(3, &many).unwrap_err();
        let disk = disk.power_cut(Unsynced::Mixed(seed));
        let mut log = open(&disk, Some(2)).unwrap();
        let kept = contents(&log);
        assert_eq!(kept[..3], payloads(0..3), "seed {seed}");
        assert!(
            kept[3..].iter().all(|payload| *payload == many[0]),
            "seed {seed}"
        );
        let next = kept.len() as u64;
        log.append(next, &payloads(next..next + 1)).unwrap();
        let log = open(&disk.power_cut(Unsynced::Lost), Some(next)).unwrap();
        assert_eq!(contents(&log).len(), kept.len() + 1, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_reported() {
    for at in 0..40 {
        for seed in 0..8 {
            let disk = disk();
            let mut reported = 0;
            let mut purged = 0;
            disk.die_after(at);
            let _ = (|| {
                let mut log = open(&disk, None).map_err(|_| ())?;
                for round in 0..3 {
                    log.append(reported, &payloads(reported..reported + 2))
                        .map_err(|_| ())?;
                    reported += 2;
                    if round == 1 {
                        log.truncate(reported).map_err(|_| ())?;
                        purged = 1;
                        log.purge(1, b"head").map_err(|_| ())?;
                    }
                }
                Ok::<(), ()>(())
            })();
            let disk = disk.power_cut(Unsynced::Mixed(seed));
            let log =
                open(&disk, None).unwrap_or_else(|error| panic!("at {at}, seed {seed}: {error}"));
            let bounds = log.reader().bounds();
            assert!(
                bounds.start <= purged && bounds.end >= reported,
                "at {at}, seed {seed}: {bounds:?}, {reported}"
            );
            let kept = contents(&log);
            assert_eq!(kept, payloads(bounds.clone()), "at {at}, seed {seed}");
        }
    }
}

#[test]
fn a_truncation_is_durable_before_the_next_append() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..5)).unwrap();
    log.truncate(2).unwrap();
    let after = open(&disk.clone().power_cut(Unsynced::Lost), None).unwrap();
    assert_eq!(contents(&after), payloads(0..2));
}

#[test]
fn entries_that_were_cut_off_do_not_come_back_after_others_took_their_place() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..5)).unwrap();
    log.truncate(2).unwrap();
    log.append(2, &[b"other".to_vec()]).unwrap();
    let log = open(&disk.power_cut(Unsynced::Lost), Some(2)).unwrap();
    assert_eq!(contents(&log)[2], b"other");
    assert_eq!(contents(&log).len(), 3);
}

#[test]
fn a_flipped_bit_in_the_middle_is_an_error_and_cuts_nothing() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    for index in 0..4 {
        log.append(index, &payloads(index..index + 1)).unwrap();
    }
    let before = len(&disk);
    for at in 0..before - (HEADER_LEN as u64 + 11) {
        flip(&disk, at);
        let error = open(&disk, None).unwrap_err();
        assert!(error.to_string().contains("damaged"), "byte {at}: {error}");
        assert_eq!(len(&disk), before);
        flip(&disk, at);
    }
    assert_eq!(contents(&open(&disk, None).unwrap()), payloads(0..4));
}

#[test]
fn a_flipped_bit_in_the_last_entry_is_an_error_when_it_is_known_to_be_committed() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..2)).unwrap();
    flip(&disk, len(&disk) - 1);
    assert!(matches!(
        open(&disk, Some(1)),
        Err(LogOpenError::Damaged { index: 1, .. })
    ));
    // Not known: it may as well have been torn.
    assert_eq!(contents(&open(&disk, Some(0)).unwrap()), payloads(0..1));
}

#[test]
fn purging_keeps_the_rest_and_what_was_before() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..10)).unwrap();
    let reader = log.reader();
    log.purge(4, b"upto 3").unwrap();
    log.append(10, &payloads(10..11)).unwrap();
    assert_eq!(reader.bounds(), 4..11, "readers follow");
    let log = open(&disk.power_cut(Unsynced::Lost), Some(10)).unwrap();
    assert_eq!(
        (log.reader().head(), contents(&log)),
        (b"upto 3".to_vec(), payloads(4..11))
    );
}

#[test]
fn purging_beyond_the_end_leaves_an_empty_log_that_begins_there() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..3)).unwrap();
    log.purge(100, b"upto 99").unwrap();
    log.append(100, &payloads(100..102)).unwrap();
    assert_eq!(open(&disk, None).unwrap().reader().bounds(), 100..102);
}

#[test]
fn nothing_is_written_after_a_sync_that_failed() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    disk.fail_next(Operation::Sync, "log", 1);
    assert!(log.append(0, &payloads(0..1)).is_err());
    assert!(
        log.append(0, &payloads(0..1)).is_err(),
        "the page cache would pretend that all is well"
    );
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_believed_to_be_on_disk() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &payloads(0..2)).unwrap();
    disk.fail_next(Operation::Sync, "log", 1);
    assert!(log.append(2, &payloads(2..3)).is_err());
    // The process ends; the next finds the entry in the cache, goes on behind it, and then the power goes.
    let disk = disk.process_killed();
    let mut log = open(&disk, None).unwrap();
    let next = log.reader().bounds().end;
    log.append(next, &payloads(next..next + 1)).unwrap();
    let found = open(&disk.power_cut(Unsynced::Lost), None).unwrap();
    assert_eq!(contents(&found), payloads(0..next + 1));
}

#[test]
fn reads_are_bounded_in_bytes_and_return_at_least_one_entry() {
    let disk = disk();
    let mut log = open(&disk, None).unwrap();
    log.append(0, &[vec![1; 100], vec![2; 100], vec![3; 100]])
        .unwrap();
    assert_eq!(log.reader().read(0..3, 1).unwrap().len(), 1);
    assert_eq!(log.reader().read(0..3, 250).unwrap().len(), 2);
    assert_eq!(log.reader().read(5..9, 250).unwrap().len(), 0);
}
