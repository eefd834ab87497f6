//! Tells shards of topics that are gone.
//!
//! Apart from what follows the metadata ([`Shards::follow`](super::Shards::follow)): a shard that has no room for another
//! call must not keep this broker from following leadership. What was deleted before a shard's machine began, it is asked
//! for as the first thing ([`First`](super::First)).

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_groups::Machine;
use weir_groups::request::TopicRef;
use weir_quorum::image::Image;
use weir_wire::TopicId;

use super::Shards;

impl<M: Machine> Shards<M> {
    /// Hands every shard that runs a request for topics that have gone, until `stop`. While one has no room, what else goes
    /// gathers in the metadata.
    pub async fn tell_of_deleted(
        &self,
        stop: &CancellationToken,
        request: impl Fn(&[TopicRef]) -> M::Request,
    ) {
        let mut images = self.shared.metadata.watch();
        let mut before = Arc::clone(&images.borrow_and_update());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
            }
            let image = Arc::clone(&images.borrow_and_update());
            let gone = gone(&before, &image);
            if !gone.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.tell_all(|| request(&gone)) => {}
                }
            }
            before = image;
        }
    }
}

/// Topics of one image that a later one does not have.
fn gone(before: &Image, image: &Image) -> Vec<TopicRef> {
    if before.revision() == image.revision() {
        return Vec::new();
    }
    let gone = before
        .topics()
        .filter(|topic| image.topic_by_id(topic.id).is_none());
    gone.map(|topic| TopicRef {
        name: topic.name.to_string(),
        id: TopicId(topic.id.0),
    })
    .collect()
}
