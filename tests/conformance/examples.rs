//! What `examples/` promises: each manifest runs as it is, and its client says what it should.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use weir_tests::given;
use weir_tests::local::Local;

/// Runs a client of an example against its manifest, and returns the lines that it printed.
fn lines_of(manifest: &str, client: impl FnOnce(&Local) -> Command) -> Vec<String> {
    let local = Local::start(&fs::read_to_string(example(manifest)).expect("the manifest"));
    let output = client(&local).stderr(Stdio::inherit()).output();
    let output = output.expect("the client runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "it ended with {}; it said:\n{said}",
        output.status
    );
    said.lines().map(str::to_owned).collect()
}

fn example(name: &str) -> PathBuf {
    given::root().join("examples").join(name)
}

fn python(script: &str, address: &str) -> Command {
    let mut python = Command::new(given::python());
    python.arg(example(script)).arg(address);
    python
}

#[test]
fn the_flash_sale_sells_what_there_is() {
    let said = lines_of("flash-sale.yaml", |local| {
        python("flash-sale.py", &local.bootstrap())
    });
    assert_eq!(
        said,
        ["1000 tickets are sold; 200 buyers hear that there are no more."]
    );
}

#[test]
fn the_reminder_comes_at_its_time_and_not_at_all_when_it_is_cancelled() {
    let said = lines_of("reminder.yaml", |local| {
        python("reminder.py", &local.bootstrap())
    });
    assert_eq!(
        said,
        [
            "water Cleo's plants (at its time)",
            "call Ada (at its time)"
        ]
    );
}

#[test]
fn orders_are_shipped_tried_again_or_kept_as_dead_letters() {
    let said = lines_of("orders.yaml", |local| {
        let mut java = Command::new("java");
        let logging = given::root().join("tests/conformance/java/log4j2.properties");
        java.arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(format!("{}/*", given::kafka().display()))
            .arg(example("Orders.java"))
            .arg(local.bootstrap());
        java
    });
    let said: BTreeSet<_> = said.iter().map(String::as_str).collect();
    let wanted = [
        "book: shipped",
        "lamp: not in stock, tried again in a second",
        "lamp: shipped at last",
        "unicorn: there is no such thing",
        "dead letter: unicorn, delivered 1 time(s)",
    ];
    assert_eq!(said, wanted.into());
}

#[test]
fn every_request_has_its_reply() {
    let said = lines_of("request-reply.yaml", |local| {
        python("request-reply.py", &local.grpc(1)[0])
    });
    assert_eq!(
        said,
        ["apple: 30 cents", "pear: 40 cents", "moon: not for sale"]
    );
}

#[test]
fn one_broker_alone_proves_itself() {
    let manifest = fs::read_to_string(example("single-broker.yaml")).expect("the manifest");
    let (status, said) = Local::once(&manifest);
    assert!(status.success(), "it ended with {status}; it said:\n{said}");
}
