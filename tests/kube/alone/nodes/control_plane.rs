//! Kubernetes' control plane is away for a while: nobody who writes or reads notices, and the operator goes on where it was when it is back.
//! `WEIR_CONTROL_PLANE_AWAY_S` makes it longer, minutes say.

use std::time::{Duration, Instant};

use weir_tests::wait;

use super::{Play, say};
use crate::rest::{Passes, at_rest, look_again, looked_again, written};
use crate::watching::LIMIT;

/// How long it is away at least: longer than an operator that leads waits before it gives up, and than another's lease lasts.
const AWAY: Duration = Duration::from_secs(18);

/// Of a longer one clients have to go on all the while, which is seen once in each such part of it.
const PART: Duration = Duration::from_secs(30);

/// How long it is away here.
fn away() -> Duration {
    let asked = std::env::var("WEIR_CONTROL_PLANE_AWAY_S").ok();
    let asked = asked.map(|seconds| {
        let seconds = seconds.parse();
        Duration::from_secs(seconds.expect("WEIR_CONTROL_PLANE_AWAY_S is a number"))
    });
    asked.map_or(AWAY, |asked| asked.max(AWAY))
}

impl Play {
    /// API server, controller manager and scheduler are killed, and come back.
    pub(super) async fn control_plane_away(&self) {
        let mut before = at_rest(&self.stage);
        let away = away();
        let began = self.before();
        self.nodes.control("away");
        self.flow.go_on("Kubernetes' API server is away");
        while began.elapsed() < away {
            let part = (began.elapsed() + PART).min(away);
            wait::until("it lasted for long enough", LIMIT, || {
                (began.elapsed() >= part).then_some(())
            });
            self.flow.go_on("it stayed away");
        }
        let silence = self.flow.load.longest_silence();
        let lasted = began.elapsed().as_secs_f64();
        println!("  the API server was away for {lasted:.1} s");
        self.nodes.control("back");
        let back = Instant::now();
        // Whoever led has given up, so what was looked at was looked at since.
        looked_again(&self.stage, &Passes::default()).await;
        println!(
            "  an operator is back at work {:.1} s after the API server",
            back.elapsed().as_secs_f64()
        );
        look_again(&self.stage, "since it is back", "island", &mut before).await;
        let written = written(&self.stage, &before);
        assert_eq!(written, Vec::<String>::new(), "written without need");
        // And what is asked for is done.
        self.stage.patch("topic.weir.dev/island", RETENTION);
        self.stage.topic_ready("island").await;
        self.flow.go_on("the API server is back");
        say("Kubernetes' control plane was away", silence, began);
    }
}

const RETENTION: &str = r#"{"spec":{"config":{"retention.ms":86400000}}}"#;
