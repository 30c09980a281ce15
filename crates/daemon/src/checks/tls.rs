//! TLS of checks: what is asked of the server, and what is shown to it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_core::model::{Connect, Secret, Tls};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::blocking::Blocking;
use super::stream::handshake;
use super::words;

/// TLS settings that checks have, with the files they name, read once.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    known: Mutex<HashMap<Tls, Arc<ClientConfig>>>,
}

impl Configurations {
    /// What connects by these settings. Reading files may take so long.
    ///
    /// # Errors
    /// What is wrong with the files that they name, in words.
    pub(super) async fn connector(
        &self,
        tls: &Tls,
        time: Duration,
        blocking: &Blocking,
    ) -> Result<Connector, String> {
        self.speaking(tls, &[], time, blocking).await
    }

    /// The same for a protocol that has to be agreed upon within TLS.
    pub(super) async fn speaking(
        &self,
        tls: &Tls,
        protocols: &[&[u8]],
        time: Duration,
        blocking: &Blocking,
    ) -> Result<Connector, String> {
        // The name is the connection's, not the configuration's.
        let key = Tls {
            sni: None,
            ..tls.clone()
        };
        let known = self.lock().get(&key).cloned();
        let config = if let Some(config) = known {
            config
        } else {
            let owned = key.clone();
            let config = blocking.run(time, move || configuration(&owned)).await??;
            let config = Arc::new(config);
            self.lock().insert(key, Arc::clone(&config));
            config
        };
        let config = if protocols.is_empty() {
            config
        } else {
            let mut config = ClientConfig::clone(&config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Connector {
            config,
            sni: tls.sni.clone(),
        })
    }

    /// Files are read again, and what nothing uses any more is forgotten.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Tls, Arc<ClientConfig>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes TLS connections.
#[derive(Debug)]
pub(super) struct Connector {
    config: Arc<ClientConfig>,
    sni: Option<String>,
}

impl Connector {
    /// TLS on a connection. `name` is what the server goes by where the configuration says
    /// nothing of it; without any name the server is asked for none.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        connect: &Connect,
        name: Option<&str>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = self.sni.as_deref().or(name).and_then(host_of);
        let name = name.unwrap_or_else(|| connect.to.ip().into());
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        let work = async {
            let result = connector.connect(name, stream).await;
            result.map_err(in_words)
        };
        handshake(connect, work).await
    }
}

/// The name of a `Host` header, without its port; none where it is no DNS name.
fn host_of(name: &str) -> Option<ServerName<'static>> {
    let host = match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => name,
    };
    match ServerName::try_from(host.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        _ => None,
    }
}

/// Replaces what TLS calls its errors by what an operator does.
fn in_words(error: io::Error) -> io::Error {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("the connection was closed during the TLS handshake")
            }
            _ => error,
        };
    };
    io::Error::other(match tls {
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks no TLS 1.2 or newer".into()
        }
        Error::InvalidMessage(_) => "the server does not speak TLS on this port".into(),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not know the name it was asked for by SNI".into()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server refused the TLS handshake: no cipher in common, or it wants a \
             client certificate"
                .into()
        }
        Error::AlertReceived(alert) => format!("the server refused TLS: alert {alert:?}"),
        Error::InvalidCertificate(reason) => format!("the server's certificate: {reason}"),
        other => format!("TLS: {other}"),
    })
}

/// Reads the files.
fn configuration(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.certificate, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), key) => {
            // A file with both is usual.
            let key = key.as_ref().unwrap_or(certificate);
            builder
                .with_client_auth_cert(
                    certificates(certificate)?,
                    private_key(key, tls.password.as_ref())?,
                )
                .map_err(|error| format!("{certificate} and {key} can't be used: {error}"))?
        }
        (None, Some(key)) => return Err(format!("{key}: a key without its certificate")),
    };
    // A check is there to see whole handshakes.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let algorithms = provider.signature_verification_algorithms;
    let Some(authorities) = &tls.authorities else {
        return Ok(Arc::new(Any(algorithms.supported_schemes())));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{authorities}: {error}"))?;
    }
    let chain = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
        .build()
        .map_err(|error| format!("{authorities}: {error}"))?;
    Ok(Arc::new(Chain(chain)))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes_of(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("{path}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{path} has no certificate"));
    }
    Ok(certificates)
}

fn private_key(path: &str, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = bytes_of(path)?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        let password = password
            .ok_or_else(|| format!("the key in {path} has a password, and none is configured"))?;
        return decrypted(&text, password)
            .map_err(|error| format!("cannot decrypt the key in {path}: {error}"));
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "the key in {path} is encrypted in OpenSSL's old way: write it anew by \
             `openssl pkcs8 -topk8 -in {path} -out NEW`"
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| format!("{path}: {error}"))
}

/// The first key of a text in PEM that is encrypted with a password (PKCS #8, PBES2).
fn decrypted(text: &str, password: &Secret) -> Result<PrivateKeyDer<'static>, pkcs8::Error> {
    const FIRST: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const LAST: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    // A certificate may stand before and behind it.
    let start = text.find(FIRST).unwrap_or_default();
    let end = text[start..]
        .find(LAST)
        .map_or(text.len(), |at| start + at + LAST.len());
    let (_, document) = SecretDocument::from_pem(&text[start..end])?;
    let key = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())?.decrypt(&password.0)?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

fn bytes_of(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {path}: {}", words::error(&error)))
}

/// Takes any certificate: whether a server lives is the question, not who it is.
#[derive(Debug)]
struct Any(Vec<SignatureScheme>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature says that the server has the certificate's key. That is worth nothing for a
    // certificate of anybody's, and old ones can't be read for it.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Asks for a chain of certificates, and for the server's name where one is known.
#[derive(Debug)]
struct Chain(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // The chain is looked at before the name. Without a name the server's address stands
        // here, which certificates seldom have.
        match (result, server_name) {
            (
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )),
                ServerName::IpAddress(_),
            ) => Ok(ServerCertVerified::assertion()),
            (result, _) => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_are_without_ports() {
        let name = |text: &str| host_of(text).map(|name| name.to_str().into_owned());
        assert_eq!(
            name("www.example.com:8443").as_deref(),
            Some("www.example.com")
        );
        assert_eq!(name("www.example.com").as_deref(), Some("www.example.com"));
        assert_eq!(name("192.0.2.1"), None);
        assert_eq!(name("[2001:db8::1]:443"), None);
        assert_eq!(name(""), None);
    }
}
