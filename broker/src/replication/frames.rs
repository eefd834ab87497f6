//! What leaders and followers say to each other, as bytes.
//!
//! A frame is a length of four bytes, a kind of one, and the rest; all numbers are big-endian. A stream is opened by the leader's
//! broker and begins with [`ToFollower::Hello`] and [`ToLeader::Welcome`]; after that each side speaks when it has something to say. A channel is
//! one partition in one epoch of its leader; [`ToFollower::Begin`] opens it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;
use weir_log::PartitionKey;
use weir_wire::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

/// The version of all this. A broker of another one is refused; what both know is added when there is a second.
pub(super) const VERSION: u16 = 1;

/// The largest frame: the largest batch there may be, with room to spare for what comes before it.
pub(super) const FRAME_BYTES_MAX: usize = (100 << 20) + 1024;

/// Epochs that are told of a log at most: the newest. A log with more has had as many leaders.
pub(super) const EPOCHS_MAX: usize = 100_000;

/// A partition on a stream, and how often its channel was begun: what is said of an earlier beginning is told from what is said of
/// this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Channel {
    /// Number of the partition, as long as its leader leads in one epoch.
    pub(super) feed: u32,
    /// Counts beginnings.
    pub(super) turn: u32,
}

/// What a leader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToFollower {
    Hello {
        cluster: String,
        from: BrokerId,
        to: BrokerId,
    },
    /// A partition is to be fed.
    Begin(Begin),
    /// Whole batches, the next of the leader's log.
    Batches {
        channel: Channel,
        at: Position,
        batches: Bytes,
    },
    /// The leader's log is there.
    Mark {
        channel: Channel,
        at: Position,
    },
    /// The channel is over.
    End(Channel),
    Ping,
}

/// Where the leader's log begins, and its high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) high_watermark: Offset,
    pub(super) log_start: Offset,
}

/// A partition is to be fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) channel: Channel,
    pub(super) key: PartitionKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) at: Position,
    /// The leader's log, as far as it goes.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(super) end: Offset,
}

/// What a follower says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToLeader {
    Welcome {
        from: BrokerId,
        /// Its registration in this life.
        registration: u64,
    },
    /// Its log is the leader's up to here, and waits for what comes then; also later, when it has got further or begins later.
    Have {
        channel: Channel,
        received: Offset,
        synced: Offset,
        log_start: Offset,
        /// The first time on this channel.
        begins: bool,
    },
    /// It cannot be fed.
    Refused {
        channel: Channel,
        why: String,
        until: Until,
    },
    Pong,
}

/// For how long a follower cannot be fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It may be tried again.
    Later,
    /// Only a new epoch will do.
    NextEpoch,
    /// It has no room for what it is sent: it may be tried again, and nobody should wait for it meanwhile.
    Room,
}

impl Until {
    const fn id(self) -> u8 {
        match self {
            Self::Later => 0,
            Self::NextEpoch => 1,
            Self::Room => 2,
        }
    }

    /// A leader that knows of less takes every other number for the next epoch.
    const fn of(id: u8) -> Self {
        match id {
            0 => Self::Later,
            2 => Self::Room,
            _ => Self::NextEpoch,
        }
    }
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes; allowed: 1 to {FRAME_BYTES_MAX}")]
    Length(usize),
    #[error("a frame of kind {0}, which is not known")]
    Kind(u8),
    #[error("a frame of kind {0} is too short, or too long")]
    Short(u8),
    #[error("version {0} of the replication protocol; this broker speaks {VERSION}")]
    Version(u16),
}

/// Takes the next whole frame out of the buffer.
pub(super) fn split(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, FrameError> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(4 + length).freeze();
    frame.advance(4);
    let kind = frame.get_u8();
    Ok(Some((kind, frame)))
}

/// How many bytes the frame that has begun to arrive is missing, if that is known.
pub(super) fn missing(buffer: &BytesMut) -> usize {
    let length = buffer
        .first_chunk::<4>()
        .map_or(0, |length| u32::from_be_bytes(*length) as usize);
    (4 + length.min(FRAME_BYTES_MAX)).saturating_sub(buffer.len())
}

