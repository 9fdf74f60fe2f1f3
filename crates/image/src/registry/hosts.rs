//! The directory of a registry below `certs.d`: containerd's `hosts.toml`, or Docker's bare certificate files.
//!
//! `hosts.toml` (containerd's docs/hosts.md) names hosts in the order in which they are tried, each with what it can do,
//! and at last the registry itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::{Error, Result};

const FILE: &str = "hosts.toml";
/// Longest file read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Most hosts of one registry.
const HOSTS_MAX: usize = 64;

/// How one host is reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// `name[:port]`.
    pub name: String,
    /// The only scheme; none: HTTPS, and HTTP where the host is insecure.
    pub scheme: Option<&'static str>,
    /// What stands in place of `/v2`.
    pub base: String,
    /// HTTP is tried after HTTPS where no scheme is given, and a token server may be plain.
    pub insecure: bool,
    /// Certificates are not verified.
    pub skip_verify: bool,
    /// Files of further CAs.
    pub cas: Vec<PathBuf>,
    /// A client certificate and its key; the key may be in the same file.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Sent with every request.
    pub headers: HeaderMap,
    /// In place of the usual time for a connection.
    pub dial_timeout: Option<Duration>,
    /// Gives manifests and blobs by digest.
    pub pull: bool,
    /// Tells what a tag means.
    pub resolve: bool,
    /// Takes what is pushed.
    pub push: bool,
}

impl Settings {
    /// A host without anything configured.
    pub fn plain(name: &str, scheme: Option<&'static str>, insecure: bool) -> Self {
        Settings {
            name: name.to_owned(),
            scheme,
            base: "/v2".to_owned(),
            insecure,
            skip_verify: insecure,
            pull: true,
            resolve: true,
            push: true,
            ..Settings::default()
        }
    }
}

/// `ca`: one file or several.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// `client`: one file with both, a list of such files, or a list of pairs.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Client {
    One(PathBuf),
    Many(Vec<PathBuf>),
    Pairs(Vec<Vec<PathBuf>>),
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, Clone, Default)]
#[serde(default)]
struct HostTable {
    capabilities: Vec<String>,
    ca: Option<Files>,
    client: Option<Client>,
    skip_verify: bool,
    override_path: bool,
    header: toml::Table,
    dial_timeout: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HostsFile {
    server: Option<String>,
    host: toml::Table,
    #[serde(flatten)]
    own: HostTable,
}

/// The directory of a registry, if it has one: `name:port`, containerd's `name_port_`, or `_default`.
pub(super) fn directory(certs_dir: Option<&Path>, name: &str) -> Option<PathBuf> {
    let certs_dir = certs_dir?;
    let mut names = vec![name.to_owned()];
    if let Some((host, port)) = name.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    let own = names
        .iter()
        .map(|name| certs_dir.join(name))
        .find(|dir| dir.is_dir());
    own.or_else(|| {
        let default = certs_dir.join("_default");
        default.join(FILE).is_file().then_some(default)
    })
}

/// Changes when a file of the directory does.
pub(super) fn fingerprint(dir: Option<&Path>) -> Vec<(PathBuf, Option<SystemTime>)> {
    let entries = dir.and_then(|dir| fs::read_dir(dir).ok());
    let mut files: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .take(256)
        .map(|entry| {
            let modified = fs::metadata(entry.path()).and_then(|found| found.modified());
            (entry.path(), modified.ok())
        })
        .collect();
    files.sort();
    files
}

/// The hosts of a registry's directory, the registry itself last. `usual` is what the registry is without a directory.
///
/// # Errors
/// [`Error::Invalid`] naming the file and what is wrong in it.
pub(super) fn read(dir: &Path, usual: Settings) -> Result<Vec<Settings>> {
    let path = dir.join(FILE);
    match fs::metadata(&path) {
        Ok(found) if found.len() <= FILE_LEN_MAX => {}
        Ok(_) => return Err(wrong(&path, "it is longer than a list of hosts can be")),
        Err(_) => return certificates(dir, usual).map(|settings| vec![settings]),
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong(&path, &error.to_string()))?;
    parse(&text, dir, usual).map_err(|why| wrong(&path, &why))
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Invalid(format!("invalid {}: {why}", path.display()))
}

fn parse(text: &str, dir: &Path, usual: Settings) -> std::result::Result<Vec<Settings>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.host.len() > HOSTS_MAX {
        return Err(format!("more than {HOSTS_MAX} hosts"));
    }
    let mut hosts = Vec::new();
    for (address, table) in file.host {
        let table: HostTable = table
            .try_into()
            .map_err(|error| format!("host {address:?}: {error}"))?;
        hosts.push(
            settings(&address, table, dir).map_err(|why| format!("host {address:?}: {why}"))?,
        );
    }
    let server = match &file.server {
        Some(server) => settings(server, file.own, dir).map_err(|why| format!("server: {why}"))?,
        None => {
            let mut own = settings(&usual.name, file.own, dir)?;
            own.scheme = usual.scheme;
            own.insecure |= usual.insecure;
            own.skip_verify |= usual.insecure && own.cas.is_empty() && own.client.is_none();
            own
        }
    };
    hosts.push(server);
    Ok(hosts)
}

