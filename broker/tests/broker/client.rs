//! A broker to be tested, and a client that says exactly what it is told to.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use uuid::Uuid;
use weir_broker::config::{Config, Environment};
use weir_broker::net::{Dialer, Stream};
use weir_broker::start::{Running, start};
use weir_tls::{Role, Tls, directory};
use weir_wire::batch::{BatchBuilder, NewRecord};
use weir_wire::frame::encode_request;
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::delete_topics_request::DeleteTopicState;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::produce_response::PartitionProduceResponse;
use weir_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponseView, DeleteTopicsRequest, DeleteTopicsResponseView,
    ErrorCode, FetchRequest, FetchResponse, FetchResponseView, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponseView, ListOffsetsRequest, ListOffsetsResponseView,
    MetadataRequest, MetadataResponse, MetadataResponseView, ProduceRequest, ProduceResponse,
    ProduceResponseView,
};
use weir_wire::{MessageView, Records, Request};

/// Far above what anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that comes by itself.
const PAUSE: Duration = Duration::from_millis(5);

/// What `look` gives, once it gives something. Fails with `what` when that does not come about.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A broker and its directory.
pub(crate) struct TestBroker {
    pub(crate) running: Running,
    pub(crate) dir: TempDir,
    settings: String,
}

impl TestBroker {
    /// A broker with nothing said about it.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A broker with some lines of configuration.
    pub(crate) async fn start_with(settings: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), settings).await
    }

    /// A broker on what another has left.
    pub(crate) async fn on(dir: TempDir, settings: &str) -> Self {
        let running = run(&dir, settings).await;
        Self {
            running,
            dir,
            settings: settings.to_owned(),
        }
    }

    /// Stops it in good order and starts it again on what it left.
    pub(crate) async fn restart(self) -> Self {
        self.running.stop().await;
        let running = run(&self.dir, &self.settings).await;
        Self {
            running,
            dir: self.dir,
            settings: self.settings,
        }
    }

    /// Stops it in good order, and leaves what it left.
    pub(crate) async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.dir
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.running.addresses().kafka).await
    }

    /// A channel to its port for brokers and the operator, as the one or the other.
    pub(crate) fn channel(&self, who: Role) -> Channel {
        let tls = Tls::from_files(directory::files(&self.dir.path().join("tls"), who));
        channel(self.running.addresses().quorum, tls.unwrap())
    }

    /// What its HTTP port says: the status line and the body.
    pub(crate) async fn http(&self, path: &str) -> (String, String) {
        http(&self.running, path).await
    }
}