fn put(out: &mut BytesMut, kind: u8, behind: usize, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    body(out);
    let length = out.len() - at - 4 + behind;
    // Everything that is put is far below four gigabytes.
    out[at..at + 4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_text(out: &mut BytesMut, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text);
}

fn put_channel(out: &mut BytesMut, channel: Channel) {
    out.put_u32(channel.feed);
    out.put_u32(channel.turn);
}

fn put_position(out: &mut BytesMut, at: Position) {
    out.put_i64(at.high_watermark.0);
    out.put_i64(at.log_start.0);
}

/// Appends [`ToFollower::Batches`] but for the batches, so many bytes, which are to follow.
pub(super) fn put_batches(channel: Channel, at: Position, len: usize, out: &mut BytesMut) {
    put(out, 2, len, |out| {
        put_channel(out, channel);
        put_position(out, at);
    });
}

impl ToFollower {
    /// Appends it.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { cluster, from, to } => put(out, 0, 0, |out| {
                out.put_u16(VERSION);
                put_text(out, cluster);
                out.put_i32(from.0);
                out.put_i32(to.0);
            }),
            Self::Begin(begin) => put(out, 1, 0, |out| {
                put_channel(out, begin.channel);
                out.put_u128(begin.key.topic_id.0.as_u128());
                out.put_i32(begin.key.partition.0);
                out.put_i32(begin.epoch.0);
                put_position(out, begin.at);
                out.put_i64(begin.end.0);
                let skipped = begin.epochs.len().saturating_sub(EPOCHS_MAX);
                for (epoch, start) in &begin.epochs[skipped..] {
                    out.put_i32(epoch.0);
                    out.put_i64(start.0);
                }
            }),
            Self::Batches {
                channel,
                at,
                batches,
            } => {
                put_batches(*channel, *at, batches.len(), out);
                out.put_slice(batches);
            }
            Self::Mark { channel, at } => put(out, 3, 0, |out| {
                put_channel(out, *channel);
                put_position(out, *at);
            }),
            Self::End(channel) => put(out, 4, 0, |out| put_channel(out, *channel)),
            Self::Ping => put(out, 5, 0, |_| {}),
        }
    }

    pub(super) fn take(kind: u8, body: Bytes) -> Result<Self, FrameError> {
        whole(kind, body, Self::read)
    }

    fn read(kind: u8, body: &mut Bytes) -> Option<Result<Self, FrameError>> {
        Some(Ok(match kind {
            0 => {
                let version = body.try_get_u16().ok()?;
                if version != VERSION {
                    return Some(Err(FrameError::Version(version)));
                }
                Self::Hello {
                    cluster: text(body)?,
                    from: BrokerId(body.try_get_i32().ok()?),
                    to: BrokerId(body.try_get_i32().ok()?),
                }
            }
            1 => Self::Begin(begin(body)?),
            2 => Self::Batches {
                channel: channel(body)?,
                at: position(body)?,
                batches: std::mem::take(body),
            },
            3 => Self::Mark {
                channel: channel(body)?,
                at: position(body)?,
            },
            4 => Self::End(channel(body)?),
            5 => Self::Ping,
            other => return Some(Err(FrameError::Kind(other))),
        }))
    }
}

impl ToLeader {
    /// Appends it.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome { from, registration } => put(out, 0, 0, |out| {
                out.put_u16(VERSION);
                out.put_i32(from.0);
                out.put_u64(*registration);
            }),
            Self::Have {
                channel,
                received,
                synced,
                log_start,
                begins,
            } => put(out, 1, 0, |out| {
                put_channel(out, *channel);
                out.put_i64(received.0);
                out.put_i64(synced.0);
                out.put_i64(log_start.0);
                out.put_u8(u8::from(*begins));
            }),
            Self::Refused {
                channel,
                why,
                until,
            } => put(out, 2, 0, |out| {
                put_channel(out, *channel);
                out.put_u8(until.id());
                put_text(out, why);
            }),
            Self::Pong => put(out, 3, 0, |_| {}),
        }
    }

    pub(super) fn take(kind: u8, body: Bytes) -> Result<Self, FrameError> {
        whole(kind, body, Self::read)
    }

    fn read(kind: u8, body: &mut Bytes) -> Option<Result<Self, FrameError>> {
        Some(Ok(match kind {
            0 => {
                let version = body.try_get_u16().ok()?;
                if version != VERSION {
                    return Some(Err(FrameError::Version(version)));
                }
                Self::Welcome {
                    from: BrokerId(body.try_get_i32().ok()?),
                    registration: body.try_get_u64().ok()?,
                }
            }
            1 => Self::Have {
                channel: channel(body)?,
                received: Offset(body.try_get_i64().ok()?),
                synced: Offset(body.try_get_i64().ok()?),
                log_start: Offset(body.try_get_i64().ok()?),
                begins: body.try_get_u8().ok()? != 0,
            },
            2 => Self::Refused {
                channel: channel(body)?,
                until: Until::of(body.try_get_u8().ok()?),
                why: text(body)?,
            },
            3 => Self::Pong,
            other => return Some(Err(FrameError::Kind(other))),
        }))
    }
}

/// Nothing may be missing, nor be left.
fn whole<T>(
    kind: u8,
    mut body: Bytes,
    read: impl FnOnce(u8, &mut Bytes) -> Option<Result<T, FrameError>>,
) -> Result<T, FrameError> {
    let frame = read(kind, &mut body).ok_or(FrameError::Short(kind))??;
    if body.is_empty() {
        Ok(frame)
    } else {
        Err(FrameError::Short(kind))
    }
}

fn channel(body: &mut Bytes) -> Option<Channel> {
    Some(Channel {
        feed: body.try_get_u32().ok()?,
        turn: body.try_get_u32().ok()?,
    })
}

fn position(body: &mut Bytes) -> Option<Position> {
    Some(Position {
        high_watermark: Offset(body.try_get_i64().ok()?),
        log_start: Offset(body.try_get_i64().ok()?),
    })
}

