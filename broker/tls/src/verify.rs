//! Judging the other side's certificate: issued by an authority that is trusted, valid now, of the same cluster.
//!
//! Chains, validity, usages and signatures are checked by webpki, as everywhere in rustls. What is ours is the name: instead of a
//! host's it is the cluster's in the certificate's URI.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::TlsError;
use crate::identity::{Identity, Role};

/// The cryptography: ring's, which is built without further tools.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Judges both sides.
#[derive(Debug)]
pub(crate) struct Verifier {
    cluster: String,
    authorities: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// For members of one cluster.
    pub(crate) fn new(
        cluster: &str,
        authorities: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for authority in authorities {
            store.add(authority)?;
        }
        let authorities = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&authorities),
            Arc::clone(provider),
        )
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            authorities,
            clients,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Of a certificate that is otherwise good.
    fn check_cluster(&self, certificate: &CertificateDer<'_>) -> Result<Role, Error> {
        let refused = |error: TlsError| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        };
        let identity = Identity::of(certificate).map_err(refused)?;
        if identity.cluster() != self.cluster {
            return Err(refused(TlsError::Identity(format!(
                "{identity} is not of cluster {}",
                self.cluster
            ))));
        }
        Ok(identity.role())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.authorities,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match self.check_cluster(end_entity)? {
            Role::Broker(_) => Ok(ServerCertVerified::assertion()),
            Role::Operator => Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .clients
            .verify_client_cert(end_entity, intermediates, now)?;
        self.check_cluster(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// Whether a certificate comes from one of these authorities, as seen at a time (seconds since 1970); if not, why.
pub(crate) fn is_issued_by(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    at: i64,
) -> Result<(), String> {
    let plain = |error: webpki::Error| error.to_string();
    let anchors = authorities
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(plain)?;
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(plain)?;
    let at = std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0));
    parsed
        .verify_for_usage(
            provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(at),
            // Everyone's certificate is good for calling.
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(plain)
}
