//! Clients that speak TLS, by a listener that says so.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::{Due, Held, Pair, Role, directory};

use crate::client::{Client, TestBroker, batch, eventually, fetch, values};
use crate::listeners::{ports, set};

const HOST: &str = "broker-0.example.com";

/// A broker of which a listener is to speak TLS.
struct Secured {
    broker: TestBroker,
    port: u16,
}

impl Secured {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let port = ports(1)[0];
        let this = Self { broker, port };
        this.set(true).await;
        this
    }

    /// Has the listener be with or without TLS.
    async fn set(&self, tls: bool) {
        let port = u32::from(self.port);
        let (port, tls_port) = if tls { (0, port) } else { (port, 0) };
        let listeners = vec![proto::Listener {
            name: "outside".into(),
            port,
            tls_port,
            advertised: Some(proto::AdvertisedAddress {
                host: HOST.into(),
                port: 9093,
            }),
        }];
        let mut admin = AdminClient::new(self.broker.channel(Role::Operator));
        let broker = proto::BrokerListeners {
            broker: 0,
            listeners,
        };
        set(&mut admin, vec![broker.clone()]).await;
        let describe = proto::DescribeClusterRequest {};
        let described = admin.describe_cluster(describe).await.unwrap().into_inner();
        assert!(described.tls_listeners);
        assert_eq!(described.brokers[0].listeners, broker.listeners);
    }

    fn tls(&self) -> PathBuf {
        self.broker.dir.path().join("tls")
    }

    /// Puts a certificate where the broker looks for it; returns it.
    fn issue(&self) -> Pair {
        let dir = self.tls();
        let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        let authority = Pair {
            certificate: text("ca.crt"),
            key: text("ca.key"),
        };
        let mut held = Held {
            authority: Some(authority),
            ..Held::default()
        };
        let due = Due::Listener {
            name: "outside".into(),
            hosts: [HOST.to_owned(), "127.0.0.1".to_owned()].into(),
        };
        held.issue("alone", &[due], SystemTime::now()).unwrap();
        let pair = held.listeners.remove("outside").unwrap();
        // The key first: the certificate is what the broker waits for.
        let files = [
            (directory::key_of_listener("outside"), &pair.key),
            (
                directory::certificate_of_listener("outside"),
                &pair.certificate,
            ),
        ];
        for (file, text) in files {
            fs::write(dir.join("new"), text).unwrap();
            fs::rename(dir.join("new"), dir.join(file)).unwrap();
        }
        pair
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    async fn opened(&self) {
        eventually("the listener is open", async || {
            TcpStream::connect(self.address()).await.ok()
        })
        .await;
    }

    /// A connection of a client that trusts the broker's authority.
    async fn connect(
        &self,
        version: &'static SupportedProtocolVersion,
        host: &'static str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address()).await?;
        let host = ServerName::try_from(host).unwrap();
        connector(&self.tls().join("ca.crt"), version)
            .connect(host, stream)
            .await
    }

    async fn client(&self, version: &'static SupportedProtocolVersion) -> Client {
        Client::over(self.connect(version, HOST).await.unwrap())
    }
}

fn connector(authority: &Path, version: &'static SupportedProtocolVersion) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(authority).unwrap();
    trusted.add(authority).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Something of this length that no other part of it looks like.
fn long(seed: u64, length: usize) -> String {
    let mut state = seed;
    let letters = std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    });
    letters.take(length).collect()
}