fn settings(address: &str, table: HostTable, dir: &Path) -> std::result::Result<Settings, String> {
    let address = match address.contains("://") {
        true => address.to_owned(),
        false => format!("https://{address}"),
    };
    let url = Url::parse(&address).map_err(|error| error.to_string())?;
    let scheme = match url.scheme() {
        "http" => "http",
        "https" => "https",
        other => return Err(format!("unsupported scheme {other:?}")),
    };
    let host = url.host_str().ok_or("no host in the address")?;
    let name = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let path = url.path().trim_end_matches('/');
    let base = match (table.override_path, path) {
        (true, path) => path.to_owned(),
        (false, path) if path.ends_with("/v2") => path.to_owned(),
        (false, path) => format!("{path}/v2"),
    };
    let beside = |path: PathBuf| dir.join(path);
    let mut can = (false, false, false);
    for capability in &table.capabilities {
        match capability.to_lowercase().as_str() {
            "pull" => can.0 = true,
            "resolve" => can.1 = true,
            "push" => can.2 = true,
            other => return Err(format!("unknown capability {other:?}")),
        }
    }
    if table.capabilities.is_empty() {
        can = (true, true, true);
    }
    let cas = match table.ca {
        None => Vec::new(),
        Some(Files::One(path)) => vec![path],
        Some(Files::Many(paths)) => paths,
    };
    let client = match table.client {
        None => None,
        Some(Client::One(path)) => Some((path.clone(), path)),
        Some(Client::Many(paths)) => paths.first().map(|path| (path.clone(), path.clone())),
        Some(Client::Pairs(pairs)) => match pairs.first().map(Vec::as_slice) {
            Some([both]) => Some((both.clone(), both.clone())),
            Some([certificate, key]) => Some((certificate.clone(), key.clone())),
            Some(_) => return Err("client: a pair is a certificate and a key".to_owned()),
            None => None,
        },
    };
    Ok(Settings {
        name,
        scheme: Some(scheme),
        base,
        insecure: table.skip_verify,
        skip_verify: table.skip_verify,
        cas: cas.into_iter().map(beside).collect(),
        client: client.map(|(certificate, key)| (beside(certificate), beside(key))),
        headers: headers(&table.header)?,
        dial_timeout: table.dial_timeout.as_deref().map(duration).transpose()?,
        pull: can.0,
        resolve: can.1,
        push: can.2,
    })
}

fn headers(table: &toml::Table) -> std::result::Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in table {
        let bad = |why: &str| format!("header {name:?}: {why}");
        let values: Values = values
            .clone()
            .try_into()
            .map_err(|_| bad("a value is a text or a list of texts"))?;
        let values = match values {
            Values::One(value) => vec![value],
            Values::Many(values) => values,
        };
        let key: HeaderName = name.parse().map_err(|_| bad("no name of a header"))?;
        for value in values {
            let value = HeaderValue::from_str(&value).map_err(|_| bad("not a header's value"))?;
            headers.append(&key, value);
        }
    }
    Ok(headers)
}

