//! The Kubernetes around the brokers, and the operator's hands. At each write is checked what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::brokers::{Brokers, NEWEST};
use crate::act::lost;
use crate::decide::cluster::{self, Decision, Step, decide};
use crate::decide::upgrade::Healthy;
use crate::decide::volumes::Claim;
use crate::names;
use crate::objects::{self, Existing};
use crate::quantity::Quantity;
use crate::testing;
use crate::validate::{AutoGrow, Cluster, Image};
use crate::world::{BrokerId, Disk, Home, Look, NodeState, Process};

/// The image with which no broker starts.
const BAD: usize = 2;

/// What of the configuration changes, as the file and as the brokers name it. Brokers are told while they run, so it is in no file.
const KEY: (&str, &str) = ("segment.ms", "log.roll.ms");

/// How volumes grow by themselves, and to how much: more than anybody asks for.
const GROWS_FROM_PERCENT: u32 = 80;
const GROWS_BY: &str = "10Gi";
const GROWS_TO: &str = "60Gi";

/// As many looks as the oldest answer is old.
const LOOKS: usize = 3;

pub(super) struct World {
    /// What the person wants.
    pub(super) spec: Cluster,
    /// What the brokers are.
    pub(super) brokers: Brokers,
    /// Whether the operator can ask them.
    pub(super) reachable: bool,
    objects: BTreeMap<(String, String), Value>,
    claims: BTreeMap<BrokerId, Claim>,
    pods: BTreeMap<BrokerId, Process>,
    /// The newest last.
    looks: Vec<Look>,
    /// Brokers that served when the operator took them away, and that are not back.
    taken: BTreeSet<BrokerId>,
    /// What has become of the node that a broker's volume lies on; each has one of its own.
    nodes: BTreeMap<BrokerId, NodeState>,
    /// The broker whose volume was thrown away last, until it has everything again.
    healing: Option<BrokerId>,
    /// Claims made so far.
    made: u32,
    /// Bytes that are used of the volumes of claims, by uid.
    used: BTreeMap<String, u64>,
    now_s: i64,
    /// What the operator remembers, as long as it lives.
    healthy: Option<Healthy>,
    /// The operator has seen all as it is, and has written what comes of that.
    pub(super) is_seen: bool,
}

impl World {
    /// A cluster of so many brokers that is as it should be.
    pub(super) fn of(brokers: u32) -> Self {
        let mut spec = Cluster {
            replicas: brokers,
            image: image(0),
            ..testing::cluster()
        };
        spec.storage.auto_grow = Some(AutoGrow {
            threshold_percent: GROWS_FROM_PERCENT,
            step: quantity(GROWS_BY),
            maximum: quantity(GROWS_TO),
            maximum_text: GROWS_TO.into(),
        });
        let seen = testing::converged(&spec);
        let mut world = Self {
            spec,
            brokers: Brokers::default(),
            reachable: true,
            objects: seen.objects,
            claims: seen.claims,
            pods: seen.processes,
            looks: Vec::new(),
            taken: BTreeSet::new(),
            nodes: BTreeMap::new(),
            healing: None,
            made: 0,
            used: BTreeMap::new(),
            now_s: testing::made_at_s(),
            healthy: None,
            is_seen: false,
        };
        for (broker, claim) in &world.claims {
            world.brokers.join(*broker, &claim.uid, level_of(0));
        }
        while world.brokers.act() {}
        world.brokers.create_own(own_replicas(brokers));
        world.looks.push(world.brokers.look());
        world
    }

    pub(super) fn want_image(&mut self, number: usize) {
        self.spec.image = image(number);
    }

    /// The person asks for volumes of another size.
    pub(super) fn want_size(&mut self, size: &str) {
        size.clone_into(&mut self.spec.storage.size);
        self.spec.storage.amount = quantity(size);
    }

    /// The person says something else of [`KEY`], or nothing any more.
    pub(super) fn want_config(&mut self, value: Option<u32>) {
        let topics = &mut self.spec.settings.topics;
        match value {
            Some(value) => drop(topics.insert(KEY.0, value.to_string())),
            None => drop(topics.remove(KEY.0)),
        }
    }

