//! The gRPC API of queues, by a client generated for Python from the published definition: `tests/conformance/python/grpc_*.py`.

use std::process::Command;

use weir_tests::given;
use weir_tests::local::Local;
use weir_tests::suite;

use crate::MANIFESTS;

fn python(script: &str, local: &Local) -> Command {
    let script = given::root().join("tests/conformance/python").join(script);
    let mut python = Command::new(given::python());
    python
        .arg(script)
        .arg(local.bootstrap())
        .env("WEIR_GRPC", local.grpc(3).join(","));
    python
}

#[test]
fn a_client_generated_for_python_is_content() {
    let local = Local::start(MANIFESTS);
    suite::scenarios("grpc", &mut python("grpc_queue.py", &local));
}

#[test]
fn nothing_is_lost_when_a_broker_is_killed_meanwhile() {
    let local = Local::start(MANIFESTS);
    let victim = local.brokers()[0].to_string();
    let mut python = python("grpc_kill.py", &local);
    suite::scenarios("grpc-kill", python.env("WEIR_VICTIM", victim));
}
