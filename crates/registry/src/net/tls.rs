//! The certificate of an HTTPS server, and those that its clients must have.

use std::path::Path;
use std::sync::Arc;

use hull_tls::Identity;
use rustls::RootCertStore;
use tokio_rustls::TlsAcceptor;

/// Reads a certificate chain and its key (PEM). With `client_ca` a client needs a certificate that one of those authorities has
/// signed (RFC 8446 4.3.2); one without ends its handshake with an alert.
pub fn acceptor(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<TlsAcceptor, hull_tls::Error> {
    let clients = match client_ca {
        None => None,
        Some(path) => {
            let mut store = RootCertStore::empty();
            hull_tls::add_authorities(&mut store, path)?;
            Some(store)
        }
    };
    let config = hull_tls::server(Identity::read(cert, key)?, clients, &["h2", "http/1.1"])?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
