//! `weir-broker produce` and `consume`, as `kubectl weir` runs them in a broker's pod.

use weir_broker::probe::messages::{ConsumeOptions, From, ProduceOptions, consume, produce};
use weir_broker::probe::{ProbeError, ProbeOptions, run};

use super::client::TestBroker;

fn reading(bootstrap: &str, topic: &str, max: Option<u64>) -> ConsumeOptions {
    ConsumeOptions {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        from: From::Beginning,
        max,
        until_end: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_written_once_and_read_until_the_end() {
    let broker = TestBroker::start().await;
    broker.connect().await.create_topic("orders", 3, &[]).await;
    let bootstrap = broker.running.addresses().kafka.to_string();
    let blocking = tokio::task::spawn_blocking(move || {
        let writing = ProduceOptions {
            bootstrap: bootstrap.clone(),
            topic: "orders".to_owned(),
        };
        // More than one batch goes to each partition.
        let lines: Vec<String> = (0..9_000).map(|number| format!("line {number}")).collect();
        let count = produce(&writing, lines.join("\n").as_bytes()).unwrap();
        assert_eq!(count, 9_000);

        let mut out = Vec::new();
        consume(&reading(&bootstrap, "orders", None), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut values: Vec<&str> = text
            .lines()
            .map(|line| line.split('\t').nth(3).unwrap())
            .collect();
        values.sort_unstable();
        let mut expected: Vec<&str> = lines.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(values, expected);

        let mut out = Vec::new();
        consume(&reading(&bootstrap, "orders", Some(5)), &mut out).unwrap();
        assert_eq!(out.split(|byte| *byte == b'\n').count(), 6, "five lines");

        let missing = ProduceOptions {
            topic: "missing".to_owned(),
            ..writing
        };
        // The topic is not made: that is a Topic's business.
        let error = produce(&missing, &b"x"[..]).unwrap_err();
        assert!(matches!(error, ProbeError::NoTopic(_)), "{error}");
        // The probe still makes its own.
        let probe = ProbeOptions {
            bootstrap,
            topic: "probe".to_owned(),
            messages: 10,
            timeout: 30,
        };
        assert_eq!(run(&probe).unwrap().messages, 10);
    });
    blocking.await.unwrap();
}
