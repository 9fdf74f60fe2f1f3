//! TLS for one registry: the system's roots, the CA and client certificates of its directory, or no verification.

use hull_tls::{Identity, Trust};
use rustls::ClientConfig;

use super::hosts::Settings;
use crate::{Error, Result};

/// The configuration for a host.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig> {
    build(settings).map_err(|error| Error::Invalid(format!("TLS cannot be set up: {error}")))
}

fn build(settings: &Settings) -> std::result::Result<ClientConfig, hull_tls::Error> {
    let trust = if settings.skip_verify {
        Trust::Anyone
    } else {
        let mut store = hull_tls::system_authorities();
        for path in &settings.cas {
            hull_tls::add_authorities(&mut store, path)?;
        }
        Trust::Authorities(store)
    };
    let identity = match &settings.client {
        Some((certificate, key)) => Some(Identity::read(certificate, key)?),
        None => None,
    };
    hull_tls::client(trust, identity)
}
