//! Kubernetes' control plane is away for a while: nobody who writes or reads notices, and the operator goes on where it was when it is back.

use std::time::{Duration, Instant};

use weir_tests::wait;

use super::{Play, say};
use crate::rest::{Passes, at_rest, look_again, looked_again, written};
use crate::watching::LIMIT;

/// How long it is away at least: longer than an operator that leads waits before it gives up, and than another's lease lasts.
const AWAY: Duration = Duration::from_secs(18);

impl Play {
    /// API server, controller manager and scheduler are killed, and come back.
    pub(super) async fn control_plane_away(&self) {
        let mut before = at_rest(&self.stage);
        let began = self.before();
        self.nodes.control("away");
        self.flow.go_on("Kubernetes' API server is away");
        wait::until("it lasted for long enough", LIMIT, || {
            (began.elapsed() >= AWAY).then_some(())
        });
        self.flow.go_on("it stayed away");
        let silence = self.flow.load.longest_silence();
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
