//! What `make run` promises: it proves itself, follows edits of its file, and keeps its data.

use crate::MANIFESTS;
use std::fs;
use std::time::Duration;
use weir_tests::clients::Clients;
use weir_tests::flights;
use weir_tests::local::Local;
use weir_tests::{given, log, wait};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_quickstart_proves_itself_and_ends_when_asked_to_run_once() {
    let quickstart = given::root().join("examples/quickstart.yaml");
    let (status, said) = Local::once(&fs::read_to_string(quickstart).expect("the quickstart"));
    assert!(status.success(), "it ended with {status}; it said:\n{said}");
}

#[test]
fn editing_the_file_changes_the_running_cluster() {
    let local = Local::start(MANIFESTS);
    let bootstrap = local.bootstrap();
    let partitions = |topic: &str, wanted: usize| {
        wait::until(&format!("{topic} has {wanted} partitions"), LIMIT, || {
            (Clients::Here.partitions(&bootstrap, topic) == wanted).then_some(())
        });
    };
    partitions("flights", 12);

    let more = MANIFESTS
        .replace("partitions: 12", "partitions: 15")
        .replace("replicas: 3", "replicas: 4");
    local.edit(&format!(
        "{more}---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: trains\n\
         spec:\n  clusterRef:\n    name: shop\n  partitions: 2\n"
    ));
    partitions("flights", 15);
    partitions("trains", 2);
    wait::until("a fourth broker is in the metadata", LIMIT, || {
        (Clients::Here.brokers(&bootstrap) == 4).then_some(())
    });
}

#[test]
fn started_again_it_has_its_data() {
    let some = &flights::all()[..5_000];
    let mut local = Local::start(MANIFESTS);
    let bootstrap = local.bootstrap();
    wait::until("the topic is there", LIMIT, || {
        (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(())
    });
    Clients::Here.produce(&bootstrap, "flights", some);
    local.stop_and_start_again();
    let bootstrap = local.bootstrap();
    wait::until("the topic is there again", LIMIT, || {
        (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(())
    });
    let log = Clients::Here.read_log(&bootstrap, "flights");
    log::holds_exactly(&log, some).unwrap_or_else(|wrong| panic!("{wrong}"));
}
