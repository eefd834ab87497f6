//! Weir without Kubernetes, judged by other people's clients: `cargo xtask test --only conformance`.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

mod differential;
mod examples;
mod flights;
mod franz_go;
mod grpc;
mod java;
mod kill;
mod local;
mod others;
mod queues;

/// A cluster of three brokers with one topic of 12 partitions and a group that reads it.
const MANIFESTS: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: shop
spec:
  replicas: 3
  storage:
    size: 1Gi
---
apiVersion: weir.dev/v1alpha1
kind: Topic
metadata:
  name: flights
spec:
  clusterRef:
    name: shop
  partitions: 12
---
apiVersion: weir.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: readers
spec:
  clusterRef:
    name: shop
  topics: [flights]
";
