//! TLS as every part of Hull sets it up: TLS 1.2 and 1.3 by rustls with ring, certificates and keys from PEM files.
//!
//! What is trusted, and in which words a failure reaches the user, is the caller's: Docker has other sentences for the daemon, the
//! command line, registries and log servers.

#![forbid(unsafe_code)]

mod anyone;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("open {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not PEM, or lacks what was looked for.
    #[error("there is no {what} in {}{}", path.display(), reason(source))]
    Pem {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A certificate that is no authority's, or does not belong to its key.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Client certificates cannot be checked with these authorities.
    #[error("clients cannot be checked")]
    Clients(#[source] rustls::server::VerifierBuilderError),
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => String::new(),
        other => format!(": {other}"),
    }
}

/// A certificate chain, leaf first, and its private key.
#[derive(Debug)]
pub struct Identity {
    file: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM files, which may be the same.
    ///
    /// # Errors
    /// Files that cannot be read, or hold no certificate or key. Whether they belong together shows at [`client`] and [`server`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        Ok(Self {
            file: certificate.to_owned(),
            chain: certificates(certificate)?,
            key: private_key(key)?,
        })
    }
}

/// Whose certificates a client accepts.
#[derive(Debug)]
pub enum Trust {
    /// Those of these authorities, in the server's name.
    Authorities(RootCertStore),
    /// Any, because the user asked for it. The handshake's signatures are checked all the same.
    Anyone,
}

/// The host's authorities, without those that rustls cannot read: no server could use them with us.
#[must_use]
pub fn system_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Adds the authorities of a PEM file.
///
/// # Errors
/// A file that cannot be read, holds no certificate, or one that is no authority's.
pub fn add_authorities(store: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|source| Error::Unusable {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// A client's configuration, with a certificate of its own or without.
///
/// # Errors
/// A certificate that does not belong to its key.
pub fn client(trust: Trust, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3");
    let builder = match trust {
        Trust::Authorities(store) => builder.with_root_certificates(store),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone::Anyone(provider))),
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { file, chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|source| Error::Unusable { path: file, source }),
    }
}

/// A server's configuration. With `clients`, only clients with a certificate of these authorities get through. `protocols` are offered
/// by ALPN (RFC 7301), the best first.
///
/// # Errors
/// A certificate that does not belong to its key; no authority for clients.
pub fn server(
    identity: Identity,
    clients: Option<RootCertStore>,
    protocols: &[&str],
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(store) => {
            let store = Arc::new(store);
            let verifier = WebPkiClientVerifier::builder_with_provider(store, provider)
                .build()
                .map_err(Error::Clients)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let Identity { file, chain, key } = identity;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| Error::Unusable { path: file, source })?;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let broken = |source| broken("certificate", path, source);
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(broken)?;
    match chain.is_empty() {
        true => Err(broken(pem::Error::NoItemsFound)),
        false => Ok(chain),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|source| broken("private key", path, source))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn broken(what: &'static str, path: &Path, source: pem::Error) -> Error {
    Error::Pem {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
