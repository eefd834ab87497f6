//! The main job on a local cluster.

use crate::MANIFESTS;
use std::time::Duration;
use weir_tests::clients::Clients;
use weir_tests::local::Local;
use weir_tests::{story, wait};

#[test]
fn flights_flow_through_a_local_cluster_while_a_broker_is_killed() {
    let local = Local::start(MANIFESTS);
    let bootstrap = local.bootstrap();
    wait::until("the topic is there", Duration::from_secs(30), || {
        (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(())
    });
    story::flights_flow(&Clients::Here, &bootstrap, "flights", "readers", || {
        let brokers = local.brokers();
        assert_eq!(brokers.len(), 3, "broker processes");
        local.kill(&brokers[1..2]);
    });
}
