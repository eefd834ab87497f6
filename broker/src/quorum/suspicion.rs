//! Brokers that may be gone, because nobody listens on their ports.
//!
//! A process that died takes its ports with it: whoever connects is refused at once, while a machine that is frozen or cut
//! off answers nothing. So a refusal is worth looking into without waiting for a session's end. Whoever meets one says so
//! here: links to other brokers, the quorum's transport, heartbeats. If the suspect leads the quorum, this broker looks for
//! itself and stands for election; then the controller is told, which looks for itself too and fences the suspect if it is
//! refused as well (`controller.rs`). A refusal alone costs nobody anything.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_quorum::command::{Command, Suspect};
use weir_quorum::{BrokerEpoch, BrokerId};

use super::client::ControllerClient;
use super::member::Shared;
use crate::net::Dialer;

/// Suspicions that wait; of more, those that matter are voiced again by whoever tries again.
const QUEUE_LEN: usize = 256;

/// How often one broker is looked into: links try again much faster.
const EVERY: Duration = Duration::from_millis(200);

/// How long a port has to refuse; one that does not answer at all is no sign of a process that is gone.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Where suspicions are voiced. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Suspicions(mpsc::Sender<BrokerId>);

/// What was voiced.
#[derive(Debug)]
pub(crate) struct Suspected(mpsc::Receiver<BrokerId>);

impl Suspicions {
    /// A place to voice them, and what is voiced there.
    pub(crate) fn new() -> (Self, Suspected) {
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        (Self(sender), Suspected(receiver))
    }

    /// A broker's port refused a connection.
    pub(crate) fn voice(&self, id: BrokerId) {
        // Full or closed: it is voiced again, or nobody cares any more.
        let _ = self.0.try_send(id);
    }
}

/// Looks into what is voiced, until the member stops.
pub(crate) async fn run(shared: Arc<Shared>, mut suspected: Suspected) {
    let me = shared.quorum.node().broker;
    // At most one entry for each broker that has registered.
    let mut looked: BTreeMap<BrokerId, Instant> = BTreeMap::new();
    let mut looking = JoinSet::new();
    loop {
        let id = tokio::select! {
            id = suspected.0.recv() => id,
            Some(_) = looking.join_next() => continue,
        };
        let Some(id) = id else { return };
        let image = shared.quorum.image();
        let Some(broker) = image.broker(id).filter(|_| id != me) else {
            continue;
        };
        let leads = shared
            .quorum
            .status()
            .borrow()
            .leader
            .is_some_and(|leader| leader.broker == id);
        let now = Instant::now();
        let is_new = looked.get(&id).is_none_or(|last| now - *last >= EVERY);
        if is_new && (leads || !broker.fenced) {
            looked.insert(id, now);
            let (shared, address) = (Arc::clone(&shared), broker.quorum_address.clone());
            looking.spawn(look_into(shared, id, broker.epoch, address));
        }
    }
}

async fn look_into(shared: Arc<Shared>, id: BrokerId, epoch: BrokerEpoch, address: String) {
    let leader = shared.quorum.status().borrow().leader;
    if let Some(gone) = leader.filter(|leader| leader.broker == id)
        && refuses(&shared.options.dialer, &address).await
        && let Err(error) = shared.quorum.replace_leader(gone).await
    {
        tracing::debug!(%error, "standing for election");
    }
    let command = Command::Suspect(Suspect {
        reporter: shared.quorum.node().broker,
        id,
        epoch,
    });
    let patience = shared.options.pace.session.min(shared.options.pace.command);
    // Without an answer the session's end says the same, later.
    let told = ControllerClient(shared)
        .control_within(command, patience)
        .await;
    tracing::debug!(broker = %id, ?told, "a broker's port refuses connections");
}

/// Whether nobody listens at an address, and the machine there says so.
pub(crate) async fn refuses(dialer: &Dialer, address: &str) -> bool {
    let connected = async {
        match dialer {
            Dialer::Tcp | Dialer::Tls(_) => TcpStream::connect(address).await.map(drop),
            Dialer::Other(dial) => dial.dial(address).await.map(drop),
        }
    };
    match tokio::time::timeout(PROBE_PATIENCE, connected).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(Ok(())) | Err(_) => false,
    }
}

/// Whether a call failed since nobody listened.
pub(crate) fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::net::TcpListener;
    use weir_proto::quorum::v1::IdentityRequest;
    use weir_proto::quorum::v1::quorum_client::QuorumClient;

    use super::*;

    #[tokio::test]
    async fn a_port_that_is_closed_refuses_and_one_that_is_open_or_silent_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(
            !refuses(&Dialer::Tcp, &address).await,
            "nobody accepts, as in a frozen process"
        );
        drop(listener);
        assert!(refuses(&Dialer::Tcp, &address).await);
    }

    #[tokio::test]
    async fn a_call_that_is_refused_says_so_through_all_layers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect_lazy();
        let status = QuorumClient::new(channel)
            .identity(IdentityRequest {})
            .await
            .unwrap_err();
        assert!(is_refusal(&status), "{status:?}");
        assert!(!is_refusal(&tonic::Status::unavailable("busy")));
    }
}