#[tokio::test]
async fn clients_write_and_read_over_tls_of_either_version_small_and_large() {
    let secured = Secured::start().await;
    // Until its certificate is there nobody listens, least of all without one.
    assert!(TcpStream::connect(secured.address()).await.is_err());
    secured.issue();
    secured.opened().await;
    let mut inside = secured.broker.connect().await;
    for (topic, version) in [("of-12", &TLS12), ("of-13", &TLS13)] {
        inside.create_topic(topic, 1, &[]).await;
        let mut client = secured.client(version).await;
        // Larger than what is encrypted at once, than a socket takes, and than what is sent from memory.
        let written: Vec<String> = [1, 40_000, 700_000, 5]
            .into_iter()
            .enumerate()
            .map(|(seed, length)| long(seed as u64, length))
            .collect();
        for value in &written {
            let answer = client.produce(topic, 0, batch(&[value])).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        }
        // Many answers under way to one who reads none of them: each is still whole, and in its place.
        let mut numbers = Vec::new();
        let request = fetch(topic, 0, 0);
        for _ in 0..40 {
            numbers.push(client.send(12, &request).await);
        }
        for number in numbers {
            let body = client
                .answer::<weir_wire::messages::FetchRequest>(12, number)
                .await;
            let response =
                <weir_wire::messages::FetchResponseView<'_> as weir_wire::MessageView>::decode(
                    &body, 12,
                )
                .unwrap()
                .to_owned();
            let read = values(&response.responses[0].partitions[0]);
            let read: Vec<&str> = read.iter().map(|(_, value)| value.as_str()).collect();
            assert!(read == written, "what was written is read");
        }
        // By its address too, which the certificate names; and not by a name that it does not.
        secured.connect(version, "127.0.0.1").await.unwrap();
        assert!(
            secured
                .connect(version, "elsewhere.example.com")
                .await
                .is_err()
        );
    }
    secured.broker.stop().await;
}

#[tokio::test]
async fn another_certificate_is_shown_to_who_comes_then_and_ends_no_connection() {
    let secured = Secured::start().await;
    let first = secured.issue();
    secured.opened().await;
    let shown = async || {
        let stream = secured.connect(&TLS13, HOST).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    };
    let of = |pair: &Pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    assert_eq!(shown().await, of(&first));
    let mut inside = secured.broker.connect().await;
    inside.create_topic("t", 1, &[]).await;
    let mut standing = secured.client(&TLS13).await;
    assert_eq!(standing.produce("t", 0, batch(&["a"])).await.error_code, 0);

    // What cannot be used changes nothing.
    let file = secured
        .tls()
        .join(directory::certificate_of_listener("outside"));
    fs::write(&file, "no certificate").unwrap();
    let second = secured.issue();
    eventually("the new certificate is shown", async || {
        (shown().await == of(&second)).then_some(())
    })
    .await;
    assert_eq!(standing.produce("t", 0, batch(&["b"])).await.error_code, 0);
    secured.broker.stop().await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused_and_a_listener_changes_while_the_broker_runs() {
    let secured = Secured::start().await;
    secured.issue();
    secured.opened().await;
    let mut plain = Client::connect(secured.address()).await;
    plain
        .send(9, &weir_wire::messages::MetadataRequest::default())
        .await;
    // An alert of TLS at most, which is no frame.
    let mut raw = TcpStream::connect(secured.address()).await.unwrap();
    raw.write_all(b"\0\0\0\x10 is no hello to speak of")
        .await
        .unwrap();
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.ok();
    assert_eq!(answer.first().copied().unwrap_or(21), 21, "{answer:?}");
    let counted = "weir_connections_aborted_total{reason=\"tls_handshake\"} 2";
    eventually("both are counted", async || {
        let (_, metrics) = secured.broker.http("/metrics").await;
        metrics.contains(counted).then_some(())
    })
    .await;

    secured.set(false).await;
    eventually("the listener is without TLS", async || {
        let mut client = TcpStream::connect(secured.address()).await.ok()?;
        // ApiVersions, version 0.
        client
            .write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff")
            .await
            .ok()?;
        let length = client.read_i32().await.ok()?;
        let number = client.read_i32().await.ok()?;
        (length > 4 && number == 7).then_some(())
    })
    .await;
    assert!(secured.connect(&TLS13, HOST).await.is_err());
    secured.set(true).await;
    eventually("the listener is with TLS again", async || {
        secured.connect(&TLS13, HOST).await.ok()
    })
    .await;
    secured.broker.stop().await;
}
