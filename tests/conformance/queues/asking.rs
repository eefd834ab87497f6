//! Request and reply: every call has the reply that belongs to it, whoever answers.

use std::sync::Mutex;
use std::thread;

use serde_json::json;
use weir_tests::puppet::{Kind, New, Record};

use super::clients::{Client, SHARERS};
use super::stage::Stage;

const TOPIC: &str = "questions";
const GROUP: &str = "answering";

/// Callers at the same time, and calls of each at least.
const CALLERS: usize = 6;
const CALLS_MIN: usize = 5;

pub(super) fn every_call_gets_its_reply(stage: &Stage) {
    stage.topic(TOPIC, 3, &[]);
    stage.group(GROUP, &[]);
    let calling = Mutex::new(CALLERS);
    let left = || calling.lock().map_or(0, |left| *left);
    thread::scope(|scope| {
        for client in SHARERS {
            let left = &left;
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                while left() > 0 {
                    let questions = member.poll();
                    for question in &questions {
                        reply(stage, client, question);
                    }
                    let _ = member.settle(questions.iter().map(|one| (one, Kind::Accept)));
                }
            });
        }
        for caller in 0..CALLERS {
            let calling = &calling;
            scope.spawn(move || {
                let ended = thread::scope(|scope| scope.spawn(|| call(stage, caller)).join());
                if let Ok(mut left) = calling.lock() {
                    *left -= 1;
                }
                ended.expect("each call has its reply");
            });
        }
    });
}

fn call(stage: &Stage, caller: usize) {
    let mut number = 0;
    while number < CALLS_MIN || !stage.is_mended() {
        let question = format!("{caller}-{number}");
        let order = json!({
            "do": "call", "topic": TOPIC, "record": New::of(question.clone()).json(),
        });
        let told = stage.of(Client::Grpc).ask(order);
        assert_eq!(
            told["value"],
            format!("re: {question}"),
            "{question}: {told}"
        );
        number += 1;
        if caller == 0 && number == 2 {
            stage.under_way();
        }
    }
}

/// Whoever can produce can answer. One that has no share consumer answers for Java's.
fn reply(stage: &Stage, client: Client, question: &Record) {
    let (to, correlation) = (
        question.header("weir-reply-to"),
        question.header("weir-correlation-id"),
    );
    let answer = New::of(format!("re: {}", question.value));
    let is_for_another = question.offset % 2 == 0;
    match client {
        Client::Grpc => {
            let order = json!({
                "do": "reply", "to": to, "correlation": correlation, "record": answer.json(),
            });
            let told = stage.of(client).ask(order);
            assert!(told["error"].is_null(), "{told}");
        }
        client => {
            let sender = match client {
                Client::Java if is_for_another => Client::Librdkafka,
                client => client,
            };
            let answer = answer.header("weir-correlation-id", correlation);
            stage.send(sender, to, &[answer]);
        }
    }
}
