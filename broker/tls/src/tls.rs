//! One member's side of all its connections.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::{Identity, Role};
use crate::pems::{self, Files, Pems};
use crate::verify::{self, Verifier};
use crate::{TlsError, directory, served};

/// What is spoken over a connection: gRPC. Other protocols on the port begin with bytes of their own.
const PROTOCOL: &[u8] = b"h2";

/// One member's side of all its connections: whom it trusts, and its own certificate, both as they are now.
#[derive(Debug)]
pub struct Tls {
    source: Source,
    current: ArcSwap<Current>,
}

/// Where certificates come from.
#[derive(Debug)]
enum Source {
    /// Whoever made this; there are no newer ones.
    Given,
    /// Files that others write.
    Files(Files),
    /// A directory that this process fills itself.
    Own { dir: PathBuf, broker: i32 },
}

/// The cluster's name in certificates that a broker makes for itself alone. Not the one that people gave it, which may change.
const OWN_CLUSTER: &str = "alone";

#[derive(Debug)]
struct Current {
    pems: Pems,
    identity: Identity,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// With what lies in files. [`Tls::follow`] takes what comes to lie there later.
    pub fn from_files(files: Files) -> Result<Self, TlsError> {
        Self::from_source(Source::Files(files))
    }

    /// For a broker that is alone: with an authority of its own in a directory, which also issues a certificate for whoever
    /// administers it. What is not there is made, and [`Tls::follow`] renews it in time.
    pub fn own(dir: PathBuf, broker: i32) -> Result<Self, TlsError> {
        Self::from_source(Source::Own { dir, broker })
    }

    /// With these, for as long as they are valid.
    pub fn from_pems(pems: Pems) -> Result<Self, TlsError> {
        Ok(Self {
            source: Source::Given,
            current: ArcSwap::from_pointee(Current::new(pems)?),
        })
    }

    fn from_source(source: Source) -> Result<Self, TlsError> {
        let pems = source.read()?.ok_or(TlsError::Pem {
            what: "certificates",
            why: "there are none".to_owned(),
        })?;
        let current = ArcSwap::from_pointee(Current::new(pems)?);
        Ok(Self { source, current })
    }

    /// Who this member is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// Looks at the files again, renewing its own; `true` when there is something new, which connections from now on are made with. What cannot be
    /// used changes nothing.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(pems) = self.source.read()? else {
            return Ok(false);
        };
        let before = self.current.load();
        if pems == before.pems {
            return Ok(false);
        }
        let new = Current::new(pems)?;
        if new.identity != before.identity {
            return Err(TlsError::Other {
                wanted: before.identity.clone(),
                found: new.identity,
            });
        }
        self.current.store(Arc::new(new));
        Ok(true)
    }

    /// Looks at the files again and again, until dropped.
    pub async fn follow(self: Arc<Self>) {
        let whose = self.identity().to_string();
        served::follow(whose, move || self.reload()).await;
    }

    /// Accepts a connection; returns who is at the other end.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, Role)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().server));
        let stream = acceptor.accept(stream).await?;
        let role = role_of(stream.get_ref().1.peer_certificates())?;
        Ok((stream, role))
    }

    /// Makes a connection to a broker, of this id if one is given. Whether the broker at the other end takes us is seen with the
    /// first bytes that come from there.
    pub async fn connect<S>(
        &self,
        stream: S,
        broker: Option<i32>,
    ) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.current.load().client));
        // Nobody looks at the name.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
        let stream = connector.connect(nobody, stream).await?;
        let found = role_of(stream.get_ref().1.peer_certificates())?;
        match broker {
            Some(id) if found != Role::Broker(id) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("broker {id} is wanted, and the certificate there is that of {found}"),
            )),
            _ => Ok(stream),
        }
    }
}

impl Source {
    /// What there is now; `None` when nothing can have changed.
    fn read(&self) -> Result<Option<Pems>, TlsError> {
        match self {
            Self::Given => Ok(None),
            Self::Files(files) => files.read().map(Some),
            Self::Own { dir, broker } => {
                let me = Role::Broker(*broker);
                let made =
                    directory::ensure(dir, OWN_CLUSTER, &[me, Role::Operator], SystemTime::now())?;
                for made in made {
                    tracing::info!(dir = %dir.display(), "this broker has made a certificate: {made}");
                }
                directory::files(dir, me).read().map(Some)
            }
        }
    }
}

impl Current {
    fn new(pems: Pems) -> Result<Self, TlsError> {
        let authorities = pems::certificates("the authorities' certificates", &pems.authorities)?;
        let chain = pems::certificates("the own certificate", &pems.certificate)?;
        let key = pems::key("the own key", &pems.key)?;
        let identity = chain.first().map_or_else(
            || Err(TlsError::Identity("there is no certificate".to_owned())),
            Identity::of,
        )?;
        let provider = verify::provider();
        let verifier = Arc::new(Verifier::new(identity.cluster(), authorities, &provider)?);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        // What is resumed was verified once upon a time.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self {
            pems,
            identity,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// Of a certificate that was verified.
fn role_of(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Role> {
    let strange = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let certificate = chain
        .and_then(<[_]>::first)
        .ok_or_else(|| strange("the other side has shown no certificate".to_owned()))?;
    let identity = Identity::of(certificate).map_err(|error| strange(error.to_string()))?;
    Ok(identity.role())
}
