//! The bytes: what a view's log says of how far its source was looked at.

use bytes::{BufMut, Bytes, BytesMut};
use weir_quorum::TopicId;
use weir_wire::batch::{
    Attributes, BatchBuilder, BatchError, BatchHeader, BatchView, NewRecord, Rewrite, RewriteError,
};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Whose batches those of a view are: no client's.
pub const COPIER: ProducerId = ProducerId(i64::MAX - 1);

/// The key of a word: version 0, and a kind that nobody else has. Clients pass over kinds that they do not know.
const KEY: [u8; 4] = [0, 0, b'W', b'V'];
/// Of the value.
const VERSION: u8 = 1;

/// How far a source was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The source. A topic of the same name that is made anew is another.
    pub(super) source: TopicId,
    /// The epoch of the source's leader that was asked: nobody who leads in an earlier one knows as much.
    pub(super) epoch: LeaderEpoch,
    /// The first offset that was not looked at.
    pub(super) next: Offset,
}

impl Word {
    /// The word, and behind it the batch that it speaks of. Both are appended or none.
    ///
    /// # Errors
    /// Never: both are small.
    pub(super) fn before(
        &self,
        timestamp_ms: i64,
        batch: Option<Bytes>,
    ) -> Result<Bytes, RewriteError> {
        let batch = match batch {
            Some(batch) => batch,
            None => empty(timestamp_ms)?,
        };
        let mut value = vec![VERSION];
        value.extend_from_slice(self.source.0.as_bytes());
        value.extend_from_slice(&self.epoch.0.to_be_bytes());
        value.extend_from_slice(&self.next.0.to_be_bytes());
        let mut builder = BatchBuilder::new().attributes(Attributes::default().with_control(true));
        builder.push(&NewRecord {
            timestamp_ms,
            key: Some(&KEY),
            value: Some(&value),
            headers: &[],
        })?;
        let word = builder.build();
        let mut both = BytesMut::with_capacity(word.len() + batch.len());
        both.put(word);
        both.put(batch);
        Ok(both.freeze())
    }

    /// What a batch says, if it is a word.
    pub(super) fn of(batch: &BatchView<'_>) -> Result<Option<Self>, BatchError> {
        let header = batch.header();
        if !header.attributes.is_control() || header.producer_id != ProducerId::NONE {
            return Ok(None);
        }
        let Some(record) = batch.records()?.next().transpose()? else {
            return Ok(None);
        };
        let value = record.value.filter(|_| record.key == Some(KEY.as_slice()));
        Ok(value.and_then(Self::decode))
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let next = rest.first_chunk::<8>()?;
        (*version == VERSION).then(|| Self {
            source: TopicId(uuid::Uuid::from_bytes(*source)),
            epoch: LeaderEpoch(i32::from_be_bytes(*epoch)),
            next: Offset(i64::from_be_bytes(*next)),
        })
    }
}

/// Whether a batch that lies behind a word is the one that the word speaks of, or what compaction has left of it.
pub(super) fn is_spoken_of(header: &BatchHeader) -> bool {
    let is_filler = header.record_count == 0 && header.producer_id == ProducerId::NONE;
    !header.attributes.is_control() && (header.producer_id == COPIER || is_filler)
}

/// A batch of the copier's, to be filled.
pub(super) fn builder() -> BatchBuilder {
    BatchBuilder::new().producer(COPIER, ProducerEpoch(0), -1)
}

/// A batch of the copier's without a record.
fn empty(timestamp_ms: i64) -> Result<Bytes, RewriteError> {
    let mut builder = builder();
    builder.push(&NewRecord {
        timestamp_ms,
        ..NewRecord::default()
    })?;
    let header = BatchHeader::parse(&builder.build())?;
    Rewrite::of(&header, None).build()
}
