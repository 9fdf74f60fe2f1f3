//! TLS to a daemon on TCP, with our certificate and the authorities that the user names.

use crate::{Error, TlsFiles};
use hull_tls::{Identity, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
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

/// `--tls` without `--tlsverify` is encrypted, the daemon's name unchecked, as Docker has it.
fn config(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let trust = match files.verify {
        true => Trust::Authorities(authorities(files)?),
        false => Trust::Anyone,
    };
    let unusable = |error| Error::Tls(format!("could not load X509 key pair: {error}"));
    let identity = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some(Identity::read(cert, key).map_err(unusable)?),
        _ => None,
    };
    hull_tls::client(trust, identity).map_err(unusable)
}

fn authorities(files: &TlsFiles) -> Result<RootCertStore, Error> {
    let Some(ca) = &files.ca else {
        return Ok(hull_tls::system_authorities());
    };
    let mut store = RootCertStore::empty();
    hull_tls::add_authorities(&mut store, ca)
        .map_err(|error| Error::Tls(format!("could not load CA certificate: {error}")))?;
    Ok(store)
}
