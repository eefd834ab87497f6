//! Who is let in, and who is not.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::life::seconds;
use crate::{Held, LEAF_LIFE, Pems, Role, Seen, Tls, TlsError, directory, due};

const MEMBERS: [Role; 3] = [Role::Broker(0), Role::Broker(1), Role::Operator];

/// Certificates of a cluster, made at a time.
fn made(cluster: &str, now: SystemTime) -> Held {
    let mut held = Held::default();
    let all = due(&MEMBERS, &Seen::default(), seconds(now));
    held.issue(cluster, &all, now).unwrap();
    held
}

fn tls(pems: Pems) -> Tls {
    Tls::from_pems(pems).unwrap()
}

/// What both sides say of a connection, after one byte each way.
async fn meet(
    server: &Tls,
    client: &Tls,
    wanted: Option<i32>,
) -> (io::Result<Role>, io::Result<()>) {
    let (there, here) = tokio::io::duplex(1 << 16);
    let serving = async {
        let (mut stream, role) = server.accept(there).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(role)
    };
    let calling = async {
        let mut stream = client.connect(here, wanted).await?;
        // Only now is it known whether the other side takes us.
        stream.read_u8().await?;
        stream.write_u8(2).await?;
        stream.flush().await?;
        Ok(())
    };
    tokio::join!(serving, calling)
}

#[tokio::test]
async fn members_of_one_cluster_meet_and_know_each_other() {
    let held = made("shop", SystemTime::now());
    let broker = |id| tls(held.pems(Role::Broker(id)).unwrap());
    let operator = tls(held.pems(Role::Operator).unwrap());
    let (role, called) = meet(&broker(0), &broker(1), Some(0)).await;
    assert_eq!(role.unwrap(), Role::Broker(1));
    called.unwrap();
    let (role, called) = meet(&broker(0), &operator, None).await;
    assert_eq!(role.unwrap(), Role::Operator);
    called.unwrap();
}

#[tokio::test]
async fn another_broker_than_the_one_that_is_wanted_is_no_connection() {
    let held = made("shop", SystemTime::now());
    let broker = |id| tls(held.pems(Role::Broker(id)).unwrap());
    let (_, called) = meet(&broker(0), &broker(1), Some(2)).await;
    let error = called.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("broker 0"), "{error}");
}

#[tokio::test]
async fn a_stranger_is_let_in_nowhere_and_nobody_talks_to_one() {
    let now = SystemTime::now();
    let ours = made("shop", now);
    let strangers = [
        ("another authority", made("shop", now)),
        ("another cluster's authority", made("market", now)),
        ("expired", {
            let mut held = ours.clone();
            let due = MEMBERS.map(crate::Due::Leaf);
            held.issue("shop", &due, now - LEAF_LIFE - Duration::from_secs(60))
                .unwrap();
            held
        }),
        ("not yet valid", {
            let mut held = ours.clone();
            let due = MEMBERS.map(crate::Due::Leaf);
            held.issue("shop", &due, now + Duration::from_secs(7200))
                .unwrap();
            held
        }),
    ];
    let member = tls(ours.pems(Role::Broker(0)).unwrap());
    for (what, held) in strangers {
        // Trusts whom we trust, so that only its own certificate is judged.
        let stranger = tls(Pems {
            authorities: ours.authority.as_ref().unwrap().certificate.clone(),
            ..held.pems(Role::Broker(1)).unwrap()
        });
        let (role, _) = meet(&member, &stranger, None).await;
        assert!(role.is_err(), "{what} was let in");
        let (_, called) = meet(&stranger, &member, None).await;
        assert!(called.is_err(), "{what} was talked to");
    }
}

