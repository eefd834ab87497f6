//! Brokers that may have gone a moment ago, and brokers that have: what clients are told of them.
//!
//! A client that loses its leader asks for metadata within milliseconds, before the controller has found out. Told of the old leader
//! once more, it asks again only after a second or so. So the answer waits for a moment while a leader is in doubt: while its stream
//! has just broken, or its port refuses connections. And a client that is not told of a broker any more forgets it, and librdkafka with it
//! where the broker's partitions have gone; so one that has just gone is named for a while still.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_quorum::{BrokerId, Image};

/// For how long a leader is in doubt after the last sign: longer than it takes to be found gone and be replaced, and not worth waiting
/// for when it was nothing.
pub(crate) const DOUBT: Duration = Duration::from_millis(500);

/// For how long a broker that has gone is named: longer than clients take to turn to the next leaders.
const NAMED: Duration = Duration::from_secs(30);

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Absences(Arc<Mutex<State>>);

/// By broker, of which there are as many as have registered.
#[derive(Debug, Default)]
struct State {
    doubted: BTreeMap<BrokerId, Instant>,
    /// Seen alive, and since when not any more.
    gone: BTreeMap<BrokerId, Option<Instant>>,
}

impl Absences {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a sign that a broker has gone.
    pub(crate) fn doubt(&self, id: BrokerId) {
        self.lock().doubted.insert(id, Instant::now());
    }

    /// Whether there was a sign of it a moment ago.
    pub(crate) fn is_in_doubt(&self, id: BrokerId) -> bool {
        let doubted = self.lock().doubted.get(&id).copied();
        doubted.is_some_and(|at| at.elapsed() < DOUBT)
    }

    /// Whether it was alive, and has gone lately.
    pub(crate) fn is_lately_gone(&self, id: BrokerId) -> bool {
        let gone = self.lock().gone.get(&id).copied().flatten();
        gone.is_some_and(|at| at.elapsed() < NAMED)
    }

    /// Sees who comes and goes, as long as there are images.
    pub(crate) async fn follow(self, mut images: watch::Receiver<Arc<Image>>) {
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.see(&image, Instant::now());
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    fn see(&self, image: &Image, now: Instant) {
        let mut state = self.lock();
        state.gone.retain(|id, _| image.broker(*id).is_some());
        for broker in image.brokers() {
            if !broker.fenced {
                state.gone.insert(broker.id, None);
            } else if let Some(gone @ None) = state.gone.get_mut(&broker.id) {
                *gone = Some(now);
            }
        }
        state.doubted.retain(|id, _| image.broker(*id).is_some());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use weir_quorum::ClusterId;
    use weir_quorum::controller::formed;
    use weir_quorum::record::{
        BrokerFenced, BrokerRegistered, BrokerUnfenced, BrokerUnregistered, HostPort, Record,
    };
    use weir_quorum::{BrokerEpoch, Incarnation};

    use super::*;

    #[test]
    fn one_that_was_alive_and_went_is_named_for_a_while_and_one_that_never_was_is_not() {
        let (id, epoch) = (BrokerId(1), BrokerEpoch(2));
        let registered = Record::BrokerRegistered(BrokerRegistered {
            id,
            epoch: Some(epoch),
            incarnation: Incarnation(uuid::Uuid::from_u128(1)),
            kafka: HostPort {
                host: "localhost".into(),
                port: 9092,
            },
            quorum_address: "localhost:9094".into(),
            rack: None,
            version: "1".into(),
            cordoned: false,
            draining: false,
        });
        let absences = Absences::default();
        let now = Instant::now();
        let mut image = Image::default()
            .apply(1, &formed(ClusterId("c".into()), 1))
            .unwrap();
        let mut step = |index: u64, record: Record, at: Instant| {
            image = image.apply(index, &[record]).unwrap();
            absences.see(&image, at);
            absences.is_lately_gone(id)
        };
        let fenced = || Record::BrokerFenced(BrokerFenced { id, epoch });
        assert!(!step(2, registered, now), "it has not come yet");
        let unfenced = || Record::BrokerUnfenced(BrokerUnfenced { id, epoch });
        assert!(!step(3, unfenced(), now));
        assert!(step(4, fenced(), now));
        assert!(!step(5, unfenced(), now), "it is back");
        let long_ago = now.checked_sub(NAMED).unwrap();
        assert!(!step(6, fenced(), long_ago));
        assert!(!step(7, unfenced(), now));
        assert!(step(8, fenced(), now));
        let unregistered = Record::BrokerUnregistered(BrokerUnregistered { id, epoch });
        assert!(!step(9, unregistered, now), "it is gone for good");
    }

    #[test]
    fn doubt_passes() {
        let absences = Absences::default();
        assert!(!absences.is_in_doubt(BrokerId(1)));
        absences.doubt(BrokerId(1));
        assert!(absences.is_in_doubt(BrokerId(1)));
        assert!(!absences.is_in_doubt(BrokerId(2)));
        let then = Instant::now().checked_sub(DOUBT).unwrap();
        absences.lock().doubted.insert(BrokerId(1), then);
        assert!(!absences.is_in_doubt(BrokerId(1)));
    }
}
