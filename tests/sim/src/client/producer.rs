//! An idempotent producer: one batch at a time for each partition, sent again until it is acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_wire::batch::{BatchBuilder, NewRecord};
use weir_wire::messages::{ErrorCode, InitProducerIdRequest, InitProducerIdResponseView};
use weir_wire::{MessageView, ProducerEpoch, ProducerId};

use super::Client;
use crate::history::{Acked, Place, Shared};

/// An idempotent producer.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    history: Shared,
    /// The partitions it writes to.
    places: Vec<Place>,
    id: (i64, i16),
    sequences: BTreeMap<Place, i32>,
    written: u64,
}

impl Producer {
    /// One that writes to these partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, places: Vec<Place>) -> Self {
        Self {
            client,
            history,
            places,
            id: (-1, -1),
            sequences: BTreeMap::new(),
            written: 0,
        }
    }

    /// Writes until the history says that it is enough.
    pub async fn run(mut self) {
        self.id = identify(&mut self.client, &self.history).await;
        while self.history.is_open() {
            let place = self.client.random.pick(&self.places).clone();
            let values = self.values(&place);
            self.append(place, values).await;
            self.client.rest(0..60).await;
        }
        self.history.done();
    }

    fn values(&mut self, place: &Place) -> Vec<String> {
        let count = 1 + self.client.random.within(0..4);
        let padding = self.client.random.within(0..600);
        let value = |number| {
            let (host, (topic, partition)) = (self.client.host, (&place.0, place.1));
            let padding = "x".repeat(usize::try_from(padding).unwrap_or(0));
            format!("{host}/{topic}/{partition}/{number}/{padding}")
        };
        let values = (self.written..self.written + count).map(value).collect();
        self.written += count;
        values
    }

    /// Appends until it is acknowledged.
    async fn append(&mut self, place: Place, values: Vec<String>) {
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let (id, epoch) = self.id;
        let mut batch =
            BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        for value in &values {
            let record = NewRecord {
                timestamp_ms: 1_750_000_000_000,
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            };
            // Far below a batch's bounds.
            let _ = batch.push(&record);
        }
        let batch = batch.build();
        let values: Arc<[String]> = values.into();
        self.history.sending(&place, self.client.host, &values);
        loop {
            if let Some(leader) = self.client.leader(&place.0, place.1).await {
                let at = (&*place.0, place.1);
                let answer = self.client.produce(leader, 9, None, at, batch.clone());
                match answer.await {
                    Some(answer) if answer.error_code == 0 => {
                        self.history.acked(Acked {
                            place: place.clone(),
                            producer: self.client.host,
                            base_offset: answer.base_offset,
                            values: Arc::clone(&values),
                        });
                        let next = sequence + i32::try_from(values.len()).unwrap_or(0);
                        self.sequences.insert(place, next);
                        return;
                    }
                    Some(answer) => self.refused(&place, answer.error_code),
                    None => self.client.forget_leader(&place.0, place.1),
                }
            }
            self.client.pause().await;
        }
    }

    fn refused(&mut self, place: &Place, code: i16) {
        let passes = [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::RequestTimedOut,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::FencedLeaderEpoch,
            ErrorCode::KafkaStorageError,
        ];
        self.client.forget_leader(&place.0, place.1);
        if !passes.iter().any(|passing| passing.code() == code) {
            // Nobody else writes as this producer, and it never leaves a sequence out.
            let error = ErrorCode::from_code(code);
            self.history.wrong(format!(
                "{place:?}: a batch in its turn was refused: {code} {error:?}"
            ));
        }
    }
}

/// An idempotent producer's identity, however long it takes.
pub(super) async fn identify(client: &mut Client, history: &Shared) -> (i64, i16) {
    loop {
        let broker = client.any_broker();
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = client.ask(broker, 4, &request, |body| {
            InitProducerIdResponseView::decode(body, 4).map(|view| view.to_owned())
        });
        if let Ok(answer) = answer.await
            && answer.error_code == 0
        {
            history.producer_id(answer.producer_id);
            return (answer.producer_id, answer.producer_epoch);
        }
        client.pause().await;
    }
}
