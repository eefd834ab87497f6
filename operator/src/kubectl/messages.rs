//! A quick look at messages: the broker's own program, run in a broker's pod, where all brokers can be reached by the names that they advertise.

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use tokio::io::{AsyncWriteExt, copy, stderr, stdin, stdout};

use super::ask::ready_pod;
use super::{KubectlError, Place};
use crate::names;

/// The broker's container, and its program in it.
const CONTAINER: &str = "broker";
const PROGRAM: &str = "/weir-broker";

/// What to read.
#[derive(Debug, Args)]
pub(super) struct Consume {
    /// Name of the Cluster.
    cluster: String,
    /// The topic.
    topic: String,
    /// Where to begin.
    #[arg(long, value_enum, default_value_t = Begin::End)]
    from: Begin,
    /// Stop after so many messages.
    #[arg(long)]
    max: Option<u64>,
    /// Stop at the end of the topic as it is now.
    #[arg(long)]
    until_end: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Begin {
    /// At the first message that there is.
    Beginning,
    /// With the next message that comes.
    End,
}

impl Consume {
    fn arguments(&self) -> Vec<String> {
        let from = match self.from {
            Begin::Beginning => "beginning",
            Begin::End => "end",
        };
        let mut arguments = command("consume", &self.topic);
        arguments.extend(["--from".to_owned(), from.to_owned()]);
        if let Some(max) = self.max {
            arguments.extend(["--max".to_owned(), max.to_string()]);
        }
        if self.until_end {
            arguments.push("--until-end".to_owned());
        }
        arguments
    }
}

fn command(what: &str, topic: &str) -> Vec<String> {
    let bootstrap = format!("localhost:{}", names::KAFKA_PORT);
    [PROGRAM, what, "--bootstrap", &bootstrap, "--topic", topic]
        .map(str::to_owned)
        .into()
}

/// Writes each line of standard input as a message.
pub(super) async fn produce(place: &Place, cluster: &str, topic: &str) -> Result<(), KubectlError> {
    run(place, cluster, command("produce", topic), true).await
}

/// Prints messages.
pub(super) async fn consume(place: &Place, consume: &Consume) -> Result<(), KubectlError> {
    run(place, &consume.cluster, consume.arguments(), false).await
}

async fn run(
    place: &Place,
    cluster: &str,
    arguments: Vec<String>,
    takes_input: bool,
) -> Result<(), KubectlError> {
    let pod = ready_pod(place, cluster).await?;
    let parameters = AttachParams::default()
        .container(CONTAINER)
        .stdin(takes_input)
        .stdout(true)
        .stderr(true);
    let mut process = place
        .api::<Pod>()
        .exec(&pod, arguments, &parameters)
        .await?;
    let input = process.stdin().map(|mut far| async move {
        copy(&mut stdin(), &mut far).await?;
        far.shutdown().await
    });
    let output = process.stdout().map(|mut far| async move {
        copy(&mut far, &mut stdout()).await?;
        stdout().flush().await
    });
    let complaints = process.stderr().map(|mut far| async move {
        copy(&mut far, &mut stderr()).await?;
        stderr().flush().await
    });
    let status = process.take_status();
    // Input may go on for as long as a person likes: the end is the program's.
    let feeding = input.map(tokio::spawn);
    let (output, complaints) = tokio::join!(optional(output), optional(complaints));
    if let Some(feeding) = feeding {
        feeding.abort();
    }
    output?;
    complaints?;
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    match ended {
        Some(ended) if ended.status.as_deref() == Some("Failure") => Err(KubectlError::Brokers(
            ended.message.unwrap_or_else(|| "it failed".to_owned()),
        )),
        _ => Ok(()),
    }
}

async fn optional(
    stream: Option<impl Future<Output = std::io::Result<()>>>,
) -> std::io::Result<()> {
    match stream {
        Some(stream) => stream.await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Begin, Consume};

    #[test]
    fn what_is_asked_for_is_what_the_broker_is_told() {
        let consume = Consume {
            cluster: "shop".into(),
            topic: "orders".into(),
            from: Begin::Beginning,
            max: Some(3),
            until_end: true,
        };
        assert_eq!(
            consume.arguments().join(" "),
            "/weir-broker consume --bootstrap localhost:9092 --topic orders --from beginning --max 3 --until-end"
        );
    }
}
