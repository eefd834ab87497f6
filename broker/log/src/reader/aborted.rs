//! Which transactions of a range were aborted.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use tracing::warn;

use super::AbortedTransaction;
use crate::aborted::{Aborted, Span};
use crate::error::ReadError;
use crate::files::Wait;
use crate::log::replay;
use crate::producers::{Producers, Step};
use crate::shared::{Shared, segment_at};

/// Producers without an open transaction that are kept while the log is read: none of them matters.
const IDLE_PRODUCERS_MAX: usize = 1_000;

/// As a consumer is told.
pub(super) fn told(
    shared: &Shared,
    span: Span,
    wait: Wait,
) -> Result<Vec<AbortedTransaction>, ReadError> {
    let told = |aborted: Aborted| AbortedTransaction {
        producer_id: aborted.id,
        first_offset: aborted.first,
    };
    let found = aborted_within(shared, span, wait)?;
    Ok(found.into_iter().map(told).collect())
}

/// In the order of their first offsets.
pub(crate) fn aborted_within(
    shared: &Shared,
    span: Span,
    wait: Wait,
) -> Result<Vec<Aborted>, ReadError> {
    let mut found = Vec::new();
    if span.from < span.to {
        match from_indexes(shared, span, wait, &mut found) {
            Err(ReadError::Io { path, source }) if source.kind() == ErrorKind::InvalidData => {
                if wait == Wait::No {
                    return Err(ReadError::WouldBlock);
                }
                warn!(path = %path.display(), "an entry of an aborted transaction is not whole; reading the log instead");
                found.clear();
                from_log(shared, span, &mut found)?;
            }
            other => other?,
        }
    }
    found.sort_by_key(|aborted| (aborted.first, aborted.marker));
    Ok(found)
}

fn from_indexes(
    shared: &Shared,
    span: Span,
    wait: Wait,
    found: &mut Vec<Aborted>,
) -> Result<(), ReadError> {
    let segments = shared.segments();
    for segment in &segments[segment_at(&segments, span.from)..] {
        let is_done = segment.with_aborted(&shared.dir, &shared.path, |aborted, place| {
            aborted.collect(place, wait, span, found)
        })?;
        if is_done {
            break;
        }
    }
    Ok(())
}

/// The same from the batches themselves: a look at every header.
fn from_log(shared: &Shared, span: Span, found: &mut Vec<Aborted>) -> Result<(), ReadError> {
    let segments = shared.segments();
    let Some(first) = segments.first() else {
        return Ok(());
    };
    let mut producers = Producers::default();
    replay(shared, first.base..shared.log_end(), |_, arriving| {
        let remembered = producers.remember(arriving, 0);
        producers.trim(IDLE_PRODUCERS_MAX);
        let Some(Step::Ended(ended)) = remembered.and_then(|remembered| remembered.step) else {
            return ControlFlow::Continue(());
        };
        let aborted = Aborted::from(ended);
        if !ended.is_commit && span.meets(&aborted) {
            found.push(aborted);
        }
        if ended.marker >= span.from && span.is_decided_by(&aborted) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
}