    /// Whether the brokers have what the person says of [`KEY`].
    pub(super) fn is_configured(&self) -> bool {
        self.brokers.config().get(KEY.1) == self.spec.settings.topics.get(KEY.0)
    }

    /// A disk fills up, as far as volumes may grow to make room.
    pub(super) fn fill(&mut self, broker: u32) {
        if let Some(claim) = self.claims.get(&BrokerId(broker)) {
            let (has, most) = (bytes(&claim.capacity), bytes(GROWS_TO));
            let used = (has / 100 * 85).min(most / 100 * 75);
            self.used.insert(claim.uid.clone(), used);
        }
    }

    /// What brokers say of their disks.
    fn disks(&self) -> BTreeMap<BrokerId, Disk> {
        let ready = self.pods.iter().filter(|(_, pod)| pod.ready);
        let disks = ready.filter_map(|(broker, _)| {
            let claim = self.claims.get(broker)?;
            let total_bytes = bytes(&claim.capacity);
            let used = self.used.get(&claim.uid).copied().unwrap_or(0);
            let disk = Disk {
                total_bytes,
                available_bytes: total_bytes.saturating_sub(used),
            };
            Some((*broker, disk))
        });
        disks.collect()
    }

    /// Whether every broker that there is has a volume as large as is asked for, and room in it.
    pub(super) fn have_room(&self) -> bool {
        let size = self.size();
        let there = self.claims.iter().filter(|(broker, _)| broker.0 < size);
        let mut claims = there.map(|(_, claim)| claim);
        claims.all(|claim| {
            let has = bytes(&claim.capacity);
            let used = self.used.get(&claim.uid).copied().unwrap_or(0);
            claim.capacity == claim.requested
                && quantity(&claim.capacity) >= self.spec.storage.amount
                && used < has / 100 * u64::from(GROWS_FROM_PERCENT)
        })
    }

    /// What the operator sees; the brokers' answer may be some looks old.
    pub(super) fn observed(&mut self, age: usize) -> cluster::World {
        let is_whole = |broker: &BrokerId| {
            self.brokers.is_up(*broker) && self.brokers.out_of_sync(*broker) == 0
        };
        // What it gets from here on is as with any other.
        self.healing = self.healing.filter(|broker| !is_whole(broker));
        self.looks.push(self.brokers.look());
        if self.looks.len() > LOOKS {
            self.looks.remove(0);
        }
        let at = self.looks.len().saturating_sub(1 + age);
        let answers = self.reachable && self.pods.values().any(|pod| pod.ready);
        cluster::World {
            objects: self.objects.clone(),
            taken: BTreeSet::new(),
            claims: self.claims.clone(),
            processes: self.pods.clone(),
            look: answers.then(|| self.looks[at].clone()),
            disks: if answers {
                self.disks()
            } else {
                BTreeMap::new()
            },
            homes: self.homes(),
            hosts: BTreeMap::new(),
            now_s: self.now_s,
            healthy: self.healthy,
        }
    }

    /// Seconds pass.
    pub(super) fn time(&mut self, seconds: i64) {
        self.now_s += seconds;
    }

    /// Whether a newer level waits for its time, or that has come.
    pub(super) fn finalizes(&mut self) -> bool {
        let decision = self.plan(0);
        let raises = |step: &Step| matches!(step, Step::RaiseFeatureLevel { .. });
        decision.finalizes_at_s.is_some() || decision.plan.steps.iter().any(raises)
    }

    pub(super) fn plan(&mut self, age: usize) -> Decision {
        let seen = self.observed(age);
        decide(&self.spec, &seen).unwrap()
    }

    /// A pass on what a broker says that is cut off from the others: some looks old, and without a controller. It takes no broker away that serves.
    pub(super) fn cut_off_pass(&mut self, age: usize) {
        let mut seen = self.observed(age);
        if let Some(look) = &mut seen.look {
            (look.controller, look.levels) = (None, None);
        }
        let decision = decide(&self.spec, &seen).unwrap();
        let serving = decision.plan.steps.iter().find(
            |step| matches!(step, Step::RestartBroker { broker, .. } if self.pods[broker].ready),
        );
        assert_eq!(serving, None, "by what may be old");
        self.healthy = decision.healthy;
        let (_, is_written) = self.carry_out(&decision, false, None);
        // Evictions are held, so there is nothing that it would have to know.
        self.is_seen = seen.look.is_some() && is_written;
    }

