//! A real registry server on loopback: Debian's `docker-registry`.

use crate::image::Image;
use crate::process;
use crate::temp::TempRoot;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How the registry is to behave.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// User and password asked for by HTTP basic authentication; none: everybody may do everything.
    pub account: Option<(String, String)>,
    /// Serves HTTPS with a certificate for `localhost` and `127.0.0.1` made for this run.
    pub tls: bool,
    /// With `tls`: only clients with a certificate of [`Registry::client`] are let in.
    pub clients: bool,
    /// Be a pull-through mirror of the registry at this URL.
    pub mirror_of: Option<String>,
}

/// A running registry, stopped and forgotten when dropped.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    port: u16,
    root: TempRoot,
    options: RegistryOptions,
}

impl Registry {
    /// Starts one on a free port of 127.0.0.1; `None` when the program is not installed.
    pub fn start(options: RegistryOptions) -> Option<Registry> {
        let program = crate::skips::program("docker-registry")?;
        let root = TempRoot::new("hull-registry");
        let port = crate::net::free_port();
        let config = root.file("config.yml", config(&options, &root, port));
        let log = fs::File::create(root.join("log")).expect("make the registry's log");
        let server = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("start docker-registry: {error}"));
        let registry = Registry {
            server,
            port,
            root,
            options,
        };
        assert!(
            crate::net::wait_for_port(port, Duration::from_secs(20)),
            "docker-registry did not come up: {}",
            registry.log()
        );
        Some(registry)
    }

    /// `127.0.0.1:<port>`, the first part of a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://..` or `https://..`, without a path.
    pub fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.options.tls { "https" } else { "http" },
            self.host()
        )
    }

    /// The certificate (PEM) that clients have to trust, of a registry with TLS.
    pub fn certificate(&self) -> PathBuf {
        self.root.join("cert.pem")
    }

    /// The certificate and the key (PEM) of a client that is let in, where `clients` was asked for.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.root.join("client.cert"), self.root.join("client.key"))
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Uploads an image with `skopeo` as `<host>/<name>` (`name` with a tag) and gives that reference; `None` without skopeo.
    pub fn push(&self, image: &Image, name: &str) -> Option<String> {
        let skopeo = crate::skips::program("skopeo")?;
        let folder = TempRoot::new("hull-push");
        image
            .write_oci_layout(folder.path())
            .expect("write an OCI layout");
        let tag = image
            .reference
            .rsplit_once(':')
            .map_or("latest", |(_, tag)| tag);
        let reference = format!("{}/{name}", self.host());
        let mut command = Command::new(skopeo);
        command.args([
            "copy",
            "--insecure-policy",
            "--quiet",
            "--dest-tls-verify=false",
        ]);
        if let Some((user, password)) = &self.options.account {
            command
                .arg("--dest-creds")
                .arg(format!("{user}:{password}"));
        }
        command
            .arg(format!("oci:{}:{tag}", folder.path().display()))
            .arg(format!("docker://{reference}"));
        let output = process::run(&mut command, Duration::from_secs(60)).expect("run skopeo");
        output.ok();
        Some(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Only fails when it has already ended.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn config(options: &RegistryOptions, root: &TempRoot, port: u16) -> String {
    let mut yaml = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: false}}}}\nstorage:\n  filesystem: {{rootdirectory: {data}}}\n  delete: {{enabled: true}}\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: test\n",
        data = root.folder("data").display()
    );
    if options.tls {
        let (certificate, key) = certificate();
        let certificate = root.file("cert.pem", certificate);
        let key = root.file("key.pem", key);
        yaml += &format!(
            "  tls: {{certificate: {}, key: {}{}}}\n",
            certificate.display(),
            key.display(),
            if options.clients {
                let (ca, certificate, key) = client_certificate();
                root.file("client.cert", certificate);
                root.file("client.key", key);
                format!(
                    ", clientcas: [{}]",
                    root.file("client-ca.pem", ca).display()
                )
            } else {
                String::new()
            }
        );
    }
    if let Some((user, password)) = &options.account {
        // Cost 4, the least that bcrypt has: the server checks it at every request.
        let hash = bcrypt::hash(password, 4).expect("hash a password");
        let file = root.file("htpasswd", format!("{user}:{hash}\n"));
        yaml += &format!(
            "auth:\n  htpasswd: {{realm: hull-test, path: {}}}\n",
            file.display()
        );
    }
    if let Some(url) = &options.mirror_of {
        yaml += &format!("proxy: {{remoteurl: {url}}}\n");
    }
    yaml
}

/// A CA, and a client's certificate and key signed by it, as PEM.
fn client_certificate() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    let ca_key = KeyPair::generate().expect("make a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("sign a CA");
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("make a key");
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).expect("sign a certificate");
    (ca.pem(), certificate.pem(), key.serialize_pem())
}

/// A self-signed certificate for localhost and 127.0.0.1, and its key, as PEM.
pub fn certificate() -> (String, String) {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("make a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_one(options: RegistryOptions) {
        let Some(registry) = Registry::start(options) else {
            crate::skip!("docker-registry is not installed");
            return;
        };
        let image = Image::new("tiny:1").layer(
            crate::image::Tar::new()
                .file("hello", 0o644, "hello")
                .finish(),
        );
        let Some(reference) = registry.push(&image, "test/tiny:1") else {
            crate::skip!("skopeo is not installed");
            return;
        };
        assert!(reference.ends_with("/test/tiny:1"));
        assert!(
            registry.log().contains("/v2/test/tiny/manifests/1"),
            "{}",
            registry.log()
        );
    }

    #[test]
    fn plain() {
        try_one(RegistryOptions::default());
    }

    #[test]
    fn with_tls_and_a_password() {
        try_one(RegistryOptions {
            account: Some(("me".into(), "secret".into())),
            tls: true,
            ..RegistryOptions::default()
        });
    }
}
