//! TLS: certificates and their keys, read at the start and again when they have changed, and the hand-shake.
//!
//! **Invariant:** a certificate is only replaced by one that could be read as a whole and whose key fits; anything else
//! leaves the one from before in force. A new one holds for hand-shakes to come: connections keep what they began with.
//!
//! What is *not* here: time limits and what is spoken inside (`connection`), and the bytes of sessions (`shard::transport`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use metrics::Counter;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::GatewayError;
use crate::metrics::{self as names, Metrics};
use crate::watched::{self, Watched};

/// Where the certificate is. Both files are PEM and are read again when they have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead from it to one that clients trust
    pub certificate: PathBuf,
    /// Its key: PKCS #8, SEC 1 or PKCS #1, unencrypted
    pub key: PathBuf,
}

/// What is spoken inside TLS, as the hand-shake has agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// A connection on its way from HTTP to a shard, out of any reactor.
#[derive(Debug)]
pub(crate) enum Carrier {
    Plain(std::net::TcpStream),
    Tls(std::net::TcpStream, Box<ServerConnection>),
}

/// How the accept loop speaks TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// Reads the files again when they have changed.
#[derive(Debug)]
pub(crate) struct TlsReload {
    files: TlsFiles,
    watched: Watched,
    current: Arc<Current>,
    errors: Counter,
}

/// The certificate that hand-shakes are given.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`GatewayError::Tls`] names the file and what is wrong with it.
    pub(crate) fn new(files: &TlsFiles, metrics: &Metrics) -> Result<(Self, TlsReload), GatewayError> {
        let watched = Watched::new([files.certificate.clone(), files.key.clone()]);
        watched::warn_if_readable_by_others(&files.key);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Arc::new(Current(RwLock::new(Arc::new(read(files, &provider)?))));
        let broken = |error: rustls::Error| wrong(&files.certificate, &error);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Who comes back after a cut shows a ticket and is spared the signature, which is most of a hand-shake's cost;
        // what is remembered is in the ticket, so nothing is kept here.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(broken)?;
        config.send_tls13_tickets = 1;
        let reload = TlsReload {
            files: files.clone(),
            watched,
            current: Arc::clone(&current),
            errors: metrics.counter(names::TLS_RELOAD_ERRORS),
        };
        Ok((Self { acceptor: TlsAcceptor::from(Arc::new(config)), current }, reload))
    }

    /// Shakes hands. Cancel safe in that the connection is lost with it.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Spoken)> {
        let stream = self.acceptor.accept(stream).await?;
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Spoken::Http2,
            _ => Spoken::Http1,
        };
        Ok((stream, spoken))
    }
}

impl TlsReload {
    /// Takes in what has changed in the files; to be called about once a second.
    pub(crate) fn look(&mut self) {
        // Certificate and key are two files: what lies between their changes fits nothing.
        if !self.watched.changed_and_settled() {
            return;
        }
        match read(&self.files, &aws_lc_rs::default_provider()) {
            Ok(key) => {
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
            }
            Err(error) => {
                self.errors.increment(1);
                tracing::error!(%error, "the certificate could not be read again; the one from before stays in force");
            }
        }
    }
}

impl Carrier {
    /// Takes the connection out of HTTP and of this thread's reactor, with what HTTP has read beyond its request. None when
    /// it is lost.
    pub(crate) fn of(upgraded: Upgraded) -> Option<(Self, Vec<u8>)> {
        // What was read ahead is copied: the buffer has a capacity of kilobytes, which would otherwise stay for as long as
        // the session.
        let taken = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => parts.io.into_inner().into_std().map(|stream| (Self::Plain(stream), parts.read_buf.to_vec())),
            Err(upgraded) => {
                let Ok(parts) = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() else {
                    tracing::error!("an upgraded connection is of a type that the accept loop does not serve");
                    return None;
                };
                let (stream, connection) = parts.io.into_inner().into_inner();
                let carrier = |stream| (Self::Tls(stream, Box::new(connection)), parts.read_buf.to_vec());
                stream.into_std().map(carrier)
            }
        };
        taken.inspect_err(|error| tracing::debug!(%error, "the socket was lost at the upgrade")).ok()
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, GatewayError> {
    let TlsFiles { certificate, key } = files;
    let text = watched::read(certificate).map_err(|reason| wrong(certificate, &reason))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| wrong(certificate, &format!("it is no PEM ({error})")))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"there is no certificate in it; it should begin -----BEGIN CERTIFICATE-----"));
    }
    let text = watched::read(key).map_err(|reason| wrong(key, &reason))?;
    let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(key, &no_key(&error, &text)))?;
    let unknown =
        "the key is of no kind that can be used: RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, Ed25519";
    let signing = provider.key_provider.load_private_key(parsed).map_err(|_| wrong(key, &unknown))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let reason = format!("the key does not fit the certificate in {}", certificate.display());
            Err(wrong(key, &reason))
        }
        Err(error) => Err(wrong(certificate, &format!("it is no certificate ({error})"))),
    }
}

/// What is wrong with a file in which no key was found. Nothing of it is repeated.
fn no_key(error: &pem::Error, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return "the key is encrypted; store it unencrypted (openssl pkey), readable by the server alone".to_owned();
    }
    match error {
        pem::Error::NoItemsFound => {
            "there is no private key in it; it should begin -----BEGIN PRIVATE KEY-----".to_owned()
        }
        _ => "it is no PEM".to_owned(),
    }
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Tls { path: path.to_owned(), reason: reason.to_string() }
}
