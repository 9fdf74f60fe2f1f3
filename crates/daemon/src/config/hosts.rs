//! `-H`: where the daemon listens. Pure.

/// One place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket's path.
    Unix(String),
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Sockets that systemd passed; empty or `*` is all, a number one of them (3 is the first).
    Fd(Option<i32>),
}

impl Host {
    /// Reads `unix://path`, `tcp://host:port`, `fd://`, and dockerd's short forms (`:2375`, `/path`).
    ///
    /// # Errors
    /// `invalid bind address`, naming it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid bind address ({text})");
        let (scheme, rest) = match text.split_once("://") {
            Some(split) => split,
            None if text.starts_with('/') => ("unix", text),
            None => ("tcp", text),
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::Unix("/var/run/docker.sock".to_owned())),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" => Err(format!(
                "{}: the path of a unix socket must be absolute",
                bad()
            )),
            "fd" => match rest {
                "" | "*" => Ok(Self::Fd(None)),
                number => number.parse().map(|n| Self::Fd(Some(n))).map_err(|_| bad()),
            },
            "tcp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                let port = port.trim_end_matches('/').parse().map_err(|_| bad())?;
                Ok(Self::Tcp(host.to_owned(), port))
            }
            other => Err(format!("{}: unsupported protocol {other}", bad())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        assert_eq!(Host::parse("unix:///a/b"), Ok(Host::Unix("/a/b".into())));
        assert_eq!(Host::parse("/a"), Ok(Host::Unix("/a".into())));
        assert_eq!(
            Host::parse("tcp://0.0.0.0:2376"),
            Ok(Host::Tcp("0.0.0.0".into(), 2376))
        );
        assert_eq!(Host::parse("tcp://[::1]:1"), Ok(Host::Tcp("::1".into(), 1)));
        assert_eq!(
            Host::parse(":2375"),
            Ok(Host::Tcp("127.0.0.1".into(), 2375))
        );
        assert_eq!(Host::parse("fd://"), Ok(Host::Fd(None)));
        assert_eq!(Host::parse("fd://4"), Ok(Host::Fd(Some(4))));
        for bad in [
            "unix://a",
            "tcp://x",
            "tcp://x:y",
            "fd://x",
            "npipe://x",
            "tcp://x:70000",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }
}
