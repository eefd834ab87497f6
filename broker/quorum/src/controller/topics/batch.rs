//! A batch of topics in the making: each is checked on its own, and on what the ones before it came to.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::elections::can_lead;
use super::super::{Decision, View};
use super::NEW_PARTITIONS_MAX;
use crate::command::{MorePartitions, NewTopic, Reply, TopicOutcome, TopicResult};
use crate::configs::{
    Views, check_topic, cluster_number, in_sync_min, in_sync_min_of, source_of, topic_def,
};
use crate::error::{ControlError, ErrorName};
use crate::ids::{BrokerId, LeaderEpoch, PartitionEpoch, TopicId};
use crate::image::{Image, Topic};
use crate::placement::{Candidate, place};
use crate::record::{PartitionState, PartitionsAdded, PartitionsSet, Record, TopicCreated};
use crate::topics::{check_name, collision_key};

/// A batch in the making: what its earlier topics came to counts for the later ones.
pub(super) struct Batch<'a> {
    view: &'a View<'a>,
    /// The image with what the batch has come to so far.
    image: Image,
    records: Vec<Record>,
    candidates: Vec<Candidate>,
    /// Existing names by what they must not share; filled when first needed.
    collisions: Option<BTreeMap<String, String>>,
    /// Filled when first needed.
    views: Option<Views>,
    /// Views that have grown with what they are of.
    grown_along: BTreeSet<TopicId>,
    new_partitions: usize,
    drawn: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(view: &'a View<'a>) -> Self {
        let mut replicas: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for (_, _, partition) in view.image.partitions() {
            for id in &partition.replicas {
                *replicas.entry(*id).or_default() += 1;
            }
        }
        let candidates = view
            .image
            .brokers()
            .filter(|broker| !broker.cordoned)
            .map(|broker| Candidate {
                id: broker.id,
                rack: broker.rack.clone(),
                is_away: !broker.can_lead(),
                topic_leaders: 0,
                replicas: replicas.get(&broker.id).copied().unwrap_or(0),
            })
            .collect();
        Self {
            view,
            image: view.image.clone(),
            records: Vec::new(),
            candidates,
            collisions: None,
            views: None,
            grown_along: BTreeSet::new(),
            new_partitions: 0,
            drawn: 0,
        }
    }

    pub(super) fn finish(self, validate_only: bool, results: Vec<TopicResult>) -> Decision {
        let records = if validate_only {
            Vec::new()
        } else {
            self.records
        };
        Decision::new(records, Reply::Topics(results))
    }

    pub(super) fn create(
        &mut self,
        topic: &NewTopic,
    ) -> Result<(TopicId, TopicOutcome), ControlError> {
        check_name(&topic.name)?;
        if self.image.topic(&topic.name).is_some() {
            return Err(ControlError::new(
                ErrorName::TopicAlreadyExists,
                // Kafka's words, which its own tools print.
                format!("Topic '{}' already exists.", topic.name),
            ));
        }
        self.check_collision(&topic.name)?;
        let mut config = BTreeMap::new();
        for (key, value) in &topic.config {
            let def = topic_def(key)?;
            let value = def.normal(value);
            def.check(&value)?;
            config.insert(key.clone(), value);
        }
        check_topic(&config)?;
        let assignments = if topic.assignments.is_empty() {
            self.placed(topic)?
        } else {
            self.assigned(topic)?
        };
        self.check_views(&topic.name, &config, assignments.len())?;
        let id = TopicId(self.draw_uuid());
        let outcome = TopicOutcome {
            partitions: i32::try_from(assignments.len()).unwrap_or(i32::MAX),
            replication_factor: assignments
                .first()
                .map_or(0, |replicas| replicas.len() as i32),
        };
        let replicas = assignments.first().map_or(0, Vec::len);
        let source = source_of(&config).map(str::to_owned);
        let in_sync_min = in_sync_min_of(&self.image, self.view.settings, &config, replicas);
        let assignment_count = assignments.len();
        let partitions = self.partitions(id, 0, assignments, in_sync_min);
        let created = Record::TopicCreated(TopicCreated {
            name: topic.name.clone(),
            id,
            config,
        });
        let records = vec![created, partitions];
        self.take(records)?;
        if let Some(collisions) = &mut self.collisions {
            collisions.insert(collision_key(&topic.name), topic.name.clone());
        }
        if let (Some(views), Some(source)) = (&mut self.views, source) {
            views.add(&source, &topic.name, assignment_count);
        }
        Ok((id, outcome))
    }

    /// Whether a new topic fits with the views that there are, and, if it is one, with what it is of.
    fn check_views(
        &mut self,
        name: &str,
        config: &BTreeMap<String, String>,
        partitions: usize,
    ) -> Result<(), ControlError> {
        let image = &self.image;
        let views = self.views.get_or_insert_with(|| Views::of(image));
        views.check(image, name, config, partitions)
    }

    fn check_collision(&mut self, name: &str) -> Result<(), ControlError> {
        if !name.contains(['.', '_']) {
            return Ok(());
        }
        let image = &self.image;
        let collisions = self.collisions.get_or_insert_with(|| {
            image
                .topics()
                .map(|topic| (collision_key(&topic.name), topic.name.to_string()))
                .collect()
        });
        match collisions.get(&collision_key(name)) {
            Some(existing) => Err(ControlError::new(
                ErrorName::InvalidTopicException,
                format!(
                    "topic {name:?} collides with {existing:?}: '.' and '_' are the same in names of metrics"
                ),
            )),
            None => Ok(()),
        }
    }

    /// Replicas where the controller wants them.
    fn placed(&mut self, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, ControlError> {
        let partitions = match topic.partitions {
            Some(count) => i64::from(count),
            None => cluster_number(&self.image, self.view.settings, "num.partitions")?,
        };
        let partitions = self.check_partitions(partitions)?;
        let replication_factor = match topic.replication_factor {
            Some(count) => i64::from(count),
            None => cluster_number(
                &self.image,
                self.view.settings,
                "default.replication.factor",
            )?,
        };
        let replication_factor = check_replication_factor(replication_factor)?;
        for candidate in &mut self.candidates {
            candidate.topic_leaders = 0;
        }
        self.place(partitions, replication_factor)
    }

    fn place(
        &mut self,
        partitions: usize,
        replication_factor: usize,
    ) -> Result<Vec<Vec<BrokerId>>, ControlError> {
        let rotation = self.draw();
        place(&mut self.candidates, partitions, replication_factor, rotation).map_err(|_| {
            ControlError::new(
                ErrorName::InvalidReplicationFactor,
                format!(
                    "replication factor {replication_factor} is larger than the number of brokers that take new replicas: {}, \
                     of which {} are alive",
                    self.candidates.len(),
                    self.candidates.iter().filter(|candidate| !candidate.is_away).count()
                ),
            )
        })
    }

    /// Replicas where the client wants them.
    fn assigned(&self, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, ControlError> {
        if topic.partitions.is_some() || topic.replication_factor.is_some() {
            return Err(ControlError::new(
                ErrorName::InvalidRequest,
                "with an assignment of replicas, the numbers of partitions and replicas must both be -1",
            ));
        }
        if !topic
            .assignments
            .keys()
            .copied()
            .eq(0..i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))
        {
            return Err(ControlError::new(
                ErrorName::InvalidReplicaAssignment,
                "an assignment of replicas must name the partitions from 0 on without a gap",
            ));
        }
        self.check_partitions(i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX))?;
        let assignments: Vec<_> = topic.assignments.values().cloned().collect();
        self.check_assignments(&assignments, None)?;
        Ok(assignments)
    }

    fn check_partitions(&self, count: i64) -> Result<usize, ControlError> {
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                ControlError::new(
                    ErrorName::InvalidPartitions,
                    format!(
                        "{count} partitions; allowed is 1 or more, or -1 for the cluster's default"
                    ),
                )
            })?;
        if self.new_partitions + count > NEW_PARTITIONS_MAX {
            return Err(ControlError::new(
                ErrorName::PolicyViolation,
                format!(
                    "one request may create {NEW_PARTITIONS_MAX} partitions; ask for the rest in another"
                ),
            ));
        }
        Ok(count)
    }

    fn check_assignments(
        &self,
        assignments: &[Vec<BrokerId>],
        factor: Option<usize>,
    ) -> Result<(), ControlError> {
        let wrong = |message: String| {
            Err(ControlError::new(
                ErrorName::InvalidReplicaAssignment,
                message,
            ))
        };
        let factor = factor.or(assignments.first().map(Vec::len)).unwrap_or(0);
        for replicas in assignments {
            if replicas.is_empty() || replicas.len() != factor {
                return wrong(format!(
                    "{} replicas of one partition and {factor} of another",
                    replicas.len()
                ));
            }
            if let Some(unknown) = replicas.iter().find(|id| self.image.broker(**id).is_none()) {
                return wrong(format!("broker {unknown} is not registered"));
            }
            if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
                return wrong("a broker is named twice for one partition".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn grow(
        &mut self,
        more: &MorePartitions,
    ) -> Result<(TopicId, TopicOutcome), ControlError> {
        let Some(topic) = self.image.topic(&more.name).cloned() else {
            return Err(ControlError::new(
                ErrorName::UnknownTopicOrPartition,
                format!("topic {:?} does not exist", more.name),
            ));
        };
        let now = topic.partitions.len();
        let wanted = usize::try_from(more.count).unwrap_or(0);
        if wanted == now && self.grown_along.contains(&topic.id) {
            return Ok((topic.id, outcome(&topic, more.count)));
        }
        self.check_view_growth(&topic, wanted)?;
        if wanted <= now {
            return Err(ControlError::new(
                ErrorName::InvalidPartitions,
                format!(
                    "topic {:?} has {now} partitions; {} is not more: topics only grow",
                    more.name, more.count
                ),
            ));
        }
        let added = self.check_partitions(i64::try_from(wanted - now).unwrap_or(i64::MAX))?;
        let factor = topic.replication_factor();
        let assignments = match &more.assignments {
            Some(assignments) => {
                if assignments.len() != added {
                    return Err(ControlError::new(
                        ErrorName::InvalidReplicaAssignment,
                        format!(
                            "{added} partitions are added, and {} are assigned",
                            assignments.len()
                        ),
                    ));
                }
                self.check_assignments(assignments, Some(factor))?;
                assignments.clone()
            }
            None => self.place_beside(&topic, added)?,
        };
        let mut records = vec![self.added(&topic, assignments)];
        let image = &self.image;
        let views = self.views.get_or_insert_with(|| Views::of(image));
        let views: Vec<_> = views.of_source(&topic.name).cloned().collect();
        for view in &views {
            let view = self.image.topic(view).cloned();
            let view = view.filter(|view| view.partitions.len() < wanted);
            let Some(view) = view else { continue };
            let added = wanted - view.partitions.len();
            self.check_partitions(i64::try_from(added).unwrap_or(i64::MAX))?;
            let assignments = self.place_beside(&view, added)?;
            records.push(self.added(&view, assignments));
            self.grown_along.insert(view.id);
        }
        self.take(records)?;
        if let Some(known) = &mut self.views {
            for view in &views {
                known.add(&topic.name, view, wanted);
            }
        }
        Ok((topic.id, outcome(&topic, more.count)))
    }

    /// A view has as many partitions as what it is of: it grows with it, and not by itself.
    fn check_view_growth(&self, topic: &Topic, wanted: usize) -> Result<(), ControlError> {
        let source = source_of(&topic.config).and_then(|source| self.image.topic(source));
        let Some(source) = source.filter(|source| source.partitions.len() != wanted) else {
            return Ok(());
        };
        Err(ControlError::new(
            ErrorName::InvalidPartitions,
            format!(
                "topic {:?} is a view of {:?}, which has {} partitions, and {wanted} were asked for: it grows when that one does",
                topic.name,
                source.name,
                source.partitions.len()
            ),
        ))
    }

    /// New partitions of a topic that is there.
    fn added(&self, topic: &Topic, assignments: Vec<Vec<BrokerId>>) -> Record {
        let first = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let in_sync_min = in_sync_min(&self.image, self.view.settings, topic);
        self.partitions(topic.id, first, assignments, in_sync_min)
    }

    /// Places for more partitions of a topic, beside those that it has.
    fn place_beside(
        &mut self,
        topic: &Topic,
        added: usize,
    ) -> Result<Vec<Vec<BrokerId>>, ControlError> {
        for candidate in &mut self.candidates {
            candidate.topic_leaders = topic
                .partitions
                .iter()
                .filter(|p| p.replicas.first() == Some(&candidate.id))
                .count();
        }
        self.place(added, topic.replication_factor())
    }

    /// New partitions, all in their first epoch. A replica whose broker is away is eligible as long as nothing can be
    /// acknowledged without it: it lacks nothing, for there is nothing yet.
    fn partitions(
        &self,
        topic: TopicId,
        first: i32,
        replicas: Vec<Vec<BrokerId>>,
        in_sync_min: usize,
    ) -> Record {
        let is_alive = |id: &BrokerId| can_lead(&self.image, *id);
        if replicas.iter().flatten().all(is_alive) {
            let leaders = replicas.iter().map(|replicas| replicas.first().copied());
            return Record::PartitionsAdded(PartitionsAdded {
                topic,
                first,
                leaders: leaders.collect(),
                replicas,
            });
        }
        let partition = |(index, replicas): (i32, Vec<BrokerId>)| {
            let (isr, mut elr): (Vec<_>, Vec<_>) = replicas.iter().copied().partition(is_alive);
            if isr.len() >= in_sync_min.clamp(1, replicas.len().max(1)) {
                elr.clear();
            }
            PartitionState {
                index,
                leader: isr.first().copied(),
                replicas,
                isr,
                leader_epoch: LeaderEpoch(0),
                epoch: PartitionEpoch(0),
                elr,
                last_known: Vec::new(),
                adding: Vec::new(),
                removing: Vec::new(),
                unclean: None,
            }
        };
        Record::PartitionsSet(PartitionsSet {
            topic,
            partitions: (first..).zip(replicas).map(partition).collect(),
        })
    }

    fn take(&mut self, records: Vec<Record>) -> Result<(), ControlError> {
        let index = self.image.index();
        self.image
            .apply_in_place(index, &records)
            .map_err(|error| ControlError::new(ErrorName::UnknownServerError, error.to_string()))?;
        let added = records.iter().map(|record| match record {
            Record::PartitionsAdded(added) => added.replicas.len(),
            Record::PartitionsSet(set) => set.partitions.len(),
            _ => 0,
        });
        self.new_partitions += added.sum::<usize>();
        self.records.extend(records);
        Ok(())
    }

    /// The next of the numbers that the view's entropy stands for (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let seed = (self.view.entropy as u64) ^ ((self.view.entropy >> 64) as u64).rotate_left(32);
        let mut z = seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A topic id: the entropy's own 128 bits, with each topic of a batch apart.
    fn draw_uuid(&mut self) -> Uuid {
        let drawn = (u128::from(self.draw()) << 64) | u128::from(self.draw());
        uuid::Builder::from_random_bytes((self.view.entropy ^ drawn).to_be_bytes()).into_uuid()
    }
}

/// A topic that has come to have so many partitions.
fn outcome(topic: &Topic, partitions: i32) -> TopicOutcome {
    TopicOutcome {
        partitions,
        replication_factor: i32::try_from(topic.replication_factor()).unwrap_or(i32::MAX),
    }
}

/// More replicas than there are brokers are refused when they are placed.
fn check_replication_factor(count: i64) -> Result<usize, ControlError> {
    let factor = usize::try_from(count).ok().filter(|factor| *factor > 0);
    factor.ok_or_else(|| {
        ControlError::new(
            ErrorName::InvalidReplicationFactor,
            format!(
                "replication factor {count}; allowed is 1 or more, or -1 for the cluster's default"
            ),
        )
    })
}