fn text(body: &mut Bytes) -> Option<String> {
    let length = usize::from(body.try_get_u16().ok()?);
    if body.len() < length {
        return None;
    }
    String::from_utf8(body.split_to(length).to_vec()).ok()
}

fn begin(body: &mut Bytes) -> Option<Begin> {
    let mut begin = Begin {
        channel: channel(body)?,
        key: PartitionKey {
            topic_id: TopicId(Uuid::from_u128(body.try_get_u128().ok()?)),
            partition: PartitionIndex(body.try_get_i32().ok()?),
        },
        epoch: LeaderEpoch(body.try_get_i32().ok()?),
        at: position(body)?,
        end: Offset(body.try_get_i64().ok()?),
        epochs: Vec::new(),
    };
    if body.len() > EPOCHS_MAX * 12 {
        return None;
    }
    while !body.is_empty() {
        let epoch = LeaderEpoch(body.try_get_i32().ok()?);
        begin.epochs.push((epoch, Offset(body.try_get_i64().ok()?)));
    }
    Some(begin)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(number: i64) -> Position {
        Position {
            high_watermark: Offset(number),
            log_start: Offset(number - 1),
        }
    }

    fn to_follower() -> Vec<ToFollower> {
        let channel = Channel { feed: 7, turn: 2 };
        vec![
            ToFollower::Hello {
                cluster: "c".into(),
                from: BrokerId(1),
                to: BrokerId(2),
            },
            ToFollower::Begin(Begin {
                channel,
                key: PartitionKey {
                    topic_id: TopicId(Uuid::from_u128(99)),
                    partition: PartitionIndex(3),
                },
                epoch: LeaderEpoch(5),
                at: at(40),
                epochs: vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(17))],
                end: Offset(50),
            }),
            ToFollower::Batches {
                channel,
                at: at(3),
                batches: Bytes::from_static(b"batches"),
            },
            ToFollower::Mark { channel, at: at(8) },
            ToFollower::End(channel),
            ToFollower::Ping,
        ]
    }

    fn to_leader() -> Vec<ToLeader> {
        let channel = Channel { feed: 7, turn: 2 };
        vec![
            ToLeader::Welcome {
                from: BrokerId(2),
                registration: 77,
            },
            ToLeader::Have {
                channel,
                received: Offset(9),
                synced: Offset(8),
                log_start: Offset(3),
                begins: true,
            },
            ToLeader::Refused {
                channel,
                why: "the disk is full".into(),
                until: Until::Room,
            },
            ToLeader::Refused {
                channel,
                why: "the epoch is over".into(),
                until: Until::NextEpoch,
            },
            ToLeader::Refused {
                channel,
                why: "the epoch is not known here yet".into(),
                until: Until::Later,
            },
            ToLeader::Pong,
        ]
    }

    /// As it stands on the wire.
    fn bytes(frame: &ToFollower) -> BytesMut {
        let mut out = BytesMut::new();
        frame.put(&mut out);
        out
    }

    #[test]
    fn frames_are_read_as_they_were_written_however_they_arrive() {
        let mut all = BytesMut::new();
        to_follower()
            .iter()
            .for_each(|frame| all.put_slice(&bytes(frame)));
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for byte in all {
            buffer.put_u8(byte);
            while let Some((kind, body)) = split(&mut buffer).unwrap() {
                read.push(ToFollower::take(kind, body).unwrap());
            }
        }
        assert_eq!(read, to_follower());
        for frame in to_leader() {
            let mut out = BytesMut::new();
            frame.put(&mut out);
            let (kind, body) = split(&mut out).unwrap().unwrap();
            assert_eq!(ToLeader::take(kind, body).unwrap(), frame);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_by_name() {
        for length in [0, u32::MAX] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(split(&mut buffer), Err(FrameError::Length(length as usize)));
        }
        assert_eq!(ToFollower::take(9, Bytes::new()), Err(FrameError::Kind(9)));
        assert_eq!(ToLeader::take(9, Bytes::new()), Err(FrameError::Kind(9)));
        let old = Bytes::from_static(&[0, 2]);
        assert_eq!(
            ToFollower::take(0, old.clone()),
            Err(FrameError::Version(2))
        );
        assert_eq!(ToLeader::take(0, old), Err(FrameError::Version(2)));
        for frame in to_follower() {
            let mut whole = bytes(&frame);
            let (kind, body) = split(&mut whole).unwrap().unwrap();
            // A batch more or less, and whole epochs, are not for the frame to judge.
            for cut in 0..body.len() {
                match ToFollower::take(kind, body.slice(..cut)) {
                    Ok(ToFollower::Batches { .. } | ToFollower::Begin(_)) => {}
                    other => assert_eq!(other, Err(FrameError::Short(kind))),
                }
            }
        }
        for frame in to_leader() {
            let mut out = BytesMut::new();
            frame.put(&mut out);
            out.put_u8(0);
            out[3] += 1;
            let (kind, body) = split(&mut out).unwrap().unwrap();
            assert_eq!(ToLeader::take(kind, body), Err(FrameError::Short(kind)));
        }
    }
}
