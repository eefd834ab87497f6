//! Who coordinates a group; making the topic that says so.

use std::sync::Arc;
use std::time::Duration;

use weir_groups::{GroupError, OFFSETS_TOPIC, partition_for};
use weir_quorum::command::{Command, Reply};
use weir_quorum::image::{Broker, Image};

use super::Groups;

/// How long a client that was the first to ask waits for the topic to be made and led: long enough for any controller
/// that is up, shorter than any client's own timeout.
const PATIENCE: Duration = Duration::from_secs(2);

impl Groups {
    /// The broker that coordinates the group. Makes the offsets topic when there is none.
    ///
    /// # Errors
    /// [`GroupError::CoordinatorNotAvailable`] while there is no such broker alive; clients ask again.
    pub async fn find(&self, group: &str) -> Result<Arc<Broker>, GroupError> {
        let image = self.shared.metadata.image();
        if image.topic(OFFSETS_TOPIC).is_none() {
            self.create_offsets_topic().await?;
            let led = |image: &Arc<Image>| coordinator_of(image, group).is_some();
            let image = self.shared.metadata.wait_for(PATIENCE, led).await;
            return image
                .and_then(|image| coordinator_of(&image, group))
                .ok_or(GroupError::CoordinatorNotAvailable);
        }
        coordinator_of(&image, group).ok_or(GroupError::CoordinatorNotAvailable)
    }

    async fn create_offsets_topic(&self) -> Result<(), GroupError> {
        let _alone = self.shared.creating.lock().await;
        if self.shared.metadata.image().topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let command = Command::EnsureInternalTopic {
            name: OFFSETS_TOPIC.to_owned(),
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
            Some(error) => {
                tracing::warn!(%error, "the topic {OFFSETS_TOPIC} could not be created");
                Err(GroupError::CoordinatorNotAvailable)
            }
        }
    }
}

fn coordinator_of(image: &Image, group: &str) -> Option<Arc<Broker>> {
    let topic = image.topic(OFFSETS_TOPIC)?;
    let partition = partition_for(group, i32::try_from(topic.partitions.len()).ok()?);
    let leader = topic.partition(partition.0)?.leader?;
    image
        .broker(leader)
        .filter(|broker| !broker.fenced)
        .cloned()
}
