//! Client telemetry (KIP-714): clients ask which metrics they are to push, push them, and Prometheus finds them at `/metrics`.
//!
//! Owned here: which clients there are ([`instances`]), and the last values that they pushed ([`series`]); both pure and
//! bounded. Which metrics are wanted of whom is in the metadata, as configurations of client metrics subscriptions. Where
//! nothing is wanted clients are told so, and ask again in a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use weir_quorum::configs::ClientMatch;
use weir_quorum::image::Image;
use weir_wire::batch::{Compression, inflate};

use crate::api::Peer;
use crate::error::ErrorCode;

mod instances;
mod otlp;
mod series;

use instances::{Expected, Instances, Push};
use series::{CLIENT_SERIES_MAX, Series};

/// How often clients ask of whom nothing is wanted, and push where a subscription does not say.
const INTERVAL_MS: i32 = 300_000;

/// What a push may inflate to, as a multiple of what it may have compressed.
const INFLATED_TIMES_MAX: usize = 4;

/// What is wanted of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Changes with what is wanted.
    pub(crate) subscription_id: i32,
    /// How often.
    pub(crate) interval_ms: i32,
    /// Prefixes of metrics' names; one empty prefix is all of them.
    pub(crate) metrics: Vec<String>,
}

impl Wanted {
    fn interval(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.interval_ms).unwrap_or(0))
    }
}

/// Who pushes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'c> {
    pub(crate) instance: Uuid,
    pub(crate) client_id: &'c str,
    pub(crate) peer: &'c Peer,
}

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed<'p> {
    pub(crate) subscription_id: i32,
    pub(crate) is_terminating: bool,
    pub(crate) compression: i8,
    pub(crate) metrics: &'p [u8],
}

type Configs = Arc<BTreeMap<String, BTreeMap<String, String>>>;

struct Subscription {
    clients: ClientMatch,
    metrics: Vec<String>,
    interval_ms: i32,
}

#[derive(Default)]
struct State {
    instances: Instances,
    series: Series,
    /// What the subscriptions were read from.
    configs: Configs,
    subscriptions: Arc<Vec<Subscription>>,
}

/// What clients say about themselves.
pub struct Telemetry {
    state: Mutex<State>,
    began: Instant,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            began: Instant::now(),
        }
    }
}

impl Telemetry {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic half-way runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted of a client.
    fn wanted(&self, image: &Image, client: Client<'_>) -> Wanted {
        let subscriptions = self.subscriptions(image);
        let address = client.peer.address.ip().to_canonical().to_string();
        let port = client.peer.address.port().to_string();
        let instance = kafka_uuid(client.instance);
        let software = client.peer.software.get();
        let (name, version) = software.map_or(("", ""), |(name, version)| (name, version));
        let value_of = |key: &str| match key {
            "client_instance_id" => instance.as_str(),
            "client_id" => client.client_id,
            "client_software_name" => name,
            "client_software_version" => version,
            "client_source_address" => address.as_str(),
            "client_source_port" => port.as_str(),
            _ => "",
        };
        let mut metrics = BTreeSet::new();
        let mut interval_ms = None;
        for subscription in subscriptions.iter() {
            if subscription.clients.matches(value_of) {
                metrics.extend(subscription.metrics.iter().map(String::as_str));
                interval_ms = Some(interval_ms.map_or(subscription.interval_ms, |least: i32| {
                    least.min(subscription.interval_ms)
                }));
            }
        }
        let metrics: Vec<String> = if metrics.contains("*") {
            vec![String::new()]
        } else {
            metrics.into_iter().map(str::to_owned).collect()
        };
        let interval_ms = interval_ms.unwrap_or(INTERVAL_MS);
        Wanted {
            subscription_id: fingerprint(client.instance, &metrics, interval_ms),
            interval_ms,
            metrics,
        }
    }

    /// The subscriptions, whose patterns are compiled when they change.
    fn subscriptions(&self, image: &Image) -> Arc<Vec<Subscription>> {
        let mut state = self.state();
        let configs = image.client_metrics_configs();
        if !Arc::ptr_eq(configs, &state.configs) {
            let read = configs.values().filter_map(|config| {
                let get = |key: &str| config.get(key).map_or("", String::as_str);
                Some(Subscription {
                    clients: ClientMatch::parse(get("match"))?,
                    metrics: weir_quorum::configs::list(get("metrics"))
                        .map(str::to_owned)
                        .collect(),
                    interval_ms: get("interval.ms").parse().unwrap_or(INTERVAL_MS),
                })
            });
            state.subscriptions = Arc::new(read.collect());
            state.configs = Arc::clone(configs);
        }
        Arc::clone(&state.subscriptions)
    }

