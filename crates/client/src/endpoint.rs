//! Where a daemon listens, read from `-H`, `DOCKER_HOST` or a context.

use crate::Error;
use std::path::PathBuf;

/// Where Hull's daemon listens when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "unix:///run/hull/hull.sock";

const TCP_PORT: &str = "2375";
const TLS_PORT: &str = "2376";

/// The files of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether the daemon's certificate is checked.
    pub verify: bool,
}

/// A way to a daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, with TLS or without.
    Tcp {
        /// `host:port`, an IPv6 address in brackets.
        address: String,
        /// Prefix of every path.
        path: String,
        /// TLS, if wanted.
        tls: Option<TlsFiles>,
    },
    /// `hull system dial-stdio` on another machine.
    Ssh {
        /// Login name.
        user: Option<String>,
        /// Machine.
        host: String,
        /// Port of its sshd.
        port: Option<String>,
        /// Socket there, when it is not the default one.
        path: String,
    },
}

impl Endpoint {
    /// Reads a host as Docker does: `unix://..`, `tcp://..`, `ssh://..`, or a bare `host[:port]` for TCP.
    pub fn parse(host: &str, tls: Option<TlsFiles>) -> Result<Endpoint, Error> {
        let text = host.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let bad = || Error::Host(format!("unable to parse docker host `{host}`"));
        match scheme {
            "unix" => {
                if rest.contains("://") {
                    return Err(Error::Host(format!("invalid proto, expected unix: {rest}")));
                }
                let path = if rest.is_empty() {
                    "/var/run/docker.sock"
                } else {
                    rest
                };
                Ok(Endpoint::Unix(path.into()))
            }
            "tcp" | "http" | "https" => {
                let (address, path) = match rest.find('/') {
                    Some(slash) => (
                        &rest[..slash],
                        rest[slash..].trim_end_matches('/').to_owned(),
                    ),
                    None => (rest, String::new()),
                };
                let port = if tls.is_some() { TLS_PORT } else { TCP_PORT };
                Ok(Endpoint::Tcp {
                    address: with_port(address, port).ok_or_else(bad)?,
                    path,
                    tls,
                })
            }
            "ssh" => {
                ssh(rest).ok_or_else(|| Error::Host(format!("parse ssh host: invalid host {text}")))
            }
            _ => Err(bad()),
        }
    }
}

fn with_port(address: &str, port: &str) -> Option<String> {
    let (host, given) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (
            format!("[{host}]"),
            after.strip_prefix(':').unwrap_or(after),
        )
    } else {
        match address.split_once(':') {
            Some((host, given)) => (host.to_owned(), given),
            None => (address.to_owned(), ""),
        }
    };
    let host = if host.is_empty() {
        "127.0.0.1".to_owned()
    } else {
        host
    };
    let given = if given.is_empty() { port } else { given };
    given.parse::<u16>().ok()?;
    Some(format!("{host}:{given}"))
}

fn ssh(rest: &str) -> Option<Endpoint> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].to_owned()),
        None => (rest, String::new()),
    };
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, authority),
    };
    if user.as_ref().is_some_and(|user| user.contains(':')) {
        return None;
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) && !host.is_empty() => {
            (host, Some(port.to_owned()))
        }
        _ => (address, None),
    };
    // A host or user that begins with `-` would be an option of ssh.
    let safe = |text: &str| !text.is_empty() && !text.starts_with('-');
    if !safe(host) || user.as_deref().is_some_and(|user| !safe(user)) {
        return None;
    }
    Some(Endpoint::Ssh {
        user,
        host: host.to_owned(),
        port,
        path: if path == "/" { String::new() } else { path },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(
            Endpoint::parse("unix:///x", None).unwrap(),
            Endpoint::Unix("/x".into())
        );
        let tcp = |text: &str| match Endpoint::parse(text, None) {
            Ok(Endpoint::Tcp { address, path, .. }) => format!("{address}{path}"),
            other => format!("{other:?}"),
        };
        assert_eq!(tcp("tcp://1.2.3.4"), "1.2.3.4:2375");
        assert_eq!(tcp("tcp://:99/base/"), "127.0.0.1:99/base");
        assert_eq!(tcp("[::1]"), "[::1]:2375");
        assert_eq!(
            Endpoint::parse("ssh://me@box:22", None).unwrap(),
            Endpoint::Ssh {
                user: Some("me".into()),
                host: "box".into(),
                port: Some("22".into()),
                path: String::new()
            }
        );
        assert!(Endpoint::parse("ssh://-oProxyCommand=x", None).is_err());
        assert!(Endpoint::parse("foo://x", None).is_err());
        assert!(Endpoint::parse("tcp://a:b", None).is_err());
    }
}
