//! Where a plugin is, by its name: moby's `LocalRegistry` (pkg/plugins/discovery.go).

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// Plugins that are looked at in the directories.
const FOUND_MAX: usize = 256;
/// Longest file with an address, in bytes.
const SPECIFICATION_MAX: u64 = 64 << 10;

/// Where plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// `NAME.sock`, `NAME/NAME.sock`.
    pub sockets: PathBuf,
    /// `NAME.spec`, `NAME/NAME.spec`: a file with an address; `.json`: one with `Addr`.
    pub specifications: Vec<PathBuf>,
}

impl Default for Directories {
    fn default() -> Directories {
        Directories {
            sockets: "/run/docker/plugins".into(),
            specifications: vec![
                "/etc/docker/plugins".into(),
                "/usr/lib/docker/plugins".into(),
            ],
        }
    }
}

/// Where a plugin's server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Address {
    /// Whether it is worth a try. A plugin that has ended in good order has taken its socket with it.
    pub(crate) fn may_be_there(&self) -> bool {
        match self {
            Address::Unix(path) => path.exists(),
            Address::Tcp(_) => true,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix {}", path.display()),
            Address::Tcp(host) => write!(f, "tcp {host}"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Specification {
    #[serde(rename = "Addr")]
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<Value>,
}

impl Directories {
    /// Everything in one directory.
    #[must_use]
    pub fn at(directory: &Path) -> Directories {
        Directories {
            sockets: directory.to_owned(),
            specifications: vec![directory.to_owned()],
        }
    }

    /// Names of what is there. A directory that cannot be read holds none.
    pub(crate) fn scan(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut look = |directory: &Path, ends: &[&str]| {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let (Some(stem), Some(file)) = (stem(&path), entry.file_name().into_string().ok())
                else {
                    continue;
                };
                let own = |end: &&&str| match path.is_dir() {
                    true => path.join(format!("{file}.{end}")).exists(),
                    false => file.ends_with(&format!(".{end}")),
                };
                let name = if path.is_dir() { file.clone() } else { stem };
                if names.len() < FOUND_MAX && ends.iter().any(|end| own(&end)) && fits(&name) {
                    names.insert(name);
                }
            }
        };
        look(&self.sockets, &["sock"]);
        for directory in &self.specifications {
            look(directory, &["spec", "json"]);
        }
        names
    }

    /// Where the plugin of a name is: a socket before a file with an address.
    pub(crate) fn locate(&self, name: &str) -> Result<Address> {
        if !fits(name) {
            return Err(Error::Name(name.to_owned()));
        }
        let places = |directory: &Path, end: &str| {
            let file = format!("{name}.{end}");
            [directory.join(&file), directory.join(name).join(file)]
        };
        for path in places(&self.sockets, "sock") {
            if std::fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
                return Ok(Address::Unix(path));
            }
        }
        for directory in &self.specifications {
            for path in places(directory, "spec") {
                if path.exists() {
                    return address(text(&path)?.trim()).map_err(|why| wrong(&path, why));
                }
            }
            for path in places(directory, "json") {
                if path.exists() {
                    return described(&text(&path)?).map_err(|why| wrong(&path, why));
                }
            }
        }
        Err(Error::NotFound(name.to_owned()))
    }
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem()?.to_str().map(str::to_owned)
}

/// A name is a part of a path, and stays one.
fn fits(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

fn wrong(path: &Path, why: String) -> Error {
    Error::Specification {
        path: path.display().to_string(),
        why,
    }
}

fn text(path: &Path) -> Result<String> {
    use std::io::Read;
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(SPECIFICATION_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: std::io::Error| wrong(path, error.to_string()))
}

fn described(text: &str) -> std::result::Result<Address, String> {
    let read: Specification = hull_api::json::from_str(text).map_err(|e| e.to_string())?;
    match read.tls.is_some_and(|tls| !tls.is_null()) {
        true => Err("not implemented: plugins over TLS (TLSConfig)".to_owned()),
        false => address(&read.addr),
    }
}

fn address(text: &str) -> std::result::Result<Address, String> {
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        Some(("tcp" | "http", host)) if !host.is_empty() => {
            Ok(Address::Tcp(host.trim_end_matches('/').to_owned()))
        }
        Some(("https", _)) => Err("not implemented: plugins over TLS (https)".to_owned()),
        Some(_) => Err(format!("unsupported address {text:?}")),
        None => Err("Unknown protocol".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_comes_before_a_specification() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let directories = Directories {
            sockets: at("run"),
            specifications: vec![at("etc"), at("lib")],
        };
        assert!(directories.scan().is_empty());
        for folder in ["run/deep", "etc/deeper", "lib"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let _flat = UnixListener::bind(at("run/flat.sock")).unwrap();
        let _deep = UnixListener::bind(at("run/deep/deep.sock")).unwrap();
        std::fs::write(at("run/plain.sock"), "").unwrap();
        std::fs::write(at("etc/flat.spec"), "tcp://elsewhere:1").unwrap();
        std::fs::write(at("etc/deeper/deeper.spec"), "unix:///p.sock\n").unwrap();
        std::fs::write(at("lib/far.json"), r#"{"name":"x","addr":"http://h:80/"}"#).unwrap();
        std::fs::write(
            at("lib/sealed.json"),
            r#"{"Addr":"https://h:80","TLSConfig":{}}"#,
        )
        .unwrap();
        std::fs::write(at("lib/odd.spec"), "/no/scheme").unwrap();
        assert_eq!(
            directories.scan().into_iter().collect::<Vec<_>>().join(" "),
            "deep deeper far flat odd plain sealed"
        );
        let found: String = [
            "flat", "deep", "deeper", "far", "plain", "sealed", "odd", "../flat", "",
        ]
        .map(|name| match directories.locate(name) {
            Ok(address) => format!("{name}: {address}\n"),
            Err(error) => format!("{name}: {error}\n"),
        })
        .concat()
        .replace(&dir.path().display().to_string(), "");
        expect_test::expect![[r#"
            flat: unix /run/flat.sock
            deep: unix /run/deep/deep.sock
            deeper: unix /p.sock
            far: tcp h:80
            plain: plugin "plain" not found
            sealed: legacy plugin: /lib/sealed.json: not implemented: plugins over TLS (TLSConfig)
            odd: legacy plugin: /lib/odd.spec: Unknown protocol
            ../flat: invalid plugin name "../flat"
            : invalid plugin name ""
        "#]]
        .assert_eq(&found);
    }
}