#[test]
fn a_certificate_of_another_cluster_by_the_same_authority_is_a_stranger_s() {
    let now = SystemTime::now();
    let ours = made("shop", now);
    // Somebody had one authority issue for two clusters.
    let theirs = {
        use rcgen::{CertificateParams, Issuer, KeyPair, SanType, string::Ia5String};
        let authority = ours.authority.as_ref().unwrap();
        let mut named = CertificateParams::default();
        named.distinguished_name = rcgen::DistinguishedName::new();
        named
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Weir cluster shop");
        let issuer = Issuer::new(named, KeyPair::from_pem(&authority.key).unwrap());
        let mut params = CertificateParams::default();
        let name = Ia5String::try_from("weir://market/broker/1").unwrap();
        params.subject_alt_names = vec![SanType::URI(name)];
        let key = KeyPair::generate().unwrap();
        Pems {
            authorities: authority.certificate.clone(),
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    };
    // Judged by itself: a stranger that takes part in the handshake refuses us before we refuse it.
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::server::danger::ClientCertVerifier;
    let judge = |cluster: &str| {
        let trusted = crate::pems::certificates("", &theirs.authorities).unwrap();
        let provider = crate::verify::provider();
        let verifier = crate::verify::Verifier::new(cluster, trusted, &provider).unwrap();
        let certificate = crate::pems::certificate("", &theirs.certificate).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let now = UnixTime::now();
        [
            verifier
                .verify_client_cert(&certificate, &[], now)
                .map(|_| ()),
            verifier
                .verify_server_cert(&certificate, &[], &name, &[], now)
                .map(|_| ()),
        ]
    };
    for judged in judge("shop") {
        let refused = judged.unwrap_err().to_string();
        assert!(refused.contains("is not of cluster shop"), "{refused}");
    }
    assert!(judge("market").into_iter().all(|judged| judged.is_ok()));
}

#[tokio::test]
async fn the_operator_s_certificate_serves_nobody() {
    let held = made("shop", SystemTime::now());
    let operator = tls(held.pems(Role::Operator).unwrap());
    let broker = tls(held.pems(Role::Broker(0)).unwrap());
    let (_, called) = meet(&operator, &broker, None).await;
    assert!(called.is_err());
}

#[tokio::test]
async fn nobody_without_a_certificate_is_let_in() {
    use rustls::pki_types::ServerName;
    let held = made("shop", SystemTime::now());
    let member = tls(held.pems(Role::Broker(0)).unwrap());
    let (there, here) = tokio::io::duplex(1 << 16);
    let serving = async { member.accept(there).await.map(|(_, role)| role) };
    let calling = async {
        let authority = &held.authority.as_ref().unwrap().certificate;
        let authorities = crate::pems::certificates("", authority).unwrap();
        let provider = crate::verify::provider();
        let verifier = crate::verify::Verifier::new("shop", authorities, &provider).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, here).await?;
        stream.read_u8().await
    };
    let (served, called) = tokio::join!(serving, calling);
    assert!(served.is_err());
    assert!(called.is_err());
}

#[tokio::test]
async fn plain_text_is_no_handshake() {
    let held = made("shop", SystemTime::now());
    let member = tls(held.pems(Role::Broker(0)).unwrap());
    let (there, mut here): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
    here.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    assert!(member.accept(there).await.is_err());
}

#[tokio::test]
async fn new_certificates_are_taken_while_an_old_connection_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    // Close to their end.
    let then = now - LEAF_LIFE + Duration::from_secs(3600);
    directory::ensure(dir.path(), "shop", &MEMBERS, then).unwrap();
    let of = |role| Tls::from_files(directory::files(dir.path(), role)).unwrap();
    let (server, client) = (of(Role::Broker(0)), of(Role::Broker(1)));

    let (there, here) = tokio::io::duplex(1 << 16);
    let (served, called) = tokio::join!(server.accept(there), client.connect(here, Some(0)));
    let (mut there, mut here) = (served.unwrap().0, called.unwrap());

    assert!(!server.reload().unwrap());
    let renewed = directory::ensure(dir.path(), "shop", &MEMBERS, now).unwrap();
    assert_eq!(renewed.len(), MEMBERS.len());
    assert!(server.reload().unwrap());
    assert!(!server.reload().unwrap());

    here.write_u8(7).await.unwrap();
    here.flush().await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), 7);
    // One side has new ones, the other not yet; then both.
    for _ in 0..2 {
        let (role, called) = meet(&server, &client, Some(0)).await;
        assert_eq!(role.unwrap(), Role::Broker(1));
        called.unwrap();
        client.reload().unwrap();
    }
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    directory::ensure(dir.path(), "shop", &MEMBERS, now).unwrap();
    let files = directory::files(dir.path(), Role::Broker(0));
    let member = Tls::from_files(files.clone()).unwrap();
    let original = std::fs::read_to_string(&files.certificate).unwrap();
    let others = directory::files(dir.path(), Role::Broker(1))
        .read()
        .unwrap();

    // Half exchanged.
    std::fs::write(&files.certificate, &others.certificate).unwrap();
    assert!(matches!(member.reload(), Err(TlsError::Unusable(_))));
    // Wholly exchanged, and someone else's.
    std::fs::write(&files.key, &others.key).unwrap();
    assert!(matches!(member.reload(), Err(TlsError::Other { .. })));
    std::fs::write(&files.certificate, "").unwrap();
    assert!(matches!(member.reload(), Err(TlsError::Pem { .. })));
    std::fs::remove_file(&files.certificate).unwrap();
    assert!(matches!(member.reload(), Err(TlsError::File { .. })));
    assert_eq!(member.identity().role(), Role::Broker(0));
    assert!(original.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn a_broker_that_is_alone_makes_what_it_and_its_operator_need() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("tls");
    let broker = Tls::own(own.clone(), 0).unwrap();
    assert_eq!(broker.identity().role(), Role::Broker(0));
    assert!(!broker.reload().unwrap());
    let operator = Tls::from_files(directory::files(&own, Role::Operator)).unwrap();
    let (role, called) = meet(&broker, &operator, Some(0)).await;
    assert_eq!(role.unwrap(), Role::Operator);
    called.unwrap();
    // In its next life it is who it was.
    let again = Tls::own(own, 0).unwrap();
    let (role, _) = meet(&again, &operator, Some(0)).await;
    assert_eq!(role.unwrap(), Role::Operator);
}
