//! Client quotas: set, described, and enforced.

use std::time::{Duration, Instant};

use weir_wire::MessageView;
use weir_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use weir_wire::messages::create_topics_request::CreatableTopic;
use weir_wire::messages::describe_client_quotas_request::ComponentData;
use weir_wire::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponseView, CreateTopicsRequest,
    CreateTopicsResponseView, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    DescribeClientQuotasResponseView, ErrorCode, ProduceResponseView,
};

use crate::client::{Client, TestBroker, batch, fetch, produce};

type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

/// Sets or, without a value, removes a quota; the error.
async fn alter(client: &mut Client, entity: Pairs<'_>, key: &str, value: Option<f64>) -> i16 {
    let entity = entity.iter().map(|(kind, name)| EntityData {
        entity_type: (*kind).to_owned(),
        entity_name: name.map(str::to_owned),
    });
    let op = OpData {
        key: key.to_owned(),
        value: value.unwrap_or(0.0),
        remove: value.is_none(),
    };
    let request = AlterClientQuotasRequest {
        entries: vec![EntryData {
            entity: entity.collect(),
            ops: vec![op],
        }],
        validate_only: false,
    };
    let body = client.call(1, &request).await;
    AlterClientQuotasResponseView::decode(&body, 1)
        .unwrap()
        .to_owned()
        .entries[0]
        .error_code
}

async fn describe(
    client: &mut Client,
    components: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> DescribeClientQuotasResponse {
    let components = components.iter().map(|(kind, how, name)| ComponentData {
        entity_type: (*kind).to_owned(),
        match_type: *how,
        r#match: name.map(str::to_owned),
    });
    let request = DescribeClientQuotasRequest {
        components: components.collect(),
        strict,
    };
    let body = client.call(1, &request).await;
    DescribeClientQuotasResponseView::decode(&body, 1)
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn quotas_are_set_and_found_as_kafka_finds_them() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let both = [("user", Some("u")), ("client-id", Some("c"))];
    for (entity, key, value) in [
        (&[("user", Some("u"))][..], "producer_byte_rate", 1e9),
        (&both[..], "request_percentage", 500.5),
        (&[("client-id", None)][..], "consumer_byte_rate", 1e9),
        (
            &[("ip", Some("1.2.3.4"))][..],
            "connection_creation_rate",
            5.0,
        ),
    ] {
        assert_eq!(
            alter(&mut client, entity, key, Some(value)).await,
            0,
            "{key}"
        );
    }
    for (components, strict, count) in [
        (&[][..], false, 4),
        (&[("user", 2, None)][..], false, 2),
        (&[("user", 2, None)][..], true, 1),
        (
            &[("user", 0, Some("u")), ("client-id", 0, Some("c"))][..],
            true,
            1,
        ),
        (&[("client-id", 1, None)][..], false, 1),
        (&[("user", 1, None)][..], false, 0),
        (&[("ip", 0, Some("1.2.3.4"))][..], true, 1),
    ] {
        let found = describe(&mut client, components, strict).await;
        assert_eq!(found.error_code, 0);
        assert_eq!(
            found.entries.unwrap().len(),
            count,
            "{components:?} {strict}"
        );
    }
    for (components, error) in [
        (&[("foo", 2, None)][..], ErrorCode::UnsupportedVersion),
        (
            &[("user", 2, None), ("user", 1, None)][..],
            ErrorCode::InvalidRequest,
        ),
        (
            &[("user", 2, None), ("ip", 2, None)][..],
            ErrorCode::InvalidRequest,
        ),
        (&[("user", 9, None)][..], ErrorCode::InvalidRequest),
    ] {
        let found = describe(&mut client, components, false).await;
        assert_eq!((found.error_code, found.entries), (error.code(), None));
    }
    for (entity, key, value) in [
        (&[("user", Some("u"))][..], "foo", 1.0),
        (&[("user", Some("u"))][..], "producer_byte_rate", f64::NAN),
        (
            &[("ip", Some("1.2.3.4")), ("user", Some("u"))][..],
            "connection_creation_rate",
            1.0,
        ),
        (&[][..], "producer_byte_rate", 1.0),
    ] {
        let error = alter(&mut client, entity, key, Some(value)).await;
        assert_eq!(error, ErrorCode::InvalidRequest.code(), "{entity:?} {key}");
    }
    assert_eq!(
        alter(&mut client, &both, "request_percentage", None).await,
        0
    );
    let all = describe(&mut client, &[], false).await;
    assert_eq!(all.entries.unwrap().len(), 3);
}

#[tokio::test]
async fn trap_20_who_produces_too_much_is_answered_at_once_and_not_read_from_for_a_while() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    let everyone = [("client-id", None)];
    let rate = Some(1_000.0);
    assert_eq!(
        alter(&mut client, &everyone, "producer_byte_rate", rate).await,
        0
    );
    // Ten seconds' worth is free, and half a second's more is waited for.
    let large = batch(&[&"x".repeat(10_400)]);
    let began = Instant::now();
    let body = client.call(9, &produce("t", 0, large)).await;
    let response = ProduceResponseView::decode(&body, 9).unwrap().to_owned();
    let answered = began.elapsed();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    let wait = Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap());
    assert!(wait >= Duration::from_millis(300), "{wait:?}");
    assert!(answered < wait || answered < Duration::from_secs(5));
    // The same connection waits; another does not, until it takes more.
    let began = Instant::now();
    let mut other = broker.connect().await;
    other.fetch(12, &fetch("t", 0, 0)).await;
    client.fetch(12, &fetch("t", 0, 0)).await;
    assert!(began.elapsed() >= wait - Duration::from_millis(50));
}

