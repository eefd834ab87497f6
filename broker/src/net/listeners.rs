//! Listeners that come and go while the broker runs, as the metadata say.
//!
//! Owns their tasks. A listener that is new is bound and served; one that is gone accepts nobody any more, and its connections end when they
//! have what they asked for. A change of where clients reach a listener concerns nothing here: that is looked up for each answer. One that speaks
//! TLS is opened once its certificate is there, which lies beside the broker's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use weir_tls::{Served, TlsError, directory};

use super::{KafkaListener, Network};
use crate::config::HostPort;
use crate::{Broker, certificates};

/// A port that cannot be bound is tried again this soon: whoever had it may be gone, a listener of this broker's own say.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// Opens and closes listeners until `stop`; returns when every connection on them is closed.
pub(crate) async fn follow<N: Network>(network: N, broker: Arc<Broker>, stop: CancellationToken) {
    let me = broker.metadata.broker_id();
    let mut images = broker.metadata.watch();
    let serving = TaskTracker::new();
    let mut open: BTreeMap<String, ((u16, bool), CancellationToken)> = BTreeMap::new();
    let mut refused = String::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let listeners = image.listeners(me).into_iter();
        let wanted: BTreeMap<String, (u16, bool)> = listeners
            .map(|listener| (listener.name, (listener.port, listener.tls)))
            .collect();
        open.retain(|name, (kind, stop)| {
            let stays = wanted.get(name) == Some(kind);
            if !stays {
                info!(name, port = kind.0, "closing a listener");
                stop.cancel();
            }
            stays
        });
        let mut failed = None;
        for (name, (port, is_tls)) in wanted {
            if open.contains_key(&name) {
                continue;
            }
            let tls = match certificate(&broker, &name, is_tls).await {
                Ok(tls) => tls,
                // A Secret that a pod mounts comes there some time after it was written.
                Err(error) => {
                    failed = Some(format!("listener {name} on port {port}: {error}"));
                    continue;
                }
            };
            let address = HostPort {
                host: "0.0.0.0".to_owned(),
                port,
            };
            match KafkaListener::bind(&network, &address, &name).await {
                Ok(listener) => {
                    info!(name, port, tls = is_tls, "listening for clients");
                    let stop = stop.child_token();
                    let listener = match tls {
                        None => listener,
                        Some(tls) => {
                            let (stop, followed) = (stop.clone(), Arc::clone(&tls));
                            serving.spawn(async move {
                                stop.run_until_cancelled(followed.follow()).await;
                            });
                            listener.over(tls)
                        }
                    };
                    serving.spawn(listener.serve(Arc::clone(&broker), stop.clone()));
                    open.insert(name, ((port, is_tls), stop));
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

/// What a listener shows its clients, if they speak TLS.
async fn certificate(
    broker: &Broker,
    name: &str,
    is_tls: bool,
) -> Result<Option<Arc<Served>>, TlsError> {
    if !is_tls {
        return Ok(None);
    }
    let dir = certificates::dir(&broker.config);
    let certificate = dir.join(directory::certificate_of_listener(name));
    let key = dir.join(directory::key_of_listener(name));
    let read = move || Served::from_files(certificate, key);
    Ok(Some(Arc::new(broker.host.blocking(read).await?)))
}
