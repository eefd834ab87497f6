//! gRPC: what the operator asks of brokers ([`admin`]), what clients do with queues ([`queue`]), and what brokers ask of each
//! other ([`appends`], [`quorum`], [`gateway`], [`groups`], [`halves`], [`ledgers`], [`replication`], [`share`], [`transactions`]).
//!
//! Generated from `weir/*/v1/*.proto`, which carry the documentation.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

/// `weir.admin.v1`: the operator's door.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.admin.v1");
    }
}

/// `weir.appends.v1`: between brokers.
pub mod appends {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.appends.v1");
    }
}

/// `weir.quorum.v1`: between brokers.
pub mod quorum {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.quorum.v1");
    }
}

/// `weir.groups.v1`: between brokers.
pub mod groups {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.groups.v1");
    }
}

/// `weir.halves.v1`: between brokers.
pub mod halves {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.halves.v1");
    }
}

/// `weir.ledgers.v1`: between brokers.
pub mod ledgers {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.ledgers.v1");
    }
}

/// `weir.replication.v1`: between brokers.
pub mod replication {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.replication.v1");
    }
}

/// `weir.transactions.v1`: between brokers.
pub mod transactions {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.transactions.v1");
    }
}

/// `weir.share.v1`: between brokers.
pub mod share {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.share.v1");
    }
}

/// `weir.gateway.v1`: between brokers.
pub mod gateway {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.gateway.v1");
    }
}

/// `weir.queue.v1`: for clients; published.
pub mod queue {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.queue.v1");
    }
}
