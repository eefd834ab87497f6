//! A producer and a group at work on a topic while something happens to its brokers, and what must hold of both in the end.

use std::time::Duration;

use weir_tests::clients::Clients;
use weir_tests::load::{Acknowledged, Load};
use weir_tests::log::{self, Log};
use weir_tests::readers::Readers;
use weir_tests::{flights, story, wait};

use crate::watching::LIMIT;

pub(crate) const PARTITIONS: usize = 12;

/// Messages each second: enough that each partition has some every tenth of a second.
const RATE: u32 = 300;

/// Messages of each partition that must be acknowledged to say that it goes on: more than are on their way when something happens.
pub(crate) const MORE: u64 = 20;

/// How long clients may take to go on. They do within seconds; machines differ.
const SECONDS: Duration = Duration::from_secs(45);

/// librdkafka's patience: a client is to look elsewhere within seconds.
const PATIENCE: [&str; 3] = [
    "socket.timeout.ms=2500",
    "request.timeout.ms=2500",
    "socket.connection.setup.timeout.ms=1000",
];

/// Members that see every message, whatever moves: only a rebalance that lasted would make them give up.
const MEMBERS: u32 = 2;

/// The topic.
const TOPIC: &str = "flights";

/// Who writes, and who reads.
pub(crate) struct Flow {
    pub(crate) load: Load,
    pub(crate) readers: Readers,
}

impl Flow {
    /// Members have these further properties of librdkafka.
    pub(crate) fn begin(clients: &Clients, bootstrap: &str, of_members: &[&str]) -> Self {
        Self::begin_with(clients, bootstrap, &[], of_members)
    }

    /// The producer has further properties too.
    pub(crate) fn begin_with(
        clients: &Clients,
        bootstrap: &str,
        of_producer: &[&str],
        of_members: &[&str],
    ) -> Self {
        Self {
            load: producer(clients, bootstrap, TOPIC, of_producer),
            readers: Readers::start(clients, bootstrap, TOPIC, "readers", MEMBERS, of_members),
        }
    }

    /// Waits until each partition takes messages, and the group reads some.
    pub(crate) fn go_on(&self, when: &str) {
        let mark = self.load.mark();
        self.load.wait_for(&mark, MORE, PARTITIONS, SECONDS, when);
        let seen = self.readers.seen();
        wait::until("the group goes on", SECONDS, || {
            (self.readers.seen() > seen).then_some(())
        });
    }

    /// Ends both, and holds what they were told against what is there.
    pub(crate) fn end(self, clients: &Clients, bootstrap: &str) {
        let acknowledged = self.load.finish();
        let log = clients.read_log(bootstrap, TOPIC);
        is_whole(&log, &acknowledged);
        wait::until("the group has read everything", LIMIT, || {
            (self.readers.seen() >= acknowledged.len()).then_some(())
        });
        story::saw_the_log(&self.readers.stop(), &log);
        println!(
            "  {} messages acknowledged meanwhile; all are there once, in order, and were read",
            acknowledged.len()
        );
    }
}

/// What was acknowledged is there, everything once and in order.
pub(crate) fn is_whole(log: &Log, acknowledged: &Acknowledged) {
    log::holds_acknowledged(log, acknowledged);
    log::holds_in_order(log);
    log::holds_each_once(log, &flights::all(), acknowledged.len());
}

/// A producer at a steady rate, which looks elsewhere within seconds, with these further properties of librdkafka.
pub(crate) fn producer(clients: &Clients, bootstrap: &str, topic: &str, more: &[&str]) -> Load {
    let mut script = clients.script("producer.py");
    script
        .args([bootstrap, topic, &clients.flights()])
        .args(PATIENCE)
        .args(more);
    Load::start(topic, script, RATE)
}
