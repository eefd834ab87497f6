//! Where messages were, and when, as the brokers remember.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::trace_request::Of;

use super::ask::{door, topic_of};
use super::{KubectlError, Place, show};

/// Which messages of which topic.
#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Name of a Topic; with --cluster, the topic as Kafka's clients name it.
    topic: String,
    /// Name of the Cluster, for a topic that no Topic is of.
    #[arg(long)]
    cluster: Option<String>,
    #[command(flatten)]
    which: Which,
    /// As a table, or as JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Which messages: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The message at PARTITION:OFFSET.
    #[arg(long, value_parser = place)]
    offset: Option<(i32, i64)>,
    /// Messages with this key.
    #[arg(long)]
    key: Option<String>,
    /// Messages with this id, their header weir-message-id.
    #[arg(long)]
    id: Option<String>,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each event.
    Table,
    /// All of it.
    Json,
}

pub(super) fn place(text: &str) -> Result<(i32, i64), String> {
    let numbers = text.split_once(':').and_then(|(partition, offset)| {
        let numbers = (partition.parse().ok()?, offset.parse().ok()?);
        (numbers.0 >= 0 && numbers.1 >= 0).then_some(numbers)
    });
    numbers.ok_or_else(|| "PARTITION:OFFSET is wanted, such as 3:1201".to_owned())
}

/// Prints what is remembered.
pub(super) async fn trace(
    place: &Place,
    asked: Trace,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (cluster, topic) = topic_of(place, asked.cluster, asked.topic).await?;
    let of = match (asked.which.offset, asked.which.key, asked.which.id) {
        (Some((partition, offset)), _, _) => Of::Place(proto::TracePlace { partition, offset }),
        (None, Some(key), _) => Of::Key(key.into_bytes()),
        (None, None, id) => Of::Id(id.unwrap_or_default().into_bytes()),
    };
    let request = proto::TraceRequest {
        topic,
        of: Some(of),
        here: false,
    };
    let (mut admin, _tunnel) = door(place, &cluster).await?;
    let answer = admin
        .trace(request)
        .await
        .map_err(|error| KubectlError::Brokers(error.to_string()))?;
    let text = match asked.output {
        Output::Table => table(&answer),
        Output::Json => format!("{:#}\n", json_of(&answer)),
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| ms.to_string(),
        |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    )
}

/// What else there is to say of an event.
fn details(event: &proto::TraceEvent) -> String {
    let mut said = Vec::new();
    let mut say = |what: &str, value: String| said.push(format!("{what}={value}"));
    for (what, text) in [
        ("group", &event.group),
        ("member", &event.member),
        ("client", &event.client_id),
        ("from", &event.address),
    ] {
        if !text.is_empty() {
            say(what, text.clone());
        }
    }
    if let Some(id) = event.producer_id {
        say("producer", id.to_string());
    }
    if let Some(count) = event.deliveries {
        say("delivery", count.to_string());
    }
    if let Some(until) = event.until_ms {
        say("until", time(until));
    }
    if let Some(receipt) = event.receipt {
        say("receipt", receipt.to_string());
    }
    if !event.to_topic.is_empty() {
        let partition = event.to_partition.unwrap_or(0);
        say("to", format!("{}:{partition}", event.to_topic));
    }
    said.join(" ")
}

fn table(answer: &proto::TraceResponse) -> String {
    let mut rows = vec![show::row(["TIME", "BROKER", "MESSAGE", "WHAT", "DETAILS"])];
    for event in &answer.events {
        rows.push(show::row([
            &time(event.time_ms),
            &event.broker.to_string(),
            &format!("{}:{}", event.partition, event.offset),
            &event.what,
            &details(event),
        ]));
    }
    let mut text = match answer.events.is_empty() {
        true => {
            "No broker remembers such a message: it is not traced, or other messages came since.\n"
                .to_owned()
        }
        false => show::table(&rows),
    };
    for broker in &answer.unheard {
        text.push_str(&format!(
            "Broker {broker} did not answer: what it remembers is missing.\n"
        ));
    }
    text
}

fn json_of(answer: &proto::TraceResponse) -> Value {
    let events = answer.events.iter().map(|event| {
        let mut said = json!({
            "time": time(event.time_ms),
            "broker": event.broker,
            "partition": event.partition,
            "offset": event.offset,
            "what": event.what,
        });
        let texts = [
            ("group", &event.group),
            ("member", &event.member),
            ("clientId", &event.client_id),
            ("address", &event.address),
            ("toTopic", &event.to_topic),
        ];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            said[key] = json!(text);
        }
        let numbers = [
            ("producerId", event.producer_id),
            ("deliveries", event.deliveries.map(i64::from)),
            ("receipt", event.receipt),
            ("toPartition", event.to_partition.map(i64::from)),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                said[key] = json!(number);
            }
        }
        if let Some(until) = event.until_ms {
            said["until"] = json!(time(until));
        }
        said
    });
    json!({"events": events.collect::<Vec<_>>(), "unheardBrokers": answer.unheard})
}

#[cfg(test)]
mod tests {
    use super::{details, json_of, place, proto, table};

    fn answer() -> proto::TraceResponse {
        let appended = proto::TraceEvent {
            time_ms: 1_700_000_000_123,
            broker: 1,
            partition: 3,
            offset: 1_201,
            what: "appended".into(),
            client_id: "till".into(),
            address: "10.0.0.7".into(),
            producer_id: Some(4_000),
            ..proto::TraceEvent::default()
        };
        let buried = proto::TraceEvent {
            time_ms: 1_700_000_060_000,
            what: "dead-lettered".into(),
            group: "workers".into(),
            deliveries: Some(5),
            to_topic: "dlq.orders".into(),
            to_partition: Some(0),
            client_id: String::new(),
            address: String::new(),
            producer_id: None,
            ..appended.clone()
        };
        proto::TraceResponse {
            events: vec![appended, buried],
            unheard: vec![2],
        }
    }

    #[test]
    fn events_are_lines_by_time_and_who_is_silent_is_said() {
        let text = table(&answer());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["TIME", "BROKER", "MESSAGE", "WHAT", "DETAILS"]);
        let (time, rest) = lines[1].split_first().unwrap_or((&"", &[]));
        assert_eq!(*time, "2023-11-14T22:13:20.123Z");
        let said = [
            "1",
            "3:1201",
            "appended",
            "client=till",
            "from=10.0.0.7",
            "producer=4000",
        ];
        assert_eq!(rest, said);
        assert_eq!(
            details(&answer().events[1]),
            "group=workers delivery=5 to=dlq.orders:0"
        );
        assert_eq!(lines[3][..2], ["Broker", "2"]);
        let nothing = table(&proto::TraceResponse::default());
        assert!(nothing.starts_with("No broker remembers"), "{nothing}");
    }

    #[test]
    fn json_has_what_there_is_to_say_and_no_more() {
        let json = json_of(&answer());
        assert_eq!(json["unheardBrokers"][0], 2);
        let (first, second) = (&json["events"][0], &json["events"][1]);
        assert_eq!(first["offset"], 1_201);
        assert_eq!(first["clientId"], "till");
        assert!(first.get("group").is_none() && first.get("deliveries").is_none());
        assert_eq!(second["toTopic"], "dlq.orders");
        assert_eq!(second["toPartition"], 0);
        assert_eq!(second["time"], "2023-11-14T22:14:20.000Z");
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!(place("3:1201"), Ok((3, 1_201)));
        for bad in ["", "3", "3:", ":4", "-1:4", "3:-4", "3:4:5", "a:b"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