    /// One pass; returns how many steps were taken.
    pub(super) fn pass(&mut self, age: usize, killed_after: Option<usize>) -> usize {
        let decision = self.plan(age);
        self.healthy = decision.healthy.filter(|_| killed_after.is_none());
        let restarts = |step: &&Step| matches!(step, Step::RestartBroker { .. });
        assert!(decision.plan.steps.iter().filter(restarts).count() <= 1);
        let (written, is_written) = self.carry_out(&decision, age == 0, killed_after);
        self.is_seen = age == 0 && self.reachable && is_written;
        written
    }

    /// Takes steps; returns how many were taken, and whether all were, and were writes.
    fn carry_out(
        &mut self,
        decision: &Decision,
        is_fresh: bool,
        killed_after: Option<usize>,
    ) -> (usize, bool) {
        let mut written = 0;
        for step in &decision.plan.steps {
            if killed_after == Some(written) {
                break;
            }
            match self.take(step, is_fresh) {
                Ok(()) => written += 1,
                Err(_) if step.holds_up_nothing() => {}
                Err(_) => break,
            }
        }
        let applies = |step: &Step| matches!(step, Step::Apply { .. });
        let is_done = written == decision.plan.steps.len();
        (written, is_done && decision.plan.steps.iter().all(applies))
    }

    /// Kubernetes' eviction of a pod that is ready, as far as the disruption budget lets it.
    pub(super) fn evict(&mut self, broker: u32) {
        let broker = BrokerId(broker);
        let serves = |pod: &&Process| pod.ready && !pod.leaving;
        let at = (
            "PodDisruptionBudget".to_owned(),
            names::brokers(&self.spec.key.name),
        );
        let unavailable = self.objects[&at]["spec"]["maxUnavailable"]
            .as_u64()
            .unwrap();
        let ready = self.pods.values().filter(serves).count() as u64;
        let is_allowed = ready + unavailable > u64::from(self.size());
        if !is_allowed || self.pods.get(&broker).filter(serves).is_none() {
            return;
        }
        if self.is_seen {
            let needing = self.brokers.needing(broker);
            assert_eq!(
                needing, 0,
                "partitions need broker {broker}, and it is evicted"
            );
        }
        self.is_seen = false;
        self.stop(broker);
    }

    fn take(&mut self, step: &Step, is_fresh: bool) -> Result<(), String> {
        match step {
            Step::Apply { child, .. } => {
                if child.resource.kind == "StatefulSet" {
                    self.may_become(&child.content);
                }
                let at = (child.resource.kind.clone(), child.name.clone());
                self.objects.insert(at, child.content.clone());
            }
            Step::RestartBroker { broker, .. } => self.restart(*broker, is_fresh),
            Step::DeleteLostVolume { broker, .. } => self.throw_away(*broker),
            Step::ProveLost { .. } if !self.reachable => return Err("unreachable".into()),
            Step::ProveLost {
                broker,
                incarnation,
                gives_up,
                ..
            } => {
                self.brokers.controller().ok_or("no controller")?;
                lost(&self.brokers.look(), *broker, incarnation, *gives_up)?;
            }
            Step::DeleteLostPod { broker, .. } => {
                assert!(!self.pods[broker].ready, "broker {broker} serves");
                assert!(self.claims[broker].leaving, "its volume is not lost");
                self.pods.remove(broker);
                // A pod that is made anew has no node before it has a volume, and holds up nothing.
                self.claims.remove(broker);
            }
            Step::MarkVolume { broker, .. } => self.claim(*broker).released = true,
            Step::KeepVolume { broker, .. } => self.claim(*broker).released = false,
            Step::DeleteVolume { broker, .. } => {
                assert!(
                    self.spec.storage.deletes_on_scale_down,
                    "nobody asked for that"
                );
                assert!(self.brokers.holds(broker.0) == 0 && !self.brokers.is_registered(*broker));
                assert!(!self.pods.contains_key(broker), "it is in use");
                self.claims.remove(broker);
            }
            Step::GrowVolume {
                broker, from, to, ..
            } => {
                let claim = self.claim(*broker);
                assert!(claim.bound, "its size cannot change yet");
                assert_eq!(claim.requested, *from);
                assert!(quantity(to) > quantity(from), "nothing shrinks");
                to.clone_into(&mut claim.requested);
            }
            Step::Issue { .. } | Step::SetListeners { .. } | Step::DeleteService { .. } => {
                unreachable!("{step:?}")
            }
            _ if !self.reachable => return Err("unreachable".into()),
            Step::Configure { set, unset } => self.brokers.configure(set, unset)?,
            Step::Drain { brokers } => self.brokers.drain(brokers, true)?,
            Step::CancelDrain { brokers } => self.brokers.drain(brokers, false)?,
            Step::Replicate { topics, replicas } => self.brokers.replicate(topics, *replicas)?,
            Step::Rebalance { .. } => self.brokers.rebalance()?,
            Step::Unregister { brokers } => self.brokers.unregister(brokers)?,
            Step::RaiseFeatureLevel { level } => {
                let hash = self.hash_of("image-0");
                let newest = |pod: &Process| pod.hash.as_ref() == Some(&hash);
                assert!(
                    !is_fresh || self.pods.values().all(newest),
                    "somebody runs another image"
                );
                self.brokers.raise(*level)?;
            }
            Step::ProveEmpty { brokers } => {
                self.brokers.drain(brokers, true)?;
                let look = self.brokers.look();
                if brokers.iter().any(|broker| !look.is_empty(*broker)) {
                    return Err("not empty".into());
                }
            }
        }
        Ok(())
    }

