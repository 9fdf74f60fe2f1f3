//! TLS to a daemon on TCP, with our certificate and the authorities that the user names.

use crate::{Error, TlsFiles};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Shakes hands over `stream` with the daemon named in `address` (`host:port`).
pub async fn connect(
    stream: TcpStream,
    address: &str,
    files: &TlsFiles,
) -> Result<TlsStream<TcpStream>, Error> {
    let host = address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .trim_matches(['[', ']'])
        .to_owned();
    let name = ServerName::try_from(host)
        .map_err(|error| Error::Tls(format!("invalid host name in {address}: {error}")))?;
    let connector = TlsConnector::from(Arc::new(config(files)?));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| Error::Tls(format!("error during connect: tls: {error}")))
}

fn read<T>(
    what: &str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, Error> {
    let fail = |why: String| Error::Tls(format!("could not load {what} {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    parse(&bytes).map_err(fail)
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let list = list.map_err(|error| error.to_string())?;
    if list.is_empty() {
        Err("no certificate in the file".into())
    } else {
        Ok(list)
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let builder = if files.verify {
        builder.with_root_certificates(roots(files)?)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read("X509 key pair", cert, certificates)?;
    let key = read("X509 key pair", key, |bytes| {
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| error.to_string())
    })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| Error::Tls(format!("could not load X509 key pair: {error}")))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            for certificate in read("CA certificate", ca, certificates)? {
                store.add(certificate).map_err(|error| {
                    Error::Tls(format!(
                        "could not load CA certificate {}: {error}",
                        ca.display()
                    ))
                })?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

/// `--tls` without `--tlsverify`: encrypted, the daemon's name unchecked, as Docker has it. Signatures are checked all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
