//! The certificate of an HTTPS server.

use std::path::Path;
use std::sync::Arc;

use hull_tls::Identity;
use tokio_rustls::TlsAcceptor;

/// Reads a certificate chain and its key (PEM).
pub fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, hull_tls::Error> {
    let config = hull_tls::server(Identity::read(cert, key)?, None, &["h2", "http/1.1"])?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
