//! TLS for TCP listeners, with client certificates where `--tlsverify` asks for them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hull_tls::Identity;
use rustls::RootCertStore;
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
    let clients = match config.tlsverify {
        false => None,
        true => {
            let mut store = RootCertStore::empty();
            hull_tls::add_authorities(&mut store, Path::new(&path(&config.tlscacert, "ca")))
                .context("could not read CA certificate")?;
            Some(store)
        }
    };
    let certificate = path(&config.tlscert, "cert");
    let key = path(&config.tlskey, "key");
    let server = Identity::read(Path::new(&certificate), Path::new(&key))
        .and_then(|identity| hull_tls::server(identity, clients, &["http/1.1"]))
        .context("Could not load X509 key pair")?;
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self {
                issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            }
        }

        fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }
    }

    /// Does a client with this certificate (none, or one of an authority) get through?
    async fn connects(
        acceptor: &TlsAcceptor,
        trusted: &Authority,
        client: Option<&Authority>,
    ) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(trusted.issuer.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.issue("client");
                let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .unwrap()
            }
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(theirs).await {
                let _ = stream.write_all(b"x").await;
            }
        });
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let Ok(mut stream) = connector
            .connect(ServerName::try_from("localhost").unwrap(), ours)
            .await
        else {
            return false;
        };
        stream.read(&mut [0]).await.is_ok_and(|n| n == 1)
    }

    #[tokio::test]
    async fn only_clients_of_the_authority_are_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, foreign) = (Authority::new(), Authority::new());
        let (certificate, key) = ours.issue("localhost");
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let config = Config {
            tlsverify: true,
            tlscacert: write("ca.pem", ours.issuer.pem()),
            tlscert: write("cert.pem", certificate.pem()),
            tlskey: write("key.pem", key.serialize_pem()),
            ..Config::default()
        };
        let verifying = acceptor(&config).unwrap().unwrap();
        assert!(connects(&verifying, &ours, Some(&ours)).await);
        assert!(!connects(&verifying, &ours, Some(&foreign)).await);
        assert!(!connects(&verifying, &ours, None).await);
        let open = acceptor(&Config {
            tlsverify: false,
            tls: Some(true),
            ..config
        })
        .unwrap()
        .unwrap();
        assert!(connects(&open, &ours, None).await);
        assert!(acceptor(&Config::default()).unwrap().is_none());
    }
}
