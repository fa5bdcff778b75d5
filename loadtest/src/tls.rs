//! `wss://`: whom a client trusts, and a connection that is encrypted or not.
//!
//! **Invariant:** a plain connection costs no more because there is TLS. Nothing is trusted that was not named: an authority's
//! file, or everybody by `--insecure`.
//!
//! Not here: when a socket is looked at (`swarm`).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

use crate::upgrade::Target;

/// Whose certificates are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those that an authority of this file has signed
    Authorities(&'a Path),
    /// All
    Everybody,
}

/// What all connections to a server have in common.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{} cannot be read as certificates in PEM: {}", .0.display(), .1)]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("there is no certificate in {}", .0.display())]
    Empty(PathBuf),
    #[error("{0} is no name that a certificate can have")]
    Name(String, #[source] InvalidDnsNameError),
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl Tls {
    /// Prepares connections to `target`.
    ///
    /// # Errors
    /// The file of authorities is not what it should be, or the target's host is no name.
    pub(crate) fn new(target: &Target, trust: Trust<'_>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = match trust {
            Trust::Authorities(file) => builder.with_root_certificates(authorities(file)?).with_no_client_auth(),
            Trust::Everybody => {
                let verifier = Arc::new(Credulous(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        let host = target.host();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsError::Name(host.to_owned(), error))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// Puts TLS on a connection; the hand-shake happens with the first bytes.
    pub(crate) fn wrap<S: Read + Write>(&self, stream: S) -> io::Result<StreamOwned<ClientConnection, S>> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(StreamOwned::new(connection.map_err(io::Error::other)?, stream))
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let broken = |error| TlsError::Pem(file.to_owned(), error);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(broken)? {
        store.add(certificate.map_err(broken)?)?;
    }
    if store.is_empty() { Err(TlsError::Empty(file.to_owned())) } else { Ok(store) }
}

/// Takes any certificate; that the server has its key is checked all the same, so that a hand-shake costs what it costs.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream<S: Read + Write> {
    Plain(S),
    Tls(Box<StreamOwned<ClientConnection, S>>),
}

impl<S: Read + Write> Stream<S> {
    pub(crate) fn new(stream: S, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(match tls {
            None => Self::Plain(stream),
            Some(tls) => Self::Tls(Box::new(tls.wrap(stream)?)),
        })
    }

    /// What lies below.
    pub(crate) fn socket(&mut self) -> &mut S {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    /// Whether a read that brought so little has emptied the socket: of TLS it is one record.
    pub(crate) fn is_emptied_by(&self, read: usize, buffer: usize) -> bool {
        matches!(self, Self::Plain(_)) && read < buffer
    }

    /// Whether bytes that were written still wait to be encrypted or taken.
    pub(crate) fn wants_flush(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.conn.wants_write())
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => match stream.read(buffer) {
                // Servers that hang up without a word of TLS are common; what that means is the same as without TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_authority_is_named() {
        let target: Target = "wss://localhost:1/ws".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = |file: &str, text: Option<&str>, want: &str| {
            let path = folder.path().join(file);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = Tls::new(&target, Trust::Authorities(&path)).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains(file), "{error}");
        };
        check("away.pem", None, "cannot be read");
        check("empty.pem", Some("nothing"), "no certificate");
        check("bad.pem", Some("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"), "PEM");
        assert!(Tls::new(&target, Trust::Everybody).is_ok());
    }
}
