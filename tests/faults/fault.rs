//! What happens to a broker, and how it is put right again.

use std::time::Duration;

use weir_tests::cluster::Cluster;
use weir_tests::cluster::network::Node;

/// How much later everything comes from and to a broker that is far away.
const FAR: Duration = Duration::from_millis(40);

/// Replicas that are alive and do not follow hold the others up for so long, with some to spare (`replica.lag.time.max.ms`).
const LAG_MAX: Duration = Duration::from_secs(15);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`.
    Killed,
    /// `kill -9` of all brokers at once.
    AllKilled,
    /// It does not run, and nobody is told: its connections stay.
    Frozen,
    /// Nothing reaches it and nothing comes from it.
    CutOff,
    /// Clients reach it, and no broker does. It must acknowledge nothing.
    CutOffFromBrokers,
    /// Brokers reach it, and no client does. What it leads has to wait.
    CutOffFromClients,
    /// It does not hear the other brokers; they hear it.
    Deaf,
    /// The other brokers do not hear it; it hears them.
    Mute,
    /// It and one other do not hear each other; all else is well. What one leads waits until it goes on without the other.
    CutOffFromOne,
    /// All that it hears and says comes late.
    Far,
    /// Its disk has no room. What others lead waits too, until they go on without it.
    Full,
    /// It is killed, and comes back with an empty disk under the same number.
    Wiped,
}

/// All of them.
pub(crate) const FAULTS: [Fault; 12] = [
    Fault::Killed,
    Fault::AllKilled,
    Fault::Frozen,
    Fault::CutOff,
    Fault::CutOffFromBrokers,
    Fault::CutOffFromClients,
    Fault::Deaf,
    Fault::Mute,
    Fault::CutOffFromOne,
    Fault::Far,
    Fault::Full,
    Fault::Wiped,
];

impl Fault {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::AllKilled => "all-killed",
            Self::Frozen => "frozen",
            Self::CutOff => "cut-off",
            Self::CutOffFromBrokers => "cut-off-brokers",
            Self::CutOffFromClients => "cut-off-clients",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::CutOffFromOne => "cut-off-one",
            Self::Far => "far",
            Self::Full => "full",
            Self::Wiped => "wiped",
        }
    }

    /// How long it may take until brokers see that one of them is no use, and clients go on without it. None when they cannot know:
    /// who is cut off from a broker that is well has to wait.
    pub(crate) fn seen_within(self) -> Option<Duration> {
        match self {
            Self::CutOffFromClients => None,
            Self::CutOffFromOne | Self::Full => Some(LAG_MAX),
            _ => Some(Duration::ZERO),
        }
    }

    /// It begins.
    pub(crate) fn begin(self, cluster: &mut Cluster, victim: usize) {
        let node = Node::Broker(victim);
        let brokers = cluster.brokers();
        let others = || {
            (0..brokers)
                .filter(move |one| *one != victim)
                .map(Node::Broker)
        };
        match self {
            Self::Killed => cluster.kill(&[victim]),
            Self::AllKilled => {
                cluster.kill(&(0..brokers).collect::<Vec<_>>());
                cluster.start_all();
            }
            Self::Frozen => cluster.signal(victim, "STOP"),
            Self::CutOff => {
                for other in cluster.network().others(node) {
                    cluster.network().cut(node, other);
                }
            }
            Self::CutOffFromBrokers => {
                others().for_each(|other| cluster.network().cut(node, other));
            }
            Self::CutOffFromClients => cluster.network().cut(node, Node::Clients),
            Self::Deaf => others().for_each(|other| cluster.network().lose(other, node)),
            Self::Mute => others().for_each(|other| cluster.network().lose(node, other)),
            Self::CutOffFromOne => {
                let one = Node::Broker((victim + 1) % brokers);
                cluster.network().cut(node, one);
            }
            Self::Far => cluster.delay(victim, FAR),
            Self::Full => cluster.fill_disk(victim),
            Self::Wiped => {
                cluster.kill(&[victim]);
                cluster.wipe(victim);
                cluster.start_all();
            }
        }
    }

    /// It is over.
    pub(crate) fn end(self, cluster: &mut Cluster, victim: usize) {
        match self {
            Self::Killed => cluster.start_all(),
            Self::AllKilled | Self::Wiped => {}
            Self::Frozen => cluster.signal(victim, "CONT"),
            Self::Full => {
                cluster.make_room(victim);
                // One that ended since it could not keep the quorum's log is started again, as a supervisor does.
                cluster.has_ended(victim);
                cluster.start_all();
            }
            Self::CutOff
            | Self::CutOffFromBrokers
            | Self::CutOffFromClients
            | Self::Deaf
            | Self::Mute
            | Self::CutOffFromOne
            | Self::Far => cluster.mend_network(),
        }
    }
}
