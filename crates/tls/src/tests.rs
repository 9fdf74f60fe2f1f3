//! Handshakes in memory between clients and servers of the same and of other authorities; files that are not what they should be.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConnection, ConnectionCommon, SideData};

use super::*;

/// An authority, with its files in a folder.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self {
            folder: tempfile::tempdir().unwrap(),
            issuer,
        };
        authority.file("ca.pem", &authority.issuer.pem());
        authority
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::read(
            &self.file("cert.pem", &certificate.pem()),
            &self.file("key.pem", &key.serialize_pem()),
        )
        .unwrap()
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        add_authorities(&mut store, &self.folder.path().join("ca.pem")).unwrap();
        store
    }
}

/// Carries what one side has to say to the other.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = rustls::ServerConnection::new(Arc::new(server))?;
    for _ in 0..4 {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

#[test]
fn a_client_trusts_the_authorities_that_it_was_given() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let talk = |trust, name| {
        let server = server(ours.identity(name), None, &["http/1.1"]).unwrap();
        handshake(client(trust, None).unwrap(), server)
    };
    talk(Trust::Authorities(ours.store()), "localhost").unwrap();
    talk(Trust::Authorities(ours.store()), "elsewhere").unwrap_err();
    talk(Trust::Authorities(foreign.store()), "localhost").unwrap_err();
    talk(Trust::Authorities(system_authorities()), "localhost").unwrap_err();
    talk(Trust::Anyone, "elsewhere").unwrap();
}

#[test]
fn a_server_lets_in_clients_of_its_authorities() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let talk = |identity| {
        let server = server(ours.identity("localhost"), Some(ours.store()), &[]).unwrap();
        let trust = Trust::Authorities(ours.store());
        handshake(client(trust, identity).unwrap(), server)
    };
    talk(Some(ours.identity("me"))).unwrap();
    talk(Some(foreign.identity("me"))).unwrap_err();
    talk(None).unwrap_err();
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let ours = Authority::new();
    let _ = ours.identity("localhost");
    let path = |name: &str| ours.folder.path().join(name);
    let text = |certificate: &str, key: &str| {
        let error = Identity::read(&path(certificate), &path(key)).unwrap_err();
        error
            .to_string()
            .replace(&ours.folder.path().display().to_string(), "DIR")
    };
    ours.file("empty", "");
    ours.file("cut", "-----BEGIN CERTIFICATE-----\nAAAA");
    assert_eq!(
        text("gone", "key.pem"),
        "open DIR/gone: No such file or directory (os error 2)"
    );
    assert_eq!(
        text("empty", "key.pem"),
        "there is no certificate in DIR/empty"
    );
    assert_eq!(
        text("cert.pem", "empty"),
        "there is no private key in DIR/empty"
    );
    assert!(text("cut", "key.pem").starts_with("there is no certificate in DIR/cut: "));
    let foreign = Authority::new();
    let _ = foreign.identity("localhost");
    let mixed = Identity::read(&path("cert.pem"), &foreign.folder.path().join("key.pem")).unwrap();
    let error = server(mixed, None, &[]).unwrap_err().to_string();
    assert!(error.contains("cert.pem cannot be used: "), "{error}");
}
