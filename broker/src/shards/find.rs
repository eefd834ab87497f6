//! Who serves a shard; making the topic that says so.

use std::sync::Arc;
use std::time::Duration;

use weir_groups::{Machine, partition_for};
use weir_quorum::ErrorName;
use weir_quorum::command::{Command, Reply};
use weir_quorum::image::{Broker, Image};

use super::{Refused, Shards};

/// How long a client that was the first to ask waits for the topic to be made and led: long enough for any controller
/// that is up, shorter than any client's own timeout.
const PATIENCE: Duration = Duration::from_secs(2);

impl<M: Machine> Shards<M> {
    /// The broker that serves the shard which keeps `key`. Makes the topic when there is none.
    ///
    /// # Errors
    /// [`Refused::NotAvailable`] while there is no such broker alive; clients ask again.
    pub async fn find(&self, key: &str) -> Result<Arc<Broker>, Refused> {
        let image = self.shared.metadata.image();
        if image.topic(M::TOPIC).is_none() {
            self.create_topic().await?;
            let led = |image: &Arc<Image>| coordinator_of(image, M::TOPIC, key).is_some();
            let image = self.shared.metadata.wait_for(PATIENCE, led).await;
            return image
                .and_then(|image| coordinator_of(&image, M::TOPIC, key))
                .ok_or(Refused::NotAvailable);
        }
        coordinator_of(&image, M::TOPIC, key).ok_or(Refused::NotAvailable)
    }

    async fn create_topic(&self) -> Result<(), Refused> {
        let _alone = self.shared.creating.lock().await;
        if self.shared.metadata.image().topic(M::TOPIC).is_some() {
            return Ok(());
        }
        let command = Command::EnsureInternalTopic {
            name: M::TOPIC.to_owned(),
        };
        let refused = match self.shared.metadata.control(command).await {
            Ok(Reply::Topics(results)) => {
                results.into_iter().find_map(|result| result.outcome.err())
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        match refused {
            None => Ok(()),
            // The cluster is still coming up; its brokers register one after the other.
            Some(error) if error.name == ErrorName::CoordinatorNotAvailable => {
                tracing::debug!(%error, "the topic {} waits", M::TOPIC);
                Err(Refused::NotAvailable)
            }
            Some(error) => {
                tracing::warn!(%error, "the topic {} could not be created", M::TOPIC);
                Err(Refused::NotAvailable)
            }
        }
    }
}

fn coordinator_of(image: &Image, topic: &str, key: &str) -> Option<Arc<Broker>> {
    let topic = image.topic(topic)?;
    let partition = partition_for(key, i32::try_from(topic.partitions.len()).ok()?);
    let leader = topic.partition(partition.0)?.leader?;
    image
        .broker(leader)
        .filter(|broker| !broker.fenced)
        .cloned()
}
