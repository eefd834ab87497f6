//! The Kubernetes around the brokers, and the operator's hands. At each write is checked what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::brokers::Brokers;
use crate::decide::cluster::{self, Decision, Step, decide};
use crate::decide::volumes::Claim;
use crate::names;
use crate::objects::{self, Existing};
use crate::testing;
use crate::validate::{Cluster, Image};
use crate::world::{BrokerId, Look, Process};

/// The image with which no broker starts.
const BAD: usize = 2;

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
}

impl World {
    /// A cluster of so many brokers that is as it should be.
    pub(super) fn of(brokers: u32) -> Self {
        let spec = Cluster {
            replicas: brokers,
            image: image(0),
            ..testing::cluster()
        };
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
        };
        world
            .pods
            .keys()
            .for_each(|broker| world.brokers.join(*broker));
        while world.brokers.act() {}
        world.looks.push(world.brokers.look());
        world
    }

    pub(super) fn want_image(&mut self, number: usize) {
        self.spec.image = image(number);
    }

    /// What the operator sees; the brokers' answer may be some looks old.
    pub(super) fn observed(&mut self, age: usize) -> cluster::World {
        self.looks.push(self.brokers.look());
        if self.looks.len() > LOOKS {
            self.looks.remove(0);
        }
        let at = self.looks.len().saturating_sub(1 + age);
        let answers = self.reachable && self.pods.values().any(|pod| pod.ready);
        cluster::World {
            objects: self.objects.clone(),
            claims: self.claims.clone(),
            processes: self.pods.clone(),
            look: answers.then(|| self.looks[at].clone()),
            disks: BTreeMap::new(),
            now_s: testing::made_at_s(),
        }
    }

    pub(super) fn plan(&mut self, age: usize) -> Decision {
        let seen = self.observed(age);
        decide(&self.spec, &seen).unwrap()
    }

    /// One pass; returns how many steps were taken.
    pub(super) fn pass(&mut self, age: usize, killed_after: Option<usize>) -> usize {
        let decision = self.plan(age);
        let restarts = |step: &&Step| matches!(step, Step::RestartBroker { .. });
        assert!(decision.plan.steps.iter().filter(restarts).count() <= 1);
        let mut written = 0;
        for step in &decision.plan.steps {
            if killed_after == Some(written) || self.take(step, age == 0).is_err() {
                break;
            }
            written += 1;
        }
        written
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
            Step::GrowVolume { .. } | Step::Issue { .. } => unreachable!("{step:?}"),
            _ if !self.reachable => return Err("unreachable".into()),
            Step::Drain { brokers } => self.brokers.drain(brokers, true)?,
            Step::CancelDrain { brokers } => self.brokers.drain(brokers, false)?,
            Step::Rebalance { .. } => self.brokers.rebalance()?,
            Step::Unregister { brokers } => self.brokers.unregister(brokers)?,
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
            self.claims.entry(broker).or_insert_with(|| Claim {
                name: names::claim("shop", broker),
                bound: true,
                requested: "10Gi".into(),
                capacity: "10Gi".into(),
                notes: Vec::new(),
                released: false,
            });
        }
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

    /// One pod becomes ready, and those that are leaving are gone.
    pub(super) fn kubelet(&mut self) {
        self.pods.retain(|_, pod| !pod.leaving);
        let bad = objects::pod_hash(&self.spec, &format!("image-{BAD}"));
        let starts = |pod: &Process| !pod.ready && pod.hash.as_deref() != Some(bad.as_str());
        if let Some((broker, pod)) = self.pods.iter_mut().find(|(_, pod)| starts(pod)) {
            pod.ready = true;
            self.taken.remove(broker);
            self.brokers.join(*broker);
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
        let hash = objects::pod_hash(&self.spec, image);
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

fn image(number: usize) -> Image {
    Image::Named(format!("image-{number}"))
}
