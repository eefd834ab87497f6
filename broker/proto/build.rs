//! Generates the gRPC code. `protox` compiles the definitions, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "weir/admin/v1/admin.proto",
        "weir/appends/v1/appends.proto",
        "weir/gateway/v1/gateway.proto",
        "weir/groups/v1/groups.proto",
        "weir/halves/v1/halves.proto",
        "weir/ledgers/v1/ledgers.proto",
        "weir/queue/v1/queue.proto",
        "weir/quorum/v1/quorum.proto",
        "weir/replication/v1/replication.proto",
        "weir/transactions/v1/transactions.proto",
        "weir/share/v1/share.proto",
    ];
    println!("cargo:rerun-if-changed=weir");
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        // What is passed on is not copied.
        .bytes(".weir.gateway.v1")
        .bytes(".weir.halves.v1.Ask.messages")
        .bytes(".weir.halves.v1.PrepareRequest.messages")
        .bytes(".weir.queue.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
