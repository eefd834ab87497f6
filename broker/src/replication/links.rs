//! The ways to followers: which partition is to be sent to whom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use weir_wire::{BrokerId, LeaderEpoch};

use super::ready::{Mark, Marked, Ready};
use crate::partitions::{Replica, Wake};

/// All ways from this broker.
#[derive(Debug)]
pub struct Links {
    me: BrokerId,
    next_feed: AtomicU32,
    by_broker: Mutex<BTreeMap<BrokerId, Arc<Link>>>,
    added: Notify,
}

/// The way to one broker: what leads here and is to be there too.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) to: BrokerId,
    pub(super) ready: Ready<Feed>,
}

/// One partition that this broker leads in one epoch, on its way to one follower.
#[derive(Debug)]
pub(super) struct Feed {
    this: Weak<Self>,
    link: Arc<Link>,
    mark: Mark,
    /// Its number among this broker's.
    pub(super) id: u32,
    pub(super) replica: Arc<Replica>,
    pub(super) epoch: LeaderEpoch,
}

impl Marked for Feed {
    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl Wake for Feed {
    fn wake(&self) {
        if let Some(this) = self.this.upgrade() {
            self.link.ready.push(this);
        }
    }
}

impl Links {
    /// None yet.
    #[must_use]
    pub fn new(me: BrokerId) -> Arc<Self> {
        Arc::new(Self {
            me,
            next_feed: AtomicU32::new(0),
            by_broker: Mutex::default(),
            added: Notify::new(),
        })
    }

    pub(crate) fn me(&self) -> BrokerId {
        self.me
    }

    /// The way of a partition, led here in this epoch, to a follower. Whatever the log has is sent, and what comes to it.
    pub(crate) fn outlet(
        &self,
        replica: &Arc<Replica>,
        to: BrokerId,
        epoch: LeaderEpoch,
    ) -> Arc<dyn Wake> {
        let link = self.link(to);
        let feed = Arc::new_cyclic(|this| Feed {
            this: Weak::clone(this),
            link,
            mark: Mark::default(),
            id: self.next_feed.fetch_add(1, Ordering::Relaxed),
            replica: Arc::clone(replica),
            epoch,
        });
        feed.wake();
        feed
    }

    fn link(&self, to: BrokerId) -> Arc<Link> {
        let mut links = self
            .by_broker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(to).or_insert_with(|| {
            self.added.notify_one();
            Arc::new(Link {
                to,
                ready: Ready::default(),
            })
        });
        Arc::clone(link)
    }

    /// All there are, by broker.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        let links = self
            .by_broker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        links.values().cloned().collect()
    }

    /// Waits until there is one more than when this was last awaited.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}