    /// A volume may be thrown away only when it is lost, nobody else's is on its way, and no data goes that a person did not give up.
    fn throw_away(&mut self, broker: BrokerId) {
        let disk = self.claims[&broker].uid.clone();
        let word = format!("{broker}@{disk}");
        let mut words = self
            .spec
            .declared_lost
            .as_deref()
            .unwrap_or_default()
            .split(',');
        let is_declared = words.any(|one| one == word);
        let is_gone = self.node(broker) == NodeState::Gone;
        assert!(is_gone || is_declared, "nothing proves that {word} is lost");
        assert!(!self.brokers.is_up(broker), "broker {broker} is alive");
        let had = self.brokers.disk(broker) == Some(disk.as_str());
        let last = self.brokers.last_copies(broker);
        assert!(
            !had || last == 0 || is_declared,
            "the last copy of {last} partitions"
        );
        let others = self.healing.filter(|healing| {
            let is_up = self.brokers.is_up(*healing);
            // One that was scaled away is nobody's to wait for.
            let counts = self.claims.contains_key(healing) && healing.0 < self.size();
            let is_whole = is_up && (is_declared || self.brokers.out_of_sync(*healing) == 0);
            *healing != broker && counts && !is_whole
        });
        assert_eq!(others, None, "broker {broker} beside another");
        self.healing = Some(broker);
        self.claim(broker).leaving = true;
    }

    fn node(&self, broker: BrokerId) -> NodeState {
        let state = self.nodes.get(&broker);
        state.copied().unwrap_or(NodeState::Ready)
    }

    fn homes(&self) -> BTreeMap<BrokerId, Home> {
        let is_ready = |broker: &BrokerId| self.pods.get(broker).is_some_and(|pod| pod.ready);
        let missing = self.claims.keys().filter(|broker| !is_ready(broker));
        let home = |broker: &BrokerId| {
            let home = Home::On {
                names: vec![format!("node-of-{broker}")],
                state: self.node(*broker),
            };
            (*broker, home)
        };
        missing.map(home).collect()
    }

    /// A node stops answering, with the pod on it.
    pub(super) fn node_down(&mut self, broker: u32) {
        if self.claims.contains_key(&BrokerId(broker))
            && self.node(BrokerId(broker)) != NodeState::Gone
        {
            self.nodes.insert(BrokerId(broker), NodeState::Unreachable);
            self.crash(broker);
        }
    }

    /// It is there again, with its disk.
    pub(super) fn node_up(&mut self, broker: u32) {
        if self.node(BrokerId(broker)) == NodeState::Unreachable {
            self.nodes.remove(&BrokerId(broker));
        }
    }

