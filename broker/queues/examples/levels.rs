//! What a new leader does before it hands out a message of a backlog with priorities, and what it keeps of it: a million messages of ten
//! levels in random order, in batches of 100 with 100 bytes of value, read from memory.
//!
//! `cargo run --release -p weir-queues --example levels`

#![allow(clippy::print_stdout, reason = "it reports")]
#![allow(clippy::unwrap_used, reason = "it measures")]

use std::time::Instant;

use weir_queues::priority::{HEADER, Level, Levels};
use weir_wire::Offset;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord, batches};

const BATCHES: i64 = 10_000;
const RECORDS: i64 = 100;

fn main() {
    let mut random = 1_u64;
    let mut digit = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        [b"0123456789"[usize::try_from(random >> 33).unwrap() % 10]]
    };
    let value = [b'x'; 100];
    let log: Vec<_> = (0..BATCHES)
        .map(|_| {
            let mut builder = BatchBuilder::new();
            for _ in 0..RECORDS {
                let digit = digit();
                let headers = [NewHeader {
                    key: HEADER,
                    value: Some(&digit),
                }];
                let record = NewRecord {
                    value: Some(&value),
                    headers: &headers,
                    ..NewRecord::default()
                };
                builder.push(&record).unwrap();
            }
            builder.build()
        })
        .collect();
    let begun = Instant::now();
    let mut levels = Levels::new(Offset(0));
    for batch in &log {
        let batch = batches(batch).next().unwrap().unwrap();
        for record in batch.records().unwrap() {
            let said = record.unwrap().headers.iter().last();
            let level = Level::of_header(said.and_then(|header| header.value));
            levels.push(levels.end(), Some(level));
        }
    }
    let read = begun.elapsed();
    let begun = Instant::now();
    let mut at = Offset(0);
    let mut found = 0;
    let nine = Level::new(9).unwrap();
    while let Some(next) = levels.next(nine, at) {
        found += 1;
        at = Offset(next.0 + 1);
    }
    println!(
        "{} messages read in {read:?}, kept in {} bytes; {found} of level 9 found in {:?}",
        levels.end(),
        levels.memory(),
        begun.elapsed()
    );
}
