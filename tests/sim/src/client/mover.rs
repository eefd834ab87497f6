//! Somebody who moves partitions from broker to broker, changes his mind, and asks for preferred leaders.

use weir_wire::MessageView;
use weir_wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use weir_wire::messages::elect_leaders_request::TopicPartitions;
use weir_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponseView,
    ElectLeadersRequest, ElectLeadersResponseView,
};

use super::Client;
use crate::history::{Place, Shared};

/// How many replicas partitions have where there are enough brokers.
const REPLICAS: i32 = 3;

/// Moves what others write to and read from. Nobody may notice.
#[derive(Debug)]
pub struct Mover {
    client: Client,
    history: Shared,
    places: Vec<Place>,
}

impl Mover {
    /// Somebody who moves these partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, places: Vec<Place>) -> Self {
        Self {
            client,
            history,
            places,
        }
    }

    /// Goes on until the history says that it is enough. What was begun is finished by the cluster.
    pub async fn run(mut self) {
        while self.history.is_open() {
            let place = self.client.random.pick(&self.places).clone();
            match self.client.random.within(0..6) {
                0 => self.elect(&place).await,
                1 => self.reassign(&place, None).await,
                _ => {
                    let replicas = self.some_brokers();
                    self.reassign(&place, Some(replicas)).await;
                }
            }
            for _ in 0..6 {
                self.client.pause().await;
            }
        }
        self.history.done();
    }

    /// As many brokers as a partition has replicas, in any order.
    fn some_brokers(&mut self) -> Vec<i32> {
        let mut brokers: Vec<i32> = (0..self.client.brokers()).collect();
        let mut chosen = Vec::new();
        while i32::try_from(chosen.len()).unwrap_or(REPLICAS) < REPLICAS && !brokers.is_empty() {
            let index = self.client.random.within(0..brokers.len() as u64);
            chosen.push(brokers.remove(usize::try_from(index).unwrap_or(0)));
        }
        chosen
    }

    /// Wishes for replicas there, or, with none, for what is under way to be called off. The answer does not matter: whether a
    /// wish is granted is the cluster's business, and where it ends up is looked at in the end.
    async fn reassign(&mut self, place: &Place, replicas: Option<Vec<i32>>) {
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: 4_000,
            topics: vec![ReassignableTopic {
                name: place.0.to_string(),
                partitions: vec![ReassignablePartition {
                    partition_index: place.1,
                    replicas,
                }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let broker = self.client.any_broker();
        let asked = self.client.ask(broker, 0, &request, |body| {
            AlterPartitionReassignmentsResponseView::decode(body, 0).map(|view| view.to_owned())
        });
        let _ = asked.await;
    }

    async fn elect(&mut self, place: &Place) {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions: Some(vec![TopicPartitions {
                topic: place.0.to_string(),
                partitions: vec![place.1],
            }]),
            timeout_ms: 4_000,
        };
        let broker = self.client.any_broker();
        let asked = self.client.ask(broker, 2, &request, |body| {
            ElectLeadersResponseView::decode(body, 2).map(|view| view.to_owned())
        });
        let _ = asked.await;
    }
}
