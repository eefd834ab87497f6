#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::io;
use std::net::SocketAddr;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::incoming::{Accepted, incoming_within};
use super::*;
use crate::config::HostPort;
use crate::net::{Dialer, Listener, Network, Tcp};

/// A listener whose connections are told apart.
struct Port {
    address: SocketAddr,
    grpc: mpsc::Receiver<Accepted>,
    replication: mpsc::Receiver<Incoming>,
}

impl Port {
    async fn open() -> Self {
        Self::open_with(HANDSHAKE_PATIENCE).await
    }

    async fn open_with(patience: Duration) -> Self {
        let any = HostPort {
            host: "127.0.0.1".into(),
            port: 0,
        };
        let listener = Tcp.bind(&any).await.unwrap();
        let address = listener.address();
        let (accepted, grpc) = mpsc::channel(8);
        let (streams, replication) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut incoming = Box::pin(incoming_within(patience, listener, None, streams));
            while let Some(Ok(next)) = incoming.next().await {
                if accepted.send(next).await.is_err() {
                    return;
                }
            }
        });
        Self {
            address,
            grpc,
            replication,
        }
    }
}

#[tokio::test]
async fn a_stream_of_replication_comes_without_its_preface() {
    let mut port = Port::open().await;
    let channels = Channels::new(Dialer::Tcp);
    let mut here = channels
        .stream(BrokerId(0), &port.address.to_string())
        .await
        .unwrap();
    here.write_all(b"records").await.unwrap();
    let mut there = port.replication.recv().await.unwrap();
    assert_eq!(there.peer, None);
    let mut seven = [0; 7];
    there.stream.read_exact(&mut seven).await.unwrap();
    assert_eq!(&seven, b"records");
    there.stream.write_all(b"durable").await.unwrap();
    here.read_exact(&mut seven).await.unwrap();
    assert_eq!(&seven, b"durable");
}

#[tokio::test]
async fn everything_else_is_grpc_s_from_its_first_byte() {
    let mut port = Port::open().await;
    let mut here = TcpStream::connect(port.address).await.unwrap();
    // In two pieces, the first shorter than what tells them apart.
    here.write_all(b"PRI ").await.unwrap();
    here.flush().await.unwrap();
    here.write_all(b"* HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut there = port.grpc.recv().await.unwrap();
    let mut all = [0; 24];
    there.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_up_nobody() {
    let mut port = Port::open().await;
    let mut silent = TcpStream::connect(port.address).await.unwrap();
    silent.write_all(b"weir").await.unwrap();
    let channels = Channels::new(Dialer::Tcp);
    let _here = channels
        .stream(BrokerId(0), &port.address.to_string())
        .await
        .unwrap();
    assert!(port.replication.recv().await.is_some());
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let port = Port::open_with(Duration::from_millis(100)).await;
    let mut silent = TcpStream::connect(port.address).await.unwrap();
    silent.write_all(b"weir").await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_broker_whose_process_is_gone_refuses_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let refused = Channels::new(Dialer::Tcp)
        .stream(BrokerId(0), &address)
        .await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(io::ErrorKind::ConnectionRefused)
    );
}