    /// It is gone with its disk, and its Node object too; not so many at once that nobody could decide anything any more.
    pub(super) fn node_gone(&mut self, broker: u32) {
        let broker = BrokerId(broker);
        let gone = self.nodes.keys().copied().collect();
        let leaves = self.brokers.can_do_without(broker, &gone);
        if self.claims.contains_key(&broker) && leaves {
            self.nodes.insert(broker, NodeState::Gone);
            self.crash(broker.0);
        }
    }

    /// A person says that the disks are lost of all whose node does not answer, and gives up what is on those that are gone.
    pub(super) fn declare(&mut self) {
        let words = self.nodes.keys().filter_map(|broker| {
            let disk = self.brokers.disk(*broker)?;
            Some(format!("{broker}@{disk}"))
        });
        self.spec.declared_lost = Some(words.collect::<Vec<_>>().join(","));
    }

    /// Whether a broker that there is to be lies on a node that is not there.
    pub(super) fn someone_is_away(&self) -> bool {
        let size = self.size();
        self.nodes.keys().any(|broker| broker.0 < size)
    }

    /// All nodes that still can come back do.
    pub(super) fn nodes_up(&mut self) {
        self.nodes.retain(|_, state| *state == NodeState::Gone);
    }

    fn claim(&mut self, broker: BrokerId) -> &mut Claim {
        self.claims.get_mut(&broker).unwrap()
    }

    /// The set may lose only brokers that hold nothing.
    fn may_become(&self, set: &Value) {
        let (before, after) = (self.size(), Existing::of(Some(set)).replicas.unwrap());
        for broker in (after..before).map(BrokerId) {
            let held = self.brokers.holds(broker.0);
            assert_eq!(held, 0, "broker {broker} is removed with {held} replicas");
            assert!(
                !self.brokers.is_voter(broker),
                "broker {broker} is removed and votes"
            );
        }
    }

    fn restart(&mut self, broker: BrokerId, is_fresh: bool) {
        let serves = self.pods[&broker].ready;
        // One that is no longer part of the cluster is missed by nobody.
        let size = self.size();
        self.taken.retain(|taken| taken.0 < size);
        if serves {
            assert_eq!(self.taken, BTreeSet::new(), "one at a time");
            let needing = self.brokers.needing(broker);
            assert!(
                !is_fresh || needing == 0,
                "{needing} partitions need broker {broker}"
            );
            self.taken.insert(broker);
        }
        self.stop(broker);
    }

    fn stop(&mut self, broker: BrokerId) {
        if let Some(pod) = self.pods.get_mut(&broker) {
            (pod.ready, pod.leaving) = (false, true);
            self.brokers.leave(broker);
        }
    }

    fn size(&self) -> u32 {
        let at = (
            "StatefulSet".to_owned(),
            names::brokers(&self.spec.key.name),
        );
        Existing::of(self.objects.get(&at)).replicas.unwrap_or(0)
    }

    /// The StatefulSet controller: parallel, on delete.
    pub(super) fn controller(&mut self) {
        let (size, hash) = (self.size(), self.hash());
        let beyond: Vec<BrokerId> = self
            .pods
            .keys()
            .copied()
            .filter(|pod| pod.0 >= size)
            .collect();
        beyond.into_iter().for_each(|broker| self.stop(broker));
        for broker in (0..size).map(BrokerId) {
            self.pods.entry(broker).or_insert_with(|| Process {
                hash: Some(hash.clone()),
                ready: false,
                leaving: false,
            });
            if self.claims.contains_key(&broker) {
                continue;
            }
            self.made += 1;
            let claim = Claim {
                name: names::claim("shop", broker),
                bound: true,
                requested: "10Gi".into(),
                capacity: "10Gi".into(),
                uid: format!("later-{}", self.made),
                ..Claim::default()
            };
            self.claims.insert(broker, claim);
            // On a node that is there.
            self.nodes.remove(&broker);
        }
    }

    /// The hash of pods with an image. What brokers are told while they run is not in it.
    fn hash_of(&self, image: &str) -> String {
        let mut spec = self.spec.clone();
        spec.settings.topics.remove(KEY.0);
        objects::pod_hash(&spec, image)
    }

