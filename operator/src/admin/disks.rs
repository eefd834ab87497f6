//! What brokers say of their disks, each of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_tls::Tls;

use super::{Way, broker_id, describe};
use crate::world::{BrokerId, Disk};

/// Asks every broker for the disk that its data lies on, which only it knows: at the first of its addresses that answers. Those that do not answer are left
/// out.
pub async fn disks(way: &Way) -> BTreeMap<BrokerId, Disk> {
    let tls = way.credentials.clone().map(Tls::from_pems);
    let Some(Ok(tls)) = tls else {
        return BTreeMap::new();
    };
    let tls = Arc::new(tls);
    let brokers = way.brokers.iter();
    let asked = brokers.map(|addresses| first(&tls, addresses));
    let disks = futures::future::join_all(asked).await;
    disks.into_iter().flatten().collect()
}

async fn first(tls: &Arc<Tls>, addresses: &[String]) -> Option<(BrokerId, Disk)> {
    for address in addresses {
        let disk = disk(tls, address).await;
        if disk.is_some() {
            return disk;
        }
    }
    None
}

async fn disk(tls: &Arc<Tls>, address: &str) -> Option<(BrokerId, Disk)> {
    let (_, answer) = describe(tls, address).await?;
    let own = answer.answering_broker?;
    let broker = answer.brokers.iter().find(|broker| broker.id == own)?;
    let disk = Disk {
        total_bytes: broker.disk_total_bytes,
        available_bytes: broker.disk_available_bytes,
    };
    Some((broker_id(own)?, disk))
}
