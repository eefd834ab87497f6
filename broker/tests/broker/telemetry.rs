//! Client telemetry (KIP-714): asked for, pushed, and found at `/metrics`.

use bytes::Bytes;
use uuid::Uuid;
use weir_wire::MessageView;
use weir_wire::batch::{Compression, deflate};
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use weir_wire::messages::{
    ErrorCode, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    GetTelemetrySubscriptionsResponseView, IncrementalAlterConfigsRequest, PushTelemetryRequest,
    PushTelemetryResponseView,
};

use crate::client::{Client, TestBroker};

async fn subscribe(client: &mut Client, changes: &[(&str, &str)]) {
    let configs = changes.iter().map(|(name, value)| AlterableConfig {
        name: (*name).to_owned(),
        config_operation: 0,
        value: Some((*value).to_owned()),
    });
    let resource = AlterConfigsResource {
        resource_type: 16,
        resource_name: "m".into(),
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    client.call(1, &request).await;
}

async fn ask(client: &mut Client, client_instance_id: Uuid) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id };
    let body = client.call(0, &request).await;
    GetTelemetrySubscriptionsResponseView::decode(&body, 0)
        .unwrap()
        .to_owned()
}

async fn push(
    client: &mut Client,
    to: &GetTelemetrySubscriptionsResponse,
    compression_type: i8,
    metrics: Bytes,
) -> ErrorCode {
    let request = PushTelemetryRequest {
        client_instance_id: to.client_instance_id,
        subscription_id: to.subscription_id,
        terminating: false,
        compression_type,
        metrics,
    };
    let body = client.call(0, &request).await;
    let response = PushTelemetryResponseView::decode(&body, 0)
        .unwrap()
        .to_owned();
    ErrorCode::from_code(response.error_code).unwrap()
}

/// OpenTelemetry's `MetricsData` with one gauge `a.b` of 1.5.
fn metrics() -> Bytes {
    let field = |number: u8, content: &[u8]| {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    };
    let mut point = vec![4 << 3 | 1];
    point.extend_from_slice(&1.5_f64.to_le_bytes());
    let metric = [field(1, b"a.b"), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric))).into()
}

#[tokio::test]
async fn a_client_pushes_what_a_subscription_asks_for_and_prometheus_finds_it() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let none = ask(&mut client, Uuid::nil()).await;
    assert!(!none.client_instance_id.is_nil());
    assert_eq!(
        (
            none.error_code,
            none.push_interval_ms,
            none.requested_metrics.len()
        ),
        (0, 300_000, 0)
    );
    let changes = [
        ("match", "client_id=te.*"),
        ("metrics", "a.,b."),
        ("interval.ms", "60000"),
    ];
    subscribe(&mut client, &changes).await;
    let wanted = ask(&mut client, Uuid::nil()).await;
    assert_eq!(wanted.requested_metrics, ["a.", "b."]);
    assert_eq!(wanted.push_interval_ms, 60_000);
    assert_eq!(wanted.accepted_compression_types, [4, 3, 1, 2]);

    let zipped = deflate(Compression::Zstd, None, &metrics()).unwrap();
    assert_eq!(
        push(&mut client, &wanted, 4, zipped.into()).await,
        ErrorCode::None
    );
    let (_, text) = broker.http("/metrics").await;
    let line = text
        .lines()
        .find(|line| line.starts_with("weir_client_metric{"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("client_id=\"test\"") && line.ends_with("metric=\"a.b\"} 1.5"),
        "{line}"
    );
    assert_eq!(
        push(&mut client, &wanted, 0, metrics()).await,
        ErrorCode::ThrottlingQuotaExceeded
    );
    // Another client's pattern: nothing is wanted of this one.
    subscribe(&mut client, &[("match", "client_id=other")]).await;
    assert_eq!(
        ask(&mut client, Uuid::nil()).await.requested_metrics.len(),
        0
    );
}

#[tokio::test]
async fn a_push_that_does_not_fit_is_refused_with_kafkas_code() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    subscribe(&mut client, &[("metrics", "*"), ("interval.ms", "100")]).await;
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    for (change, compression, metrics, wanted) in [
        (
            0,
            0,
            Bytes::from_static(b"\xff\xff"),
            ErrorCode::InvalidRecord,
        ),
        (
            0,
            4,
            Bytes::from_static(b"no zstd"),
            ErrorCode::InvalidRecord,
        ),
        (1, 0, metrics(), ErrorCode::UnknownSubscriptionId),
        (0, 9, metrics(), ErrorCode::UnsupportedCompressionType),
        (0, 0, large, ErrorCode::TelemetryTooLarge),
        (0, 0, Bytes::new(), ErrorCode::None),
    ] {
        let mut asked = ask(&mut client, Uuid::nil()).await;
        assert_eq!(asked.requested_metrics, [""], "all of them");
        asked.subscription_id = asked.subscription_id.wrapping_add(change);
        assert_eq!(
            push(&mut client, &asked, compression, metrics).await,
            wanted
        );
    }
    let nobody = GetTelemetrySubscriptionsResponse::default();
    assert_eq!(
        push(&mut client, &nobody, 0, metrics()).await,
        ErrorCode::InvalidRequest
    );
}
