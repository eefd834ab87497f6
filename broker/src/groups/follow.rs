//! Runs the shards, and tells them of topics that are gone.

use tokio_util::sync::CancellationToken;
use weir_groups::Request;

use super::Groups;

impl Groups {
    /// Runs a task for each shard that this broker coordinates, as the metadata says, until `stop`. Ends when they have.
    pub async fn follow(self, stop: CancellationToken) {
        let shards = &self.shared.shards;
        // Offsets of topics that are gone are dropped, so that topics of the same names begin anew.
        let forget = |gone: &[_]| self.asked(Request::ForgetTopics(gone.to_vec()));
        tokio::join!(
            shards.clone().follow(stop.clone()),
            shards.tell_of_deleted(&stop, forget)
        );
    }
}