    /// The hash in the set's template.
    fn hash(&self) -> String {
        let at = (
            "StatefulSet".to_owned(),
            names::brokers(&self.spec.key.name),
        );
        let template = &self.objects[&at]["spec"]["template"]["metadata"]["annotations"];
        template[names::POD_HASH_ANNOTATION]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// One pod becomes ready, those that are leaving are gone, and one volume grows.
    pub(super) fn kubelet(&mut self) {
        let grows = |claim: &&mut Claim| claim.capacity != claim.requested;
        if let Some(claim) = self.claims.values_mut().find(grows) {
            claim.capacity.clone_from(&claim.requested);
        }
        let nodes = &self.nodes;
        // Nobody answers for a pod whose node does not; one whose Node object is gone Kubernetes removes.
        self.pods.retain(|broker, pod| {
            !pod.leaving || nodes.get(broker) == Some(&NodeState::Unreachable)
        });
        let pods = &self.pods;
        self.claims
            .retain(|broker, claim| !claim.leaving || pods.contains_key(broker));
        let bad = self.hash_of(&format!("image-{BAD}"));
        let claims = &self.claims;
        let starts = |broker: &BrokerId, pod: &Process| {
            let has_disk = claims.get(broker).is_some_and(|claim| !claim.leaving);
            let is_good = pod.hash.as_deref() != Some(bad.as_str());
            !pod.ready && !pod.leaving && is_good && has_disk && !nodes.contains_key(broker)
        };
        let old = self.hash_of("image-1");
        let known = |pod: &Process| level_of(usize::from(pod.hash.as_ref() == Some(&old)));
        for (broker, pod) in &mut self.pods {
            if !starts(broker, pod) {
                continue;
            }
            let disk = &self.claims[broker].uid;
            // One that is not let in does not keep others from coming up.
            if self.brokers.join(*broker, disk, known(pod)) {
                pod.ready = true;
                self.taken.remove(broker);
                break;
            }
        }
        // What will never start, or has gone for good, is nobody's to wait for.
        let (pods, size) = (&self.pods, self.size());
        let never = |broker: &BrokerId| {
            pods.get(broker)
                .is_some_and(|pod| pod.hash.as_deref() == Some(bad.as_str()))
        };
        let taken = std::mem::take(&mut self.taken).into_iter();
        self.taken = taken
            .filter(|broker| broker.0 < size && !never(broker))
            .collect();
    }

    pub(super) fn crash(&mut self, broker: u32) {
        let broker = BrokerId(broker);
        if let Some(pod) = self.pods.get_mut(&broker) {
            pod.ready = false;
            self.brokers.leave(broker);
        }
    }

    pub(super) fn scale_by_hand(&mut self, replicas: u32) {
        let at = (
            "StatefulSet".to_owned(),
            names::brokers(&self.spec.key.name),
        );
        self.objects.get_mut(&at).unwrap()["spec"]["replicas"] = json!(replicas);
    }

    pub(super) fn pods_ready(&self) -> u32 {
        u32::try_from(self.pods.values().filter(|pod| pod.ready).count()).unwrap()
    }

    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    pub(super) fn all_run(&self, image: &str) -> bool {
        let hash = self.hash_of(image);
        self.pods
            .values()
            .all(|pod| pod.hash.as_ref() == Some(&hash))
    }

    /// What changes while anything is on its way.
    pub(super) fn fingerprint(
        &self,
    ) -> (
        Brokers,
        BTreeMap<BrokerId, Process>,
        BTreeMap<BrokerId, Claim>,
    ) {
        (self.brokers.clone(), self.pods.clone(), self.claims.clone())
    }
}

/// How many replicas the brokers' own topics have in a cluster that began with so many brokers.
pub(super) fn own_replicas(brokers: u32) -> usize {
    brokers.min(3) as usize
}

/// The newest feature level that an image knows.
fn level_of(image: usize) -> u32 {
    NEWEST - u32::from(image > 0)
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

/// As Kubernetes writes them here.
fn bytes(size: &str) -> u64 {
    let gib: u64 = size.strip_suffix("Gi").unwrap().parse().unwrap();
    gib << 30
}

fn image(number: usize) -> Image {
    Image::Named(format!("image-{number}"))
}
