//! The certificate of a listener for clients, and the listener's side of connections with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};

use crate::issue::Pair;
use crate::{TlsError, pems, verify};

/// How often files are looked at again: far below the minute or two that Kubernetes takes to bring a Secret into a pod.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A certificate that clients are shown, from files that others write. Connections that stand go on when there is another.
#[derive(Debug)]
pub struct Served {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<(Pair, Arc<ServerConfig>)>,
}

impl Served {
    /// With what lies in files: the certificate, with what lies between it and an authority behind it, and its key.
    /// [`Served::follow`] takes what comes to lie there later.
    pub fn from_files(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let pair = Pair {
            certificate: pems::read(&certificate)?,
            key: pems::read(&key)?,
        };
        let config = config(&pair)?;
        Ok(Self {
            certificate,
            key,
            current: ArcSwap::from_pointee((pair, config)),
        })
    }

    /// Looks at the files again; `true` when there is something new, which connections from now on are made with. What cannot be used
    /// changes nothing.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pair = Pair {
            certificate: pems::read(&self.certificate)?,
            key: pems::read(&self.key)?,
        };
        if pair == self.current.load().0 {
            return Ok(false);
        }
        let config = config(&pair)?;
        self.current.store(Arc::new((pair, config)));
        Ok(true)
    }

    /// Looks at the files again and again, until dropped.
    pub async fn follow(self: Arc<Self>) {
        let whose = self.certificate.display().to_string();
        follow(whose, move || self.reload()).await;
    }

    /// This side of a new connection.
    pub fn session(&self) -> Result<ServerConnection, TlsError> {
        let config = Arc::clone(&self.current.load().1);
        Ok(ServerConnection::new(config)?)
    }
}

fn config(pair: &Pair) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = verify::provider();
    let chain = pems::certificates("the listener's certificate", &pair.certificate)?;
    let key = pems::key("the listener's key", &pair.key)?;
    let key = CertifiedKey::from_der(chain, key, &provider)?;
    // Clients of this decade speak one of the two; what is resumed here was never asked who it is.
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    Ok(Arc::new(config))
}

/// Looks again and again for new certificates, and says what comes of it.
pub(crate) async fn follow<R>(whose: String, reload: R)
where
    R: Fn() -> Result<bool, TlsError> + Send + Sync + 'static,
{
    let reload = Arc::new(reload);
    let mut said = None;
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let reload = Arc::clone(&reload);
        let Ok(reloaded) = tokio::task::spawn_blocking(move || reload()).await else {
            continue;
        };
        match reloaded {
            Ok(true) => tracing::info!(whose, "new certificates are in use"),
            Ok(false) => {}
            // Certificate and key of different moments are common while they are exchanged; said once.
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!(whose, %error, "new certificates cannot be used; the ones before them still are");
                    said = Some(error);
                }
                continue;
            }
        }
        said = None;
    }
}
