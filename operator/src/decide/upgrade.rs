//! Upgrades, and the way back.
//!
//! A newer image comes with the feature level that the cluster has: brokers of both may run beside one another, and the older one may come
//! back. When all brokers have run what is wanted, and known the newer level, and been healthy for `spec.upgrade.finalizeAfterSeconds` without
//! a break, the level is raised. There is no way back then: an image that is known not to know the level is refused, and what runs stays.
//!
//! *Without a break* means in what was seen: what nobody looked at for a minute does not count, so that an operator that was away
//! begins to count anew. When it began is remembered by whoever calls, and lost with it; that makes it later, never sooner.
//!
//! What an image knows is learned from the brokers that run it, and kept on the StatefulSet ([`Known`]). One that no broker of the cluster ever ran
//! is tried with one broker: the others do not let it in, the roll goes no further, and what it knows is in the message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decide::cluster::Step;
use crate::decide::gates::{self, Blocked};
use crate::world::{BrokerId, Levels, Look, Process};

/// Gate: the image that is asked for does not know what the cluster uses.
pub const REFUSED: &str = "DowngradeRefused";
/// Gate: everything is as it should be, and has to stay so for a while.
pub const WAITS: &str = "FinalizeWaits";

/// Looks that are further apart do not show that nothing happened between them. Passes come each minute at the latest, and much more often while
/// a level waits.
const LOOKS_APART_MAX_S: i64 = 60;

/// Images whose level is remembered: more than anybody goes back.
const IMAGES_MAX: usize = 8;

/// Since when everything has been as it should be, and when that was seen last. In seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healthy {
    /// The first look of those that follow one another closely.
    pub since_s: i64,
    /// The last.
    pub seen_s: i64,
}

/// What is known of levels when no broker answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The level that the cluster uses.
    pub level: u32,
    /// The newest level that images know, the one that was learned of last at the end.
    pub images: Vec<(String, u32)>,
}

impl Known {
    /// What was kept; `None` when it cannot be read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As it is kept; `None` while nothing is known.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// What is known after a look; `image` is what brokers with this hash run.
    #[must_use]
    pub fn learn(
        &self,
        image: &str,
        hash: &str,
        processes: &BTreeMap<BrokerId, Process>,
        look: Option<&Look>,
    ) -> Self {
        let mut known = self.clone();
        // A level never falls, and one that may be old would have it fall.
        let Some(look) = look.filter(|look| look.is_confirmed()) else {
            return known;
        };
        known.level = look.feature_level;
        let runs_it = |broker: &BrokerId| {
            processes.get(broker).is_some_and(|process| {
                process.ready && !process.leaving && process.hash.as_deref() == Some(hash)
            })
        };
        let levels = look.levels.iter().flat_map(|levels| &levels.newest);
        let told = levels
            .filter(|(broker, _)| runs_it(broker))
            .map(|(_, level)| *level);
        // A tag that was moved may have brought two builds under one name.
        if let Some(level) = told.min()
            && known.of(image) != Some(level)
        {
            known.images.retain(|(known, _)| known != image);
            known.images.push((image.to_owned(), level));
            let beyond = known.images.len().saturating_sub(IMAGES_MAX);
            known.images.drain(..beyond);
        }
        known
    }

    fn of(&self, image: &str) -> Option<u32> {
        let mut images = self.images.iter();
        images
            .find(|(known, _)| known == image)
            .map(|(_, level)| *level)
    }

    fn is_too_old(&self, image: &str) -> bool {
        self.of(image).is_some_and(|level| level < self.level)
    }

    /// Why brokers may not run an image, and the one that they run instead: what they are set to run now, if that knows enough, or the last that is
    /// known to.
    #[must_use]
    pub fn refuse(&self, wanted: &str, now: Option<&str>) -> Option<(Blocked, String)> {
        if !self.is_too_old(wanted) {
            return None;
        }
        let mut learned = self.images.iter().rev();
        let last = learned
            .find(|(_, level)| *level >= self.level)
            .map(|(image, _)| image.as_str());
        let now = now.filter(|now| !self.is_too_old(now));
        let kept = now.or(last)?.to_owned();
        let blocked = Blocked {
            gate: REFUSED,
            message: format!(
                "image {wanted} knows feature levels up to {}, and this cluster uses level {}, from which there is no way back: no broker is \
                 changed, and they go on with {kept}. Set spec.version or spec.image to one that knows level {}",
                self.of(wanted).unwrap_or_default(),
                self.level,
                self.level
            ),
        };
        Some((blocked, kept))
    }
}

/// A level that may be raised, and what counts for that.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// How many brokers there are to be.
    pub brokers: u32,
    /// All processes.
    pub processes: &'a BTreeMap<BrokerId, Process>,
    /// Brokers that do not run what is wanted.
    pub outdated: &'a [BrokerId],
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
    /// Since when all has been well, as far as it was looked at.
    pub healthy: Option<Healthy>,
    /// For how long it has to be.
    pub finalize_after_s: i64,
    /// The time.
    pub now_s: i64,
}

/// The next level, and who knows it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The level.
    pub level: u32,
    /// Since when all has been well, this look included.
    since_s: i64,
    look: &'a Look,
    levels: &'a Levels,
    case: Case<'a>,
}

/// What becomes of the level.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Finalize {
    /// Raise it to this.
    pub raise: Option<u32>,
    /// Why it is not raised though brokers know a newer one.
    pub blocked: Option<Blocked>,
    /// To be remembered until the next look.
    pub healthy: Option<Healthy>,
    /// When it will be raised if nothing comes in between, in seconds since 1970.
    pub at_s: Option<i64>,
}

