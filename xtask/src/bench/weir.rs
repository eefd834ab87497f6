//! Weir: one broker or three, with their defaults, but for where they listen and what `durability` promises.

use super::broker::Ports;
use crate::{Outcome, process};
use std::fs;
use std::path::Path;

/// Makes the certificates with which the brokers of a cluster prove to each other who they are; one that is alone makes its own.
pub(super) fn certify(program: &Path, home: &Path, brokers: usize) -> Outcome {
    if brokers > 1 {
        process::output(
            process::command(program)
                .args(["certificates", "--cluster", "bench", "--dir"])
                .arg(home.join("tls"))
                .args(["--brokers", &brokers.to_string()]),
        )?;
    }
    Ok(())
}

/// Writes the configuration of one of a cluster's brokers and returns the command that starts it; `home` is the cluster's. The gRPC
/// API is served only where it is asked for: a binary from before it would not know the setting.
pub(super) fn install(
    program: &Path,
    home: &Path,
    durability: &str,
    serves_grpc: bool,
    ports: &[Ports],
    id: usize,
) -> Outcome<Vec<String>> {
    let own = home.join(id.to_string());
    let (mut tls, mut peers) = (String::new(), String::new());
    if ports.len() > 1 {
        let files = home.join("tls").display().to_string();
        tls = format!(
            ", tls: {{ ca: {files}/ca.crt, certificate: {files}/broker-{id}.crt, key: {files}/broker-{id}.key }}"
        );
        let all = ports
            .iter()
            .map(|peer| format!("\"127.0.0.1:{}\"", peer.internal));
        peers = format!("peers: [{}]\n", all.collect::<Vec<_>>().join(", "));
    }
    let grpc = if serves_grpc {
        format!("\x20 grpc: {{ bind: \"127.0.0.1:{}\" }}\n", ports[id].grpc)
    } else {
        String::new()
    };
    let file = own.join("broker.yaml");
    fs::write(
        &file,
        format!(
            "cluster: {{ name: bench, brokers: {} }}\n\
             broker: {{ id: {id} }}\n\
             data_dir: {}\n\
             listeners:\n\
             \x20 kafka: {{ bind: \"127.0.0.1:{}\" }}\n\
             \x20 quorum: {{ bind: \"127.0.0.1:{}\"{tls} }}\n\
             \x20 http: {{ bind: \"127.0.0.1:{}\" }}\n\
             {grpc}\
             {peers}\
             topics: {{ durability: {durability} }}\n",
            ports.len(),
            own.join("data").display(),
            ports[id].kafka,
            ports[id].internal,
            ports[id].http,
        ),
    )?;
    Ok(vec![
        program.display().to_string(),
        "--config".to_owned(),
        file.display().to_string(),
    ])
}
