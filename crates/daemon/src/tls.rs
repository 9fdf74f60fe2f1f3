//! TLS for TCP listeners, with client certificates where `--tlsverify` asks for them.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// What accepts TLS connections, or nothing where TLS was not asked for.
///
/// # Errors
/// Files that are missing or hold no certificate or key, naming them.
pub(crate) fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>> {
    if !config.tls.unwrap_or(config.tlsverify) {
        return Ok(None);
    }
    let path = |set: &str, name: &str| {
        if set.is_empty() {
            format!("/root/.docker/{name}.pem")
        } else {
            set.to_owned()
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = if config.tlsverify {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&path(&config.tlscacert, "ca"))? {
            roots.add(certificate).context("add the CA certificate")?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = certificates(&path(&config.tlscert, "cert"))?;
    let key = private_key(&path(&config.tlskey, "key"))?;
    let mut server = builder
        .with_single_cert(chain, key)
        .context("invalid TLS configuration")?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let pem =
        std::fs::read(path).with_context(|| format!("Could not load X509 certificate {path}"))?;
    let found: Vec<_> = rustls_pemfile::certs(&mut &pem[..])
        .collect::<Result<_, _>>()
        .with_context(|| format!("read {path}"))?;
    if found.is_empty() {
        bail!("{path} holds no certificate");
    }
    Ok(found)
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>> {
    let pem = std::fs::read(path).with_context(|| format!("Could not load X509 key {path}"))?;
    let key = rustls_pemfile::private_key(&mut &pem[..]).with_context(|| format!("read {path}"))?;
    key.with_context(|| format!("{path} holds no private key"))
}
