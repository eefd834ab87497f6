//! Listeners that come and go while the broker runs, as the metadata say.
//!
//! Owns their tasks. A listener that is new is bound and served; one that is gone accepts nobody any more, and its connections end when they
//! have what they asked for. A change of where clients reach a listener concerns nothing here: that is looked up for each answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{KafkaListener, Network};
use crate::Broker;
use crate::config::HostPort;

/// A port that cannot be bound is tried again this soon: whoever had it may be gone, a listener of this broker's own say.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// Opens and closes listeners until `stop`; returns when every connection on them is closed.
pub(crate) async fn follow<N: Network>(network: N, broker: Arc<Broker>, stop: CancellationToken) {
    let me = broker.metadata.broker_id();
    let mut images = broker.metadata.watch();
    let serving = TaskTracker::new();
    let mut open: BTreeMap<String, (u16, CancellationToken)> = BTreeMap::new();
    let mut refused = String::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let listeners = image.listeners(me).into_iter();
        let wanted: BTreeMap<String, u16> = listeners
            .map(|listener| (listener.name, listener.port))
            .collect();
        open.retain(|name, (port, stop)| {
            let stays = wanted.get(name) == Some(port);
            if !stays {
                info!(name, port, "closing a listener");
                stop.cancel();
            }
            stays
        });
        let mut failed = None;
        for (name, port) in wanted {
            if open.contains_key(&name) {
                continue;
            }
            let address = HostPort {
                host: "0.0.0.0".to_owned(),
                port,
            };
            match KafkaListener::bind(&network, &address, &name).await {
                Ok(listener) => {
                    info!(name, port, "listening for clients");
                    let stop = stop.child_token();
                    serving.spawn(listener.serve(Arc::clone(&broker), stop.clone()));
                    open.insert(name, (port, stop));
                }
                Err(error) => failed = Some(format!("listener {name} on port {port}: {error}")),
            }
        }
        // Said once, however often it is tried.
        let told = failed.clone().unwrap_or_default();
        if failed.is_some() && told != refused {
            warn!(reason = told, "a listener cannot be opened; trying again");
        }
        refused = told;
        tokio::select! {
            () = stop.cancelled() => break,
            changed = images.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(BIND_AGAIN), if failed.is_some() => {}
        }
    }
    // Those that are open end with `stop`, and if nothing tells of changes any more, with this.
    for (_, stop) in open.values() {
        stop.cancel();
    }
    serving.close();
    serving.wait().await;
}
