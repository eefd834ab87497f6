//! Volumes that are bounded and grow, and their driver.
//!
//! The volumes that the tests' cluster makes on demand are directories, which nothing bounds. A story brings volumes of its own: a file system on each node,
//! mounted where the node's kubelet sees it. It is one in memory, since the root of a machine that runs tests need not have what growing another takes while
//! it is mounted (`CAP_SYS_RESOURCE`); disks of ext4 are filled by the tests of faults.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::nodes::{Nodes, number};
use crate::shell::{attempt, run};
use crate::stage::Stage;

/// Nodes, each with one volume for one broker.
const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// The StorageClass of the volumes, which are made by nobody but the story. It says nothing of growth.
pub(super) const CLASS: &str = "weir-bounded";

/// A volume on each node.
pub(super) struct Volumes<'n> {
    nodes: &'n Nodes,
}

impl<'n> Volumes<'n> {
    pub(super) fn make(nodes: &'n Nodes, size_mib: u64) -> Self {
        let volumes = Self { nodes };
        // What a story that failed has left.
        volumes.end();
        let mut manifests = format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: {CLASS}\nprovisioner: kubernetes.io/no-provisioner\n\
             volumeBindingMode: WaitForFirstConsumer\n"
        );
        for node in NODES {
            volumes.on(
                node,
                &format!(
                    "mkdir -p /mnt/pv/bounded && mount -t tmpfs -o size={size_mib}m,mode=777 bounded /mnt/pv/bounded"
                ),
            );
            manifests.push_str(&format!(
                "---\napiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: {CLASS}-{node}\nspec:\n  storageClassName: {CLASS}\n  \
                 capacity:\n    storage: {size_mib}Mi\n  accessModes: [ReadWriteOnce]\n  persistentVolumeReclaimPolicy: Retain\n  \
                 local:\n    path: /mnt/pv/bounded\n  nodeAffinity:\n    required:\n      nodeSelectorTerms:\n        - matchExpressions:\n            \
                 - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}\n"
            ));
        }
        let applied = attempt("kubectl", &["apply", "--filename", "-"], &manifests);
        let wrong = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "kubectl apply: {wrong}");
        volumes
    }

    /// From now on volumes of the class may grow.
    pub(super) fn may_grow(&self) {
        let allows = r#"{"allowVolumeExpansion":true}"#;
        run(
            "kubectl",
            &["patch", "storageclass", CLASS, "--patch", allows],
        );
    }

    /// Grows a claim's volume, and says so, as the driver of a class does: first there is more, then the PersistentVolume has it, then the claim.
    pub(super) fn grow(&self, stage: &Stage, claim: &PersistentVolumeClaim, size_mib: u64) {
        let volume = claim.spec.as_ref().and_then(|it| it.volume_name.as_deref());
        let volume = volume.expect("the claim is bound");
        let (_, node) = volume.rsplit_once('-').expect("it is one of ours");
        self.on(
            node,
            &format!("mount -o remount,size={size_mib}m /mnt/pv/bounded"),
        );
        let capacity = format!(r#"{{"capacity":{{"storage":"{size_mib}Mi"}}}}"#);
        stage.patch(
            &format!("persistentvolume/{volume}"),
            &format!(r#"{{"spec":{capacity}}}"#),
        );
        stage.kubectl(&[
            "patch",
            "persistentvolumeclaim",
            &claim.name_any(),
            "--subresource=status",
            "--type=merge",
            "--patch",
            &format!(r#"{{"status":{capacity}}}"#),
        ]);
    }

    /// Takes all room there is but so many bytes.
    pub(super) fn fill(&self, node: &str, left: u64) {
        let words = match left {
            0 => "! head -c 1G /dev/zero >/mnt/pv/bounded/rest 2>/dev/null".to_owned(),
            left => format!(
                "cd /mnt/pv/bounded && fallocate -l $(($(stat -f -c '%a*%S' .) - {left})) ballast"
            ),
        };
        self.on(node, &words);
    }

    pub(super) fn make_room(&self, node: &str) {
        self.on(node, "rm /mnt/pv/bounded/ballast /mnt/pv/bounded/rest");
    }

    /// Nothing is left of them, wherever they were.
    pub(super) fn end(&self) {
        for node in NODES {
            let name = format!("{CLASS}-{node}");
            run(
                "kubectl",
                &[
                    "delete",
                    "persistentvolume",
                    &name,
                    "--ignore-not-found",
                    "--wait=false",
                ],
            );
            self.on(
                node,
                "if mountpoint -q /mnt/pv/bounded; then umount -l /mnt/pv/bounded; fi; rm -rf /mnt/pv/bounded",
            );
        }
        run(
            "kubectl",
            &["delete", "storageclass", CLASS, "--ignore-not-found"],
        );
    }

    /// Runs a shell's words on a node.
    fn on(&self, node: &str, words: &str) {
        self.nodes.tell(&["exec", number(node), "sh", "-c", words]);
    }
}
