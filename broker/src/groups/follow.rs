//! Runs the shards, and tells them of topics that are gone.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_groups::Request;
use weir_groups::request::TopicRef;
use weir_quorum::image::Image;
use weir_wire::TopicId;

use super::Groups;

impl Groups {
    /// Runs a task for each shard that this broker coordinates, as the metadata says, until `stop`. Ends when they have.
    pub async fn follow(self, stop: CancellationToken) {
        let mut images = self.shared.metadata.watch();
        let mut before = Arc::new(Image::default());
        let mut following = self.shared.shards.following();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            following.apply(&image);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.forget_deleted(&before, &image) => {}
            }
            before = image;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = images.changed() => if changed.is_err() { break },
            }
        }
        following.end().await;
    }

    /// Drops the offsets of topics that are gone, so that topics of the same names begin anew.
    async fn forget_deleted(&self, before: &Image, image: &Image) {
        if before.revision() == image.revision() {
            return;
        }
        let gone = before
            .topics()
            .filter(|topic| image.topic_by_id(topic.id).is_none());
        let gone: Vec<TopicRef> = gone
            .map(|topic| TopicRef {
                name: topic.name.to_string(),
                id: TopicId(topic.id.0),
            })
            .collect();
        if gone.is_empty() {
            return;
        }
        let shards = &self.shared.shards;
        shards
            .tell_all(|| self.asked(Request::ForgetTopics(gone.clone())))
            .await;
    }
}
