//! Fetch sessions (KIP-227): a client says once which partitions it fetches, and after that names only what changes; it is
//! answered with only what changed.
//!
//! Owned here: which sessions there are ([`cache`]) and what is in each ([`session`]), both pure. A session belongs to one
//! request at a time: its lock is held while that request is answered, and a second one waits. Only [`crate::api`]'s Fetch
//! uses this. Everything is in memory: a broker that restarts answers that it does not know the session, and the client
//! begins another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use weir_wire::messages::FetchRequestView;

use crate::error::ErrorCode;
use crate::quorum::Entropy;

mod cache;
mod session;
#[cfg(test)]
mod tests;

use cache::Cache;
pub(crate) use session::{Place, Session};

/// A session's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) i32);

/// The first version that names topics by their ids.
const IDS_FROM: i16 = 13;

/// A request's place in a session, as its epoch says.
pub(crate) const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

/// What a fetch is about.
#[derive(Debug)]
pub(crate) enum Fetching {
    /// What the request names, and nothing else.
    Alone,
    /// What the request names, and it may become a session: it is one that nobody knows yet.
    Begun(Box<Session>),
    /// The partitions of a session, which already has what the request says.
    Going(SessionId, OwnedMutexGuard<Session>),
}

/// The sessions of this broker.
#[derive(Debug)]
pub struct FetchSessions {
    cache: Mutex<Cache<Arc<tokio::sync::Mutex<Session>>>>,
    began: Instant,
}

impl Default for FetchSessions {
    fn default() -> Self {
        Self {
            cache: Mutex::default(),
            began: Instant::now(),
        }
    }
}

/// How many sessions there are, how many partitions they have, and how many had to go for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sessions.
    pub sessions: usize,
    /// Their partitions.
    pub partitions: usize,
    /// Sessions that had to go so far.
    pub evicted: u64,
}

impl FetchSessions {
    fn cache(&self) -> MutexGuard<'_, Cache<Arc<tokio::sync::Mutex<Session>>>> {
        // Nothing that can panic half-way runs while it is held.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What a request is about, or why it cannot be answered. A session has the request's changes when this returns.
    pub(crate) async fn enter(
        &self,
        request: &FetchRequestView<'_>,
        version: i16,
    ) -> Result<Fetching, ErrorCode> {
        let uses_ids = version >= IDS_FROM;
        let id = SessionId(request.session_id);
        if matches!(request.session_epoch, FINAL_EPOCH | INITIAL_EPOCH) {
            if id.0 != 0 {
                self.cache().remove(id);
            }
            if request.session_epoch == FINAL_EPOCH || request.topics.is_empty() {
                return Ok(Fetching::Alone);
            }
            let mut session = Session::new(uses_ids);
            for topic in request.topics.iter() {
                session.want(&topic);
            }
            return Ok(Fetching::Begun(Box::new(session)));
        }
        let session = self.cache().get(id).map(Arc::clone);
        let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = session.lock_owned().await;
        if session.uses_ids() != uses_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch() != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        for topic in request.topics.iter() {
            session.want(&topic);
        }
        for topic in request.forgotten_topics_data.iter() {
            session.forget(&topic);
        }
        session.advance();
        let mut cache = self.cache();
        // What is grown beyond all bounds, or has nothing left, is no session any more.
        let others = cache.partitions().saturating_sub(session.len());
        if session.len() == 0 || others + session.len() > cache::PARTITIONS_MAX {
            cache.remove(id);
        } else {
            cache.touch(id, session.len(), self.now_ms());
        }
        Ok(Fetching::Going(id, session))
    }

    /// Keeps a session that has begun, if there is room; the number that the client is told, 0 for none.
    pub(crate) fn keep(&self, session: Session, slots: usize, entropy: &Entropy) -> i32 {
        let partitions = session.len();
        let session = Arc::new(tokio::sync::Mutex::new(session));
        // Four bytes that no client can guess. Negative ones and 0 are drawn again.
        let draw = || {
            let drawn = entropy.next().to_be_bytes();
            drawn
                .first_chunk::<4>()
                .map_or(0, |bytes| i32::from_be_bytes(*bytes))
        };
        let kept = self
            .cache()
            .insert(session, partitions, slots, self.now_ms(), draw);
        kept.map_or(0, |id| id.0)
    }

    /// Whether a session is still known.
    pub(crate) fn knows(&self, id: SessionId) -> bool {
        self.cache().get(id).is_some()
    }

    /// Counts, for metrics.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let cache = self.cache();
        Kept {
            sessions: cache.len(),
            partitions: cache.partitions(),
            evicted: cache.evicted(),
        }
    }
}
