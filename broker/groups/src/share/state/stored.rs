//! The records of `__share_group_state`, in Kafka's own format.

use weir_wire::encode::EncodeError;
use weir_wire::message::MessageView;
use weir_wire::messages::{
    ShareSnapshotKey, ShareSnapshotKeyView, ShareSnapshotValue, ShareSnapshotValueView,
    ShareUpdateKey, ShareUpdateKeyView, ShareUpdateValue, ShareUpdateValueView,
    share_snapshot_value, share_update_value,
};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use weir_queues::priority::Level;

use super::levels::{LevelChange, LevelPart};
use super::{Changes, State, StateKey};
use crate::share::overlay::{DeliveryState, Overlay, StateBatch};
use crate::stored::{StoredError, StoredRecord, prefixed, split};

/// Keys and values have had one version each.
const VERSION: i16 = 0;
/// The kinds of records of one level: as a snapshot's and an update's, with a byte behind the key that says the level. Kafka has no such kinds, and
/// passes over what it does not know.
const LEVEL_SNAPSHOT: i16 = 1_000;
const LEVEL_UPDATE: i16 = 1_001;

/// A record of the log, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Snapshot(StateKey, Option<State>),
    Update(StateKey, Option<Update>),
    /// Of one level of a state.
    Level(StateKey, Level, LevelChange),
    /// A kind that is not known here.
    Other,
}

/// What an update says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    /// It is on top of the snapshot with this epoch.
    pub(super) snapshot_epoch: i32,
    pub(super) changes: Changes,
}

impl Stored {
    pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, StoredError> {
        let (kind, key) = split(key)?;
        if kind == ShareSnapshotKey::RECORD_KIND {
            let key = ShareSnapshotKeyView::decode(key, VERSION)?;
            let key = state_key(key.group_id, key.topic_id, key.partition);
            return Ok(Self::Snapshot(key, value.map(decode_snapshot).transpose()?));
        }
        if kind == ShareUpdateKey::RECORD_KIND {
            let key = ShareUpdateKeyView::decode(key, VERSION)?;
            let key = state_key(key.group_id, key.topic_id, key.partition);
            return Ok(Self::Update(key, value.map(decode_update).transpose()?));
        }
        if matches!(kind, LEVEL_SNAPSHOT | LEVEL_UPDATE)
            && let Some((level, key)) = key.split_last()
            && let Some(level) = Level::new(*level)
        {
            let key = ShareSnapshotKeyView::decode(key, VERSION)?;
            let key = state_key(key.group_id, key.topic_id, key.partition);
            let change = match value {
                None => LevelChange::End,
                Some(value) if kind == LEVEL_SNAPSHOT => {
                    let state = decode_snapshot(value)?;
                    let part = LevelPart {
                        start: state.start,
                        batches: state.batches,
                    };
                    LevelChange::Begin(state.snapshot_epoch, part)
                }
                Some(value) => {
                    let Update {
                        snapshot_epoch,
                        changes,
                    } = decode_update(value)?;
                    LevelChange::Go(snapshot_epoch, changes.start, changes.batches)
                }
            };
            return Ok(Self::Level(key, level, change));
        }
        Ok(Self::Other)
    }
}

