//! What may and what must be found in a log after a life.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, PATCHED_LEN};

use crate::testing::replicas::{placed_all, without_records};
use crate::testing::transactions::{marker, transactional, whole};
use crate::testing::{Outcome, Recorder, batch, batch_of, split};
use crate::{AppendError, Appended};

/// What may and what must be in the log.
#[derive(Default)]
pub(super) struct Model {
    /// What may lie at an offset: every batch that was appended there and not durably cut away.
    pub(super) possible: BTreeMap<i64, Vec<Bytes>>,
    /// What must be there, from the log's start on: the greatest end that was reported durable and not asked to be cut.
    pub(super) durable: i64,
    /// The log may begin anywhere up to here.
    pub(super) start_max: i64,
    /// ... and not before this.
    pub(super) start_min: i64,
    pub(super) sequence: i32,
    /// Of whoever leads.
    pub(super) epoch: i32,
    /// Batches whose offsets are not known yet.
    pub(super) sent: Vec<(Bytes, Outcome<Result<Appended, AppendError>>)>,
    /// A leader's batches that went to offsets of their own.
    pub(super) replicated: Vec<Outcome<Result<Offset, AppendError>>>,
    reports: usize,
}

impl Model {
    /// Learns where the sent batches ended up.
    pub(super) fn learn(&mut self, recorder: &Recorder, is_alive: bool) {
        for (batch, outcome) in self.sent.drain(..) {
            match outcome.lock().unwrap().take() {
                Some(Ok(appended)) => {
                    assert!(!appended.duplicate);
                    self.possible
                        .entry(appended.base_offset.0)
                        .or_default()
                        .push(batch.slice(PATCHED_LEN..));
                }
                // Written or not, nobody was told: it may turn up, at an offset that nobody knows.
                Some(Err(_)) | None => {
                    self.possible
                        .entry(i64::MAX)
                        .or_default()
                        .push(batch.slice(PATCHED_LEN..));
                }
            }
        }
        for outcome in self.replicated.drain(..) {
            let outcome = outcome.lock().unwrap().take();
            assert!(matches!(outcome, Some(Ok(_))) || !is_alive, "{outcome:?}");
        }
        if recorder.reports() > self.reports {
            self.reports = recorder.reports();
            self.durable = recorder.durable_end().0;
        }
    }

    /// A leader's batches from `at` on, and where they end: as good as any of the producer's, of a transaction, and without
    /// records.
    pub(super) fn lead(&mut self, at: i64, kind: u64) -> (Bytes, i64) {
        let batches = match kind {
            0 => {
                self.sequence += 2;
                vec![batch_of(5, 0, self.sequence - 2, 2), without_records(3)]
            }
            1 => vec![transactional(101, 0, -1, 2), marker(102, 0, false)],
            _ => vec![marker(101, 0, true), batch(1)],
        };
        let bytes = placed_all(&batches, at, self.epoch);
        let mut end = at;
        for (_, last, body) in split(&bytes) {
            self.possible.entry(end).or_default().push(body);
            end = last.0 + 1;
        }
        (bytes, end)
    }

    /// The sequence after the producer's last batch in the log.
    pub(super) fn next_sequence(&self) -> i32 {
        let batches = self.possible.values().rev().filter_map(|all| all.last());
        let headers = batches.map(|batch| BatchHeader::parse(&whole(batch)).unwrap());
        let mut own = headers.filter(|header| header.producer_id.0 == 5);
        own.next().map_or(0, |header| {
            header.base_sequence + header.last_offset_delta + 1
        })
    }
}
