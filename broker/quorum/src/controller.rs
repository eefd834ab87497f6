//! The controller's decisions: what a command changes, and what is answered.
//!
//! Pure: an image, who is alive, a command and the time go in; records and a reply come out. The leader's loop carries
//! them out: it decides on the newest image, proposes the records, waits until they are applied, and answers.

use crate::command::{Command, Reply};
use crate::configs::Settings;
use crate::error::ControlError;
use crate::ids::BrokerEpoch;
use crate::image::Image;
use crate::liveness::{Liveness, Now};
use crate::record::Record;

mod brokers;
mod configs;
mod elections;
mod in_sync;
mod leaders;
mod levels;
mod listeners;
mod moves;
mod producers;
mod quotas;
mod reassign;
#[cfg(test)]
mod tests;
mod topics;

pub use brokers::{admissible, expired, formed, unreachable};
pub use configs::{CLIENT_METRICS_MAX, CONFIGURED_GROUPS_MAX};
pub use elections::{Ends, recover, settled};
pub use leaders::{awaits_leaders, balance_leaders};
pub use levels::too_old;
pub use moves::{Sizes, is_moving, moves};
pub use producers::PRODUCER_ID_BLOCK;
pub use topics::NEW_PARTITIONS_MAX;

/// The newest feature level that this binary knows. A cluster uses the level that it was formed with until it is
/// raised; a broker that knows less than the cluster uses is refused.
///
/// 1: the first. 2: brokers are drained, replicas spread and their number changed by the controller itself.
pub const FEATURE_LEVEL: u32 = 2;

/// The level from which on the controller moves replicas by itself.
const MOVES_LEVEL: u32 = 2;

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The newest metadata.
    pub image: &'a Image,
    /// Who has been heard from.
    pub liveness: &'a Liveness,
    /// The leader's own configuration file.
    pub settings: &'a Settings,
    /// The time.
    pub now: Now,
    /// A number that was never used before: topic ids and the rotation of placements come from it.
    pub entropy: u128,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to propose; nothing when the command changes nothing.
    pub records: Vec<Record>,
    reply: Reply,
}

impl Decision {
    fn new(records: Vec<Record>, reply: Reply) -> Self {
        Self { records, reply }
    }

    /// The answer, to be given once the records are applied; `index` is that of their entry.
    pub fn reply(self, index: u64) -> Reply {
        match self.reply {
            // A registration is named after the entry that made it.
            Reply::Registered { .. } => Reply::Registered {
                epoch: BrokerEpoch(index),
            },
            reply => reply,
        }
    }
}

/// What becomes of a command.
pub fn decide(view: &View<'_>, command: &Command) -> Result<Decision, ControlError> {
    let mut decision = judge(view, command)?;
    let follows = elections::relaxed(view, &decision.records);
    decision.records.extend(follows);
    Ok(decision)
}

fn judge(view: &View<'_>, command: &Command) -> Result<Decision, ControlError> {
    match command {
        Command::RegisterBroker(request) => brokers::register(view, request),
        Command::Heartbeat(request) => brokers::heartbeat(view, request),
        Command::Suspect(request) => brokers::suspect(view, request),
        Command::Goodbye(request) => brokers::goodbye(view, request),
        Command::ReportLost(request) => brokers::report_lost(view, request),
        Command::Cordon(request) => moves::cordon(view, request),
        Command::Drain { id } => moves::drain(view, *id),
        Command::Rebalance { active } => moves::rebalance(view, *active),
        Command::RaiseFeatureLevel { level } => levels::raise(view, *level),
        Command::DescribeLevels => Ok(levels::describe(view)),
        Command::SetListeners { id, listeners } => listeners::set(view, *id, listeners),
        Command::ChangeReplicas(request) => moves::change_replicas(view, request),
        Command::AlterInSync(request) => in_sync::alter(view, request),
        Command::ElectLeaders(request) => Ok(leaders::elect(view, request)),
        Command::Reassign(request) => Ok(reassign::reassign(view, request)),
        Command::CreateTopics(request) => Ok(topics::create(view, request)),
        Command::CreatePartitions(request) => Ok(topics::grow(view, request)),
        Command::DeleteTopics(request) => Ok(topics::delete(view, request)),
        Command::AlterConfigs(request) => Ok(configs::alter(view, request)),
        Command::AlterQuotas(request) => Ok(quotas::alter(view, request)),
        Command::UnregisterBroker { id } => brokers::unregister(view, *id),
        Command::AllocateProducerIds(request) => producers::allocate(view, request),
        Command::EnsureInternalTopic { name } => Ok(topics::ensure_internal(view, name)),
    }
}
