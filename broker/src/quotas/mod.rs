//! How much clients may take, and how long they wait when they took more (KIP-13, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! Owned here: a bucket for each user, client id or address that has a limit. Quotas come from the metadata and hold for each
//! broker by itself, as Kafka's do. Whoever took too much is answered at once and told how long he is throttled, and his
//! connection is not read from for so long ([`Reply::Throttled`](crate::api::Reply)). While the cluster has no quotas at all,
//! a request costs one look at the metadata's map, which is empty.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_quorum::image::Image;
use weir_quorum::quotas::{
    CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, PRODUCER_BYTE_RATE, REQUEST_PERCENTAGE,
};

mod bucket;
mod rules;

use bucket::{BURST_S, Bucket};
pub(crate) use rules::Client;
use rules::Sharer;

/// Who everyone is where nobody authenticates.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

/// Buckets at once: under a quota for all others each client id has one of its own, and anyone may think of names. When there
/// would be more, those that nobody took from lately go, and if that is not enough, all of them: clients begin anew.
const BUCKETS_MAX: usize = 10_000;

/// The longest that a client waits for time that its requests took: as Kafka, one window.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limited {
    /// Bytes that producers send.
    Produced,
    /// Bytes that consumers are given.
    Fetched,
    /// Time that requests take, in percent of a second.
    Requests,
    /// Partitions that are created and deleted.
    Mutations,
}

impl Limited {
    fn key(self) -> &'static str {
        match self {
            Self::Produced => PRODUCER_BYTE_RATE,
            Self::Fetched => CONSUMER_BYTE_RATE,
            Self::Requests => REQUEST_PERCENTAGE,
            Self::Mutations => CONTROLLER_MUTATION_RATE,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Client(Limited, Sharer),
    Address(IpAddr),
}

/// What clients of this broker have taken.
#[derive(Debug)]
pub struct Quotas {
    buckets: Mutex<BTreeMap<Owner, Bucket>>,
    began: Instant,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            buckets: Mutex::default(),
            began: Instant::now(),
        }
    }
}

impl Quotas {
    /// Notes that a client took so much; how long it has to wait, zero within its quota.
    pub(crate) fn take(
        &self,
        image: &Image,
        client: Client<'_>,
        limited: Limited,
        amount: f64,
    ) -> Duration {
        let Some((owner, rate)) = limit(image, client, limited) else {
            return Duration::ZERO;
        };
        let now = self.began.elapsed();
        let wait = self.with(owner, rate, now, |bucket| bucket.take(rate, amount, now));
        match limited {
            Limited::Requests => wait.min(REQUEST_WAIT_MAX),
            _ => wait,
        }
    }

    /// Notes that a client takes so much, if it owes nothing; otherwise how long until then.
    pub(crate) fn try_take(
        &self,
        image: &Image,
        client: Client<'_>,
        limited: Limited,
        amount: f64,
    ) -> Result<(), Duration> {
        let Some((owner, rate)) = limit(image, client, limited) else {
            return Ok(());
        };
        let now = self.began.elapsed();
        self.with(owner, rate, now, |bucket| {
            bucket.try_take(rate, amount, now)
        })
    }

    /// The most that a client may take at once.
    pub(crate) fn burst(&self, image: &Image, client: Client<'_>, limited: Limited) -> usize {
        // A float beyond the greatest whole number becomes that number.
        limit(image, client, limited).map_or(usize::MAX, |(_, rate)| (rate * BURST_S) as usize)
    }

    /// Notes that an address opens a connection; how long it has to wait, zero within its quota.
    pub(crate) fn connect(&self, image: &Image, address: IpAddr) -> Duration {
        let quotas = image.client_quotas();
        if quotas.is_empty() {
            return Duration::ZERO;
        }
        let address = address.to_canonical();
        let Some(rate) = rules::connections(quotas, address) else {
            return Duration::ZERO;
        };
        let now = self.began.elapsed();
        self.with(Owner::Address(address), rate, now, |bucket| {
            bucket.take(rate, 1.0, now)
        })
    }

    fn with<T>(
        &self,
        owner: Owner,
        rate: f64,
        now: Duration,
        take: impl FnOnce(&mut Bucket) -> T,
    ) -> T {
        let mut buckets = self.lock();
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&owner) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
        }
        take(
            buckets
                .entry(owner)
                .or_insert_with(|| Bucket::new(rate, now)),
        )
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Owner, Bucket>> {
        // Nothing that can panic half-way runs while it is held.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit(image: &Image, client: Client<'_>, limited: Limited) -> Option<(Owner, f64)> {
    let quotas = image.client_quotas();
    if quotas.is_empty() {
        return None;
    }
    let (sharer, rate) = rules::limit(quotas, client, limited.key())?;
    Some((Owner::Client(limited, sharer), rate))
}

/// A wait as clients are told it.
pub(crate) fn throttle_time_ms(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}