/// The part of Go's durations that makes sense for a connection: `3s`, `500ms`, `1m`.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let bad = || format!("invalid duration {text:?}");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(bad()),
    }
}

/// Docker's layout: `*.crt` are CAs, `NAME.cert` with `NAME.key` is a client certificate.
fn certificates(dir: &Path, mut settings: Settings) -> Result<Settings> {
    settings.cas = files(dir, "crt");
    if let Some(certificate) = files(dir, "cert").into_iter().next() {
        let key = certificate.with_extension("key");
        if !key.exists() {
            return Err(Error::Invalid(format!(
                "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                key.display(),
                certificate.display()
            )));
        }
        settings.client = Some((certificate, key));
    }
    if let Some(key) = files(dir, "key").into_iter().next() {
        let certificate = key.with_extension("cert");
        if !certificate.exists() {
            return Err(Error::Invalid(format!(
                "missing client certificate {} for key {}",
                certificate.display(),
                key.display()
            )));
        }
    }
    // A host that has its CA is verified, whatever its address.
    settings.skip_verify &= settings.cas.is_empty() && settings.client.is_none();
    Ok(settings)
}

/// The files of a directory with an extension, sorted.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::result::Result<Vec<Settings>, String> {
        let usual = Settings::plain("r.example:5", None, false);
        parse(text, Path::new("/etc/r"), usual)
    }

    #[test]
    fn order_paths_and_capabilities() {
        let hosts = parsed(
            r#"
            server = "https://r.example"
            ca = "/ca.pem"
            [host."https://z.mirror:5000/cache"]
              capabilities = ["pull"]
              ca = ["a.pem", "/b.pem"]
              client = [["c.cert", "c.key"]]
              dial_timeout = "3s"
            [host."http://a.mirror/own/v2/proxy"]
              override_path = true
              skip_verify = true
              client = "both.pem"
              [host."http://a.mirror/own/v2/proxy".header]
                x-one = "1"
                x-two = ["2", "3"]
            "#,
        )
        .unwrap();
        let names: Vec<_> = hosts
            .iter()
            .map(|host| format!("{}://{}{}", host.scheme.unwrap(), host.name, host.base))
            .collect();
        assert_eq!(
            names,
            [
                "https://z.mirror:5000/cache/v2",
                "http://a.mirror/own/v2/proxy",
                "https://r.example/v2"
            ]
        );
        let [first, second, server] = &hosts[..] else {
            panic!()
        };
        assert_eq!(
            (first.pull, first.resolve, first.push),
            (true, false, false)
        );
        assert_eq!(first.cas, [PathBuf::from("/etc/r/a.pem"), "/b.pem".into()]);
        assert_eq!(
            first.client,
            Some(("/etc/r/c.cert".into(), "/etc/r/c.key".into()))
        );
        assert_eq!(first.dial_timeout, Some(Duration::from_secs(3)));
        assert!(second.insecure && second.push);
        assert_eq!(second.headers.get_all("x-two").iter().count(), 2);
        assert_eq!(server.cas, [PathBuf::from("/ca.pem")]);
    }

    #[test]
    fn without_a_server_it_is_the_registry_itself() {
        let hosts = parsed("skip_verify = true").unwrap();
        assert_eq!((hosts.len(), hosts[0].name.as_str()), (1, "r.example:5"));
        assert!(hosts[0].insecure && hosts[0].scheme.is_none());
        assert_eq!(hosts[0].base, "/v2");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("server = 3", "invalid type"),
            ("[host.\"ftp://x\"]", "unsupported scheme"),
            ("capabilities = [\"fly\"]", "unknown capability \"fly\""),
            ("dial_timeout = \"soon\"", "invalid duration \"soon\""),
            ("[header]\nx = 3", "a value is a text"),
            ("server = [", "TOML parse error"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