fn state_key(group: &str, topic: uuid::Uuid, partition: i32) -> StateKey {
    StateKey {
        group: group.into(),
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}

fn decode_snapshot(value: &[u8]) -> Result<State, StoredError> {
    let (version, value) = split(value)?;
    let value = ShareSnapshotValueView::decode(value, version)?;
    let batches = value.state_batches.iter().filter_map(|batch| {
        state_batch(
            (batch.first_offset, batch.last_offset),
            batch.delivery_state,
            batch.delivery_count,
        )
    });
    Ok(State {
        snapshot_epoch: value.snapshot_epoch,
        state_epoch: value.state_epoch,
        leader_epoch: LeaderEpoch(value.leader_epoch),
        start: Offset(value.start_offset),
        complete_count: value.delivery_complete_count,
        batches: batches.collect(),
        levels: None,
        created_ms: value.create_timestamp,
        updates: 0,
    })
}

fn decode_update(value: &[u8]) -> Result<Update, StoredError> {
    let (version, value) = split(value)?;
    let value = ShareUpdateValueView::decode(value, version)?;
    let batches = value.state_batches.iter().filter_map(|batch| {
        state_batch(
            (batch.first_offset, batch.last_offset),
            batch.delivery_state,
            batch.delivery_count,
        )
    });
    Ok(Update {
        snapshot_epoch: value.snapshot_epoch,
        changes: Changes {
            leader_epoch: LeaderEpoch(value.leader_epoch),
            start: Offset(value.start_offset),
            complete_count: value.delivery_complete_count,
            batches: batches.collect(),
        },
    })
}

/// One that says what nobody stores is passed over: its records are handed out again.
fn state_batch((first, last): (i64, i64), state: i8, deliveries: i16) -> Option<StateBatch> {
    Some(StateBatch {
        first: Offset(first),
        last: Offset(last),
        state: DeliveryState::from_id(state)?,
        deliveries,
    })
}

/// The whole state.
pub(super) fn snapshot(
    key: &StateKey,
    state: &State,
    now_ms: i64,
) -> Result<StoredRecord, EncodeError> {
    let value = ShareSnapshotValue {
        snapshot_epoch: state.snapshot_epoch,
        state_epoch: state.state_epoch,
        leader_epoch: state.leader_epoch.0,
        start_offset: state.start.0,
        delivery_complete_count: state.complete_count,
        create_timestamp: state.created_ms,
        write_timestamp: now_ms,
        state_batches: snapshot_batches(&state.batches),
    };
    Ok(StoredRecord {
        key: snapshot_key(key)?,
        value: Some(prefixed(VERSION, &value, VERSION)?),
    })
}

/// What has changed since the snapshot.
pub(super) fn update(
    key: &StateKey,
    snapshot_epoch: i32,
    changes: &Changes,
) -> Result<StoredRecord, EncodeError> {
    let batches = batches(&changes.batches);
    let value = ShareUpdateValue {
        snapshot_epoch,
        leader_epoch: changes.leader_epoch.0,
        start_offset: changes.start.0,
        delivery_complete_count: changes.complete_count,
        state_batches: batches,
    };
    let key = ShareUpdateKey {
        group_id: key.group.to_string(),
        topic_id: key.topic.0,
        partition: key.partition.0,
    };
    Ok(StoredRecord {
        key: prefixed(ShareUpdateKey::RECORD_KIND, &key, VERSION)?,
        value: Some(prefixed(VERSION, &value, VERSION)?),
    })
}

/// All of one level.
pub(super) fn level_snapshot(
    key: &StateKey,
    level: Level,
    state: &State,
    part: &LevelPart,
    now_ms: i64,
) -> Result<StoredRecord, EncodeError> {
    let value = ShareSnapshotValue {
        snapshot_epoch: state.snapshot_epoch,
        state_epoch: state.state_epoch,
        leader_epoch: state.leader_epoch.0,
        start_offset: part.start.0,
        delivery_complete_count: -1,
        create_timestamp: state.created_ms,
        write_timestamp: now_ms,
        state_batches: snapshot_batches(&part.batches),
    };
    Ok(StoredRecord {
        key: level_key(LEVEL_SNAPSHOT, key, level)?,
        value: Some(prefixed(VERSION, &value, VERSION)?),
    })
}

/// What has changed of one level since the snapshot.
pub(super) fn level_update(
    key: &StateKey,
    level: Level,
    state: &State,
    (start, changed): (Offset, &Overlay),
) -> Result<StoredRecord, EncodeError> {
    let value = ShareUpdateValue {
        snapshot_epoch: state.snapshot_epoch,
        leader_epoch: state.leader_epoch.0,
        start_offset: start.0,
        delivery_complete_count: -1,
        state_batches: batches(changed),
    };
    Ok(StoredRecord {
        key: level_key(LEVEL_UPDATE, key, level)?,
        value: Some(prefixed(VERSION, &value, VERSION)?),
    })
}

/// The level is no more.
pub(super) fn level_tombstone(key: &StateKey, level: Level) -> Result<StoredRecord, EncodeError> {
    Ok(StoredRecord {
        key: level_key(LEVEL_SNAPSHOT, key, level)?,
        value: None,
    })
}

fn level_key(kind: i16, key: &StateKey, level: Level) -> Result<bytes::Bytes, EncodeError> {
    let key = ShareSnapshotKey {
        group_id: key.group.to_string(),
        topic_id: key.topic.0,
        partition: key.partition.0,
    };
    let mut bytes = prefixed(kind, &key, VERSION)?.to_vec();
    bytes.push(level.number());
    Ok(bytes.into())
}

/// The state is no more.
pub(super) fn tombstone(key: &StateKey) -> Result<StoredRecord, EncodeError> {
    Ok(StoredRecord {
        key: snapshot_key(key)?,
        value: None,
    })
}

fn batches(overlay: &Overlay) -> Vec<share_update_value::StateBatch> {
    let batches = overlay
        .batches()
        .map(|batch| share_update_value::StateBatch {
            first_offset: batch.first.0,
            last_offset: batch.last.0,
            delivery_state: batch.state.id(),
            delivery_count: batch.deliveries,
        });
    batches.collect()
}

fn snapshot_batches(overlay: &Overlay) -> Vec<share_snapshot_value::StateBatch> {
    let batches = overlay
        .batches()
        .map(|batch| share_snapshot_value::StateBatch {
            first_offset: batch.first.0,
            last_offset: batch.last.0,
            delivery_state: batch.state.id(),
            delivery_count: batch.deliveries,
        });
    batches.collect()
}

fn snapshot_key(key: &StateKey) -> Result<bytes::Bytes, EncodeError> {
    let key = ShareSnapshotKey {
        group_id: key.group.to_string(),
        topic_id: key.topic.0,
        partition: key.partition.0,
    };
    prefixed(ShareSnapshotKey::RECORD_KIND, &key, VERSION)
}