#[tokio::test]
async fn who_fetches_too_much_is_told_how_long_he_waits() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&[&"x".repeat(2_500)])).await;
    let me = [("user", Some("ANONYMOUS"))];
    assert_eq!(
        alter(&mut client, &me, "consumer_byte_rate", Some(5_000.0)).await,
        0
    );
    let mut throttled = 0;
    for _ in 0..22 {
        let response = client.fetch(12, &fetch("t", 0, 0)).await;
        throttled = throttled.max(response.throttle_time_ms);
    }
    assert!(throttled > 0);
}

#[tokio::test]
async fn who_creates_too_many_partitions_is_refused_until_the_debt_is_paid() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let everyone = [("client-id", None)];
    let rate = Some(1.0);
    assert_eq!(
        alter(&mut client, &everyone, "controller_mutation_rate", rate).await,
        0
    );
    // Each from a connection of its own: the one before is not read from.
    let create = async |name: &str, version| {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 100,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        let mut client = broker.connect().await;
        let body = client.call(version, &request).await;
        let response = CreateTopicsResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        (response.topics[0].error_code, response.throttle_time_ms)
    };
    assert_eq!(create("a", 7).await, (0, 0));
    let (error, wait) = create("b", 7).await;
    assert_eq!(error, ErrorCode::ThrottlingQuotaExceeded.code());
    assert!(wait > 0, "{wait}");
    // A client of before that is granted what it asks for, and waits afterwards.
    let (error, wait) = create("c", 5).await;
    assert_eq!(error, 0);
    assert!(wait > 0, "{wait}");
}

#[tokio::test]
async fn an_address_that_opens_too_many_connections_is_hung_up_on() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let here = [("ip", Some("127.0.0.1"))];
    assert_eq!(
        alter(&mut client, &here, "connection_creation_rate", Some(1.0)).await,
        0
    );
    let mut last = None;
    for _ in 0..11 {
        last = Some(broker.connect().await);
    }
    // The eleventh in one moment: it is held, and closed without a word.
    assert_eq!(last.unwrap().receive().await, None);
    assert_eq!(
        alter(&mut client, &here, "connection_creation_rate", None).await,
        0
    );
}
