//! Makes batches of a view from what was fetched of its source.

use std::sync::Arc;

use bytes::Bytes;
use weir_queues::filter::Filter;
use weir_wire::batch::{
    BatchBuilder, BatchError, BatchHeader, Compression, NewHeader, NewRecord, RecordView,
    RewriteError, only_batch,
};
use weir_wire::messages::fetch_response::PartitionDataView;

use super::word::builder;
use crate::gateway::committed;

/// Headers of a message that the filter is shown, as for share groups; a message with more is judged by its first.
const HEADERS_MAX: usize = 256;
/// What a record takes beside key, value and headers, at most.
const RECORD_BYTES: usize = 40;

/// What is taken, and how it is packed.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) filter: Arc<Filter>,
    /// Records without a key are left out, which a compacted topic cannot have.
    pub(super) needs_keys: bool,
    /// Bytes of one batch, uncompressed; a record that is longer has one for itself.
    pub(super) bytes_max: usize,
    /// The view's own codec and its level; `None`: as the source's batches are.
    pub(super) codec: Option<(Compression, Option<i32>)>,
}

/// A batch for the view.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) batch: Bytes,
    /// The first offset of the source that is neither in it nor was passed over.
    pub(super) next: i64,
    pub(super) timestamp_ms: i64,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) parts: Vec<Part>,
    /// Where to read on.
    pub(super) next: i64,
    /// The greatest timestamp of what was looked at; -1: of nothing.
    pub(super) timestamp_ms: i64,
    /// Where what is committed of the source ended.
    pub(super) source_end: i64,
}

impl Rules {
    /// Takes what a fetch has from `from` on.
    pub(super) fn build(
        &self,
        data: &PartitionDataView<'_>,
        from: i64,
    ) -> Result<Built, RewriteError> {
        let mut packing = Packing {
            rules: self,
            open: builder(),
            codec: Compression::None,
            timestamp_ms: -1,
            parts: Vec::new(),
        };
        let mut latest = -1;
        let next = committed(data, from, |header, record| {
            latest = latest.max(record.timestamp_ms);
            let has_key = record.key.is_some() || !self.needs_keys;
            if has_key && self.filter.matches_record(record, HEADERS_MAX) {
                packing.push(header, record)?;
            }
            Ok::<_, RewriteError>(())
        })?;
        packing.close(next)?;
        Ok(Built {
            parts: packing.parts,
            next,
            timestamp_ms: latest,
            source_end: data.last_stable_offset,
        })
    }
}

struct Packing<'r> {
    rules: &'r Rules,
    open: BatchBuilder,
    /// Of the first batch of which something is in the open one.
    codec: Compression,
    timestamp_ms: i64,
    parts: Vec<Part>,
}

impl Packing<'_> {
    fn push(&mut self, header: &BatchHeader, record: &RecordView<'_>) -> Result<(), RewriteError> {
        let headers = record.headers.iter().map(|header| NewHeader {
            key: header.key,
            value: header.value,
        });
        let headers: Vec<_> = headers.collect();
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let of_headers = headers
            .iter()
            .map(|header| header.key.len() + length(header.value) + 10);
        let more =
            RECORD_BYTES + length(record.key) + length(record.value) + of_headers.sum::<usize>();
        if self.open.len() + more > self.rules.bytes_max {
            self.close(record.offset.0)?;
        }
        let new = NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: &headers,
        };
        match self.open.push(&new) {
            // Times that lie too far apart for one batch.
            Err(BatchError::TooLarge { .. }) if !self.open.is_empty() => {
                self.close(record.offset.0)?;
                self.open.push(&new)?;
            }
            pushed => pushed?,
        }
        if self.open.record_count() == 1 {
            self.codec = header.attributes.compression();
            self.timestamp_ms = record.timestamp_ms;
        }
        self.timestamp_ms = self.timestamp_ms.max(record.timestamp_ms);
        Ok(())
    }

    /// Closes the open batch, if it has anything; everything before `next` was looked at.
    fn close(&mut self, next: i64) -> Result<(), RewriteError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.open, builder()).build();
        let (codec, level) = self.rules.codec.unwrap_or((self.codec, None));
        let batch = match codec {
            Compression::None => batch,
            codec => {
                let inflated = only_batch(&batch)?.inflated()?;
                inflated.recompress(codec, level)?
            }
        };
        self.parts.push(Part {
            batch,
            next,
            timestamp_ms: self.timestamp_ms,
        });
        Ok(())
    }
}