    /// A client asks what to push.
    pub(crate) fn ask(&self, image: &Image, client: Client<'_>) -> Result<Wanted, ErrorCode> {
        let wanted = self.wanted(image, client);
        let now = self.began.elapsed();
        self.state()
            .instances
            .ask(client.instance, wanted.interval(), now)?;
        Ok(wanted)
    }

    /// A client pushes.
    pub(crate) fn push(
        &self,
        image: &Image,
        client: Client<'_>,
        pushed: Pushed<'_>,
        bytes_max: usize,
    ) -> Result<(), ErrorCode> {
        let wanted = self.wanted(image, client);
        let now = self.began.elapsed();
        let compression = compression(pushed.compression);
        let push = Push {
            subscription_id: pushed.subscription_id,
            is_terminating: pushed.is_terminating,
            is_compression_known: compression.is_some(),
            bytes: pushed.metrics.len(),
        };
        let expected = Expected {
            subscription_id: wanted.subscription_id,
            interval: wanted.interval(),
            bytes_max,
        };
        self.state()
            .instances
            .push(client.instance, push, expected, now)?;
        let points = match compression {
            _ if pushed.metrics.is_empty() => Vec::new(),
            None | Some(Compression::None) => points(pushed.metrics)?,
            Some(compression) => {
                let inflated = inflate(compression, pushed.metrics, bytes_max * INFLATED_TIMES_MAX)
                    .map_err(|_| ErrorCode::InvalidRecord)?;
                points(&inflated)?
            }
        };
        let mut state = self.state();
        if pushed.is_terminating {
            state.series.forget(client.instance);
        } else {
            state.series.take(
                client.instance,
                client.client_id,
                points,
                wanted.interval(),
                now,
            );
        }
        Ok(())
    }

    /// What clients pushed, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let now = self.began.elapsed();
        self.state().series.text(now)
    }

    /// How many clients there are, and how many values found no room.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        let state = self.state();
        (state.instances.len(), state.series.dropped())
    }
}

fn points(bytes: &[u8]) -> Result<Vec<otlp::Point>, ErrorCode> {
    otlp::points(bytes, CLIENT_SERIES_MAX).map_err(|_| ErrorCode::InvalidRecord)
}

fn compression(number: i8) -> Option<Compression> {
    match number {
        0 => Some(Compression::None),
        1 => Some(Compression::Gzip),
        2 => Some(Compression::Snappy),
        3 => Some(Compression::Lz4),
        4 => Some(Compression::Zstd),
        _ => None,
    }
}

/// A number that changes with what is wanted of a client (FNV-1a).
fn fingerprint(instance: Uuid, metrics: &[String], interval_ms: i32) -> i32 {
    let interval = interval_ms.to_be_bytes();
    let parts = metrics.iter().map(|metric| metric.as_bytes());
    let parts = parts.chain([&interval[..], &instance.as_bytes()[..]]);
    let hash = parts.fold(0x811c_9dc5_u32, |hash, part| {
        // A byte that is in no text keeps parts apart.
        let bytes = part.iter().chain(&[0xff]);
        bytes.fold(hash, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
    });
    hash.cast_signed()
}

/// A UUID as Kafka writes one: base64 for URLs, without padding.
fn kafka_uuid(id: Uuid) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits are 21 letters and 2 bits more.
    let bits = id.as_u128();
    let letter = |index: u32| {
        let at = if index < 21 {
            bits >> (128 - 6 * (index + 1))
        } else {
            bits << 4
        };
        char::from(LETTERS[(at & 63) as usize])
    };
    (0..22).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        assert_eq!(kafka_uuid(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        let bytes = *b"MkU3OEVBNTcwNTJE";
        assert_eq!(
            kafka_uuid(Uuid::from_bytes(bytes)),
            "TWtVM09FVkJOVGN3TlRKRQ"
        );
    }

    #[test]
    fn another_subscription_has_another_number() {
        let of = |metrics: &[&str], interval| {
            let metrics: Vec<_> = metrics.iter().map(|metric| (*metric).to_owned()).collect();
            fingerprint(Uuid::from_u128(1), &metrics, interval)
        };
        assert_eq!(of(&["a", "b"], 1), of(&["a", "b"], 1));
        assert_ne!(of(&["a", "b"], 1), of(&["ab"], 1));
        assert_ne!(of(&["a"], 1), of(&["a"], 2));
    }
}