/// What a broker's HTTP port says: the status line and the body.
pub(crate) async fn http(broker: &Running, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(broker.addresses().http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A channel to a port for brokers and the operator, with a certificate.
pub(crate) fn channel(address: SocketAddr, tls: Tls) -> Channel {
    let dialer = Dialer::Tls(Arc::new(tls));
    weir_broker::quorum::net::channel(&dialer, None, &address.to_string()).unwrap()
}

/// The configuration of a test's broker.
pub(crate) fn config(dir: &TempDir, settings: &str) -> Config {
    let yaml = format!(
        "data_dir: {}\nlisteners:\n  kafka: {{ bind: \"127.0.0.1:0\" }}\n  quorum: {{ bind: \"127.0.0.1:0\" }}\n  \
         http: {{ bind: \"127.0.0.1:0\" }}\n{settings}",
        dir.path().display()
    );
    Config::parse(&yaml, &Environment::new(), "test").unwrap()
}

async fn run(dir: &TempDir, settings: &str) -> Running {
    let config = config(dir, settings);
    // Not a panic: a test that is over takes its directory away, perhaps from under a last sync. In one that is not over, nothing
    // is acknowledged after this, and it fails.
    let starting = start(config, Arc::new(|what: &str| eprintln!("fatal: {what}")));
    tokio::time::timeout(PATIENCE, starting)
        .await
        .unwrap()
        .unwrap()
}

/// A connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    correlation_id: i32,
}

impl Client {
    /// A connection to a broker's Kafka listener.
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Over whatever it may be.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            correlation_id: 0,
        }
    }

    /// Sends a request and returns its number.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = encode_request(version, self.correlation_id, Some("test"), request).unwrap();
        self.send_bytes(&frame.try_into_bytes().unwrap()).await;
        self.correlation_id
    }

    /// Sends whatever it is.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame, without its length; `None` when the broker has closed.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        let receiving = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, receiving).await.unwrap()
    }

    /// The next response, which must be to the request of that number, without its header.
    pub(crate) async fn answer<R: Request>(&mut self, version: i16, number: i32) -> Bytes {
        let frame = self
            .receive()
            .await
            .expect("an answer, not a closed connection");
        assert_eq!(
            frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)),
            Some(number)
        );
        // A flexible header ends with its tagged fields, of which there are none.
        let header = 4 + usize::from(R::KEY.response_header_version(version) > 0);
        frame.slice(header..)
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        let number = self.send(version, request).await;
        self.answer::<R>(version, number).await
    }

    pub(crate) async fn metadata(
        &mut self,
        version: i16,
        request: &MetadataRequest,
    ) -> MetadataResponse {
        let body = self.call(version, request).await;
        MetadataResponseView::decode(&body, version)
            .unwrap()
            .to_owned()
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.to_owned()),
                ..DeleteTopicState::default()
            }],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let body = self.call(6, &request).await;
        let response = DeleteTopicsResponseView::decode(&body, 6)
            .unwrap()
            .to_owned();
        let answer = &response.responses[0];
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }

    /// Creates a topic and returns its id.
    pub(crate) async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Uuid {
        let configs = config.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        });
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        let body = self.call(7, &request).await;
        let response = CreateTopicsResponseView::decode(&body, 7)
            .unwrap()
            .to_owned();
        assert_eq!(
            response.topics[0].error_code, 0,
            "{:?}",
            response.topics[0].error_message
        );
        self.until_open(name, 0..partitions).await;
        response.topics[0].topic_id
    }

    /// Partitions that have only just been made are being opened for some milliseconds; who asks too soon is told to come again. Those that
    /// another broker leads are not asked for.
    pub(crate) async fn until_open(&mut self, topic: &str, indexes: Range<i32>) {
        let partitions = indexes.map(|index| ListOffsetsPartition {
            partition_index: index,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        });
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: partitions.collect(),
            }],
            ..ListOffsetsRequest::default()
        };
        eventually("they are open", async || {
            let body = self.call(5, &request).await;
            let response = ListOffsetsResponseView::decode(&body, 5)
                .unwrap()
                .to_owned();
            let partitions = response.topics[0].partitions.iter();
            let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
            let elsewhere = ErrorCode::NotLeaderOrFollower.code();
            if codes.iter().any(|code| ![0, elsewhere].contains(code)) {
                return None;
            }
            let all = MetadataRequest::default();
            let is_so =
                !codes.contains(&elsewhere) || self.metadata(9, &all).await.brokers.len() > 1;
            is_so.then_some(())
        })
        .await;
    }

    /// Sets configurations of a resource: of a topic (kind 2) or of brokers (4).
    pub(crate) async fn set_configs(&mut self, kind: i8, name: &str, configs: &[(&str, &str)]) {
        let changes = configs.iter().map(|(key, value)| (0, *key, Some(*value)));
        let changes: Vec<_> = changes.collect();
        assert_eq!(
            self.alter_configs(kind, name, &changes).await,
            0,
            "{configs:?}"
        );
    }

    /// Sets (0), deletes (1), appends (2) or subtracts (3); the error.
    pub(crate) async fn alter_configs(
        &mut self,
        kind: i8,
        name: &str,
        changes: &[(i8, &str, Option<&str>)],
    ) -> i16 {
        let configs = changes
            .iter()
            .map(|(operation, key, value)| AlterableConfig {
                name: (*key).to_owned(),
                config_operation: *operation,
                value: value.map(str::to_owned),
            });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: name.to_owned(),
                configs: configs.collect(),
            }],
            validate_only: false,
        };
        let body = self.call(1, &request).await;
        IncrementalAlterConfigsResponseView::decode(&body, 1)
            .unwrap()
            .to_owned()
            .responses[0]
            .error_code
    }

    pub(crate) async fn fetch(&mut self, version: i16, request: &FetchRequest) -> FetchResponse {
        let body = self.call(version, request).await;
        FetchResponseView::decode(&body, version)
            .unwrap()
            .to_owned()
    }

    /// Everything of a partition from an offset on, as far as one fetch gives it.
    pub(crate) async fn fetch_from(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        self.fetch(12, &fetch(topic, partition, offset))
            .await
            .responses
            .remove(0)
            .partitions
            .remove(0)
    }

    /// Appends a batch to a partition with `acks=all`. A partition that is just being opened is waited for.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        eventually("the partition is open", async || {
            let body = self
                .call(9, &produce(topic, partition, batch.clone()))
                .await;
            let mut response = ProduceResponseView::decode(&body, 9).unwrap().to_owned();
            let answer = response.responses.remove(0).partition_responses.remove(0);
            // LEADER_NOT_AVAILABLE, as any client would.
            (answer.error_code != 5).then_some(answer)
        })
        .await
    }
}

/// A produce request of one batch.
pub(crate) fn produce(topic: &str, index: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData {
        index,
        records: Some(Records::from(batch)),
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// The partition of a produce response to a request of one batch.
pub(crate) fn produced(body: &[u8], version: i16) -> PartitionProduceResponse {
    let mut response: ProduceResponse = ProduceResponseView::decode(body, version)
        .unwrap()
        .to_owned();
    response.responses.remove(0).partition_responses.remove(0)
}

/// A fetch request of one partition that does not wait.
pub(crate) fn fetch(topic: &str, partition: i32, fetch_offset: i64) -> FetchRequest {
    let wanted = FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    FetchRequest {
        min_bytes: 0,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![wanted],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// A batch of these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    build(BatchBuilder::new(), values)
}

/// A batch of these values, begun by a builder.
pub(crate) fn build(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

/// The values of records as they were fetched, with their offsets.
pub(crate) fn values(data: &PartitionData) -> Vec<(i64, String)> {
    let mut bytes = Vec::new();
    for part in data.records.iter().flat_map(|records| records.parts()) {
        let weir_wire::RecordsPart::Bytes(part) = part else {
            panic!("records in memory wanted")
        };
        bytes.extend_from_slice(part);
    }
    let mut values = Vec::new();
    for batch in weir_wire::batch::batches(&bytes) {
        let batch = batch.unwrap();
        batch.check().unwrap();
        for record in batch.inflated().unwrap().iter().unwrap() {
            let record = record.unwrap();
            values.push((
                record.offset.0,
                String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap(),
            ));
        }
    }
    values
}