/// Decides whether the cluster is to use a newer level.
#[must_use]
pub fn finalize(case: &Case<'_>) -> Finalize {
    let Some((look, levels)) = case
        .look
        .and_then(|look| Some((look, look.levels.as_ref()?)))
    else {
        return Finalize::default();
    };
    let newest = levels.newest.values().max().copied().unwrap_or_default();
    if newest <= look.feature_level {
        return Finalize::default();
    }
    let goes_on = case.healthy.filter(|healthy| {
        (healthy.seen_s..=healthy.seen_s + LOOKS_APART_MAX_S).contains(&case.now_s)
    });
    let candidate = Candidate {
        level: newest,
        since_s: goes_on.map_or(case.now_s, |healthy| healthy.since_s),
        look,
        levels,
        case: *case,
    };
    let blocked = gates::first_no(gates::UPGRADE, |gate| gate(&candidate));
    let waits = blocked.as_ref().is_some_and(|no| no.gate == WAITS);
    let healthy = Healthy {
        since_s: candidate.since_s,
        seen_s: case.now_s,
    };
    Finalize {
        raise: blocked.is_none().then_some(newest),
        healthy: (waits || blocked.is_none()).then_some(healthy),
        at_s: waits.then(|| candidate.at_s()),
        blocked,
    }
}

impl Finalize {
    /// What is asked of the brokers.
    pub fn step(&self) -> Option<Step> {
        self.raise.map(|level| Step::RaiseFeatureLevel { level })
    }
}

impl Candidate<'_> {
    fn at_s(&self) -> i64 {
        self.since_s.saturating_add(self.case.finalize_after_s)
    }

    fn begins(&self) -> String {
        format!(
            "the brokers know feature level {}, and the cluster uses {} until ",
            self.level, self.look.feature_level
        )
    }
}

/// Brokers that are not let in, since they know less than the cluster uses.
#[must_use]
pub fn not_let_in(processes: &BTreeMap<BrokerId, Process>, look: Option<&Look>) -> Option<Blocked> {
    let look = look?;
    // Told of a broker that has come up since it was nothing any more.
    let is_away = |broker: &BrokerId| processes.get(broker).is_some_and(|process| !process.ready);
    let mut refused = look.levels.iter().flat_map(|levels| &levels.refused);
    let (broker, level) = refused.find(|(broker, _)| is_away(broker))?;
    Some(Blocked {
        gate: REFUSED,
        message: format!(
            "broker {broker} runs an image that knows feature levels up to {level}, and this cluster uses level {}, from which there is no way \
             back: the others do not let it in, and none of them is changed. Set spec.version or spec.image to one that knows level {}",
            look.feature_level, look.feature_level
        ),
    })
}

/// Gate: brokers are being restarted, or are not there.
pub(super) fn restarts_pending(candidate: &Candidate<'_>) -> Option<String> {
    let case = &candidate.case;
    let is_there = |broker: &BrokerId| {
        let process = case.processes.get(broker);
        process.is_some_and(|process| process.ready && !process.leaving)
    };
    let missing = (0..case.brokers).map(BrokerId).filter(|id| !is_there(id));
    let (missing, outdated) = (missing.count(), case.outdated.len());
    (missing > 0 || outdated > 0).then(|| {
        format!(
            "{}all run what is wanted and are ready: {outdated} of {} are to be restarted, {missing} are not ready",
            candidate.begins(),
            case.brokers
        )
    })
}

/// Gate: a broker is registered that does not know the level, or has not said.
pub(super) fn not_known_to_all(candidate: &Candidate<'_>) -> Option<String> {
    let knows = |broker: &BrokerId| {
        let level = candidate.levels.newest.get(broker);
        level.is_some_and(|level| *level >= candidate.level)
    };
    let broker = candidate.look.brokers.keys().find(|id| !knows(id))?;
    let what = match candidate.levels.newest.get(broker) {
        Some(level) => format!("broker {broker} knows levels up to {level}"),
        None => format!("broker {broker} has not said what it knows"),
    };
    Some(format!("{}all know it: {what}", candidate.begins()))
}

/// Gate: something is not as it should be.
pub(super) fn unhealthy(candidate: &Candidate<'_>) -> Option<String> {
    let look = candidate.look;
    let away = look.brokers.values().filter(|broker| !broker.alive).count();
    let sum = |count: fn(&crate::world::TopicSeen) -> u32| -> u64 {
        look.topics
            .values()
            .map(|topic| u64::from(count(topic)))
            .sum()
    };
    let offline = sum(|topic| topic.offline_partitions);
    let short = sum(|topic| topic.under_replicated_partitions);
    (away > 0 || offline > 0 || short > 0).then(|| {
        format!(
            "{}it has been healthy for {} s: {away} brokers are away, {offline} partitions have no leader, {short} lack replicas in sync",
            candidate.begins(),
            candidate.case.finalize_after_s
        )
    })
}

/// Gate: it has not been so for long enough.
pub(super) fn waits(candidate: &Candidate<'_>) -> Option<String> {
    let at_s = candidate.at_s();
    (candidate.case.now_s < at_s).then(|| {
        let at = Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string());
        format!(
            "{}{at}, if it stays healthy. An older version is accepted as long; then there is no way back",
            candidate.begins()
        )
    })
}

#[cfg(test)]
mod tests;
