//! The three files that every container has from outside: hostname, hosts and resolv.conf. Rendering is pure.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::{Result, failed};

/// What resolv.conf is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// Used when the host knows no server but its own loopback: Docker's choice.
const PUBLIC_SERVERS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 4, 4)),
];

/// Address of the embedded server, inside.
pub(crate) const EMBEDDED_SERVER: &str = "127.0.0.11";

impl Resolver {
    /// Reads the host's file; systemd-resolved's stub is skipped for the real list.
    pub(crate) fn of_host() -> Resolver {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut resolver = Resolver::parse(&read("/etc/resolv.conf"));
        if resolver.nameservers == [IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53))] {
            resolver = Resolver::parse(&read("/run/systemd/resolve/resolv.conf"));
        }
        resolver
    }

    pub(crate) fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(
                    words
                        .next()
                        .and_then(|address| address.split('%').next()?.parse::<IpAddr>().ok()),
                ),
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                Some(_) | None => {}
            }
        }
        resolver
    }

    /// With what the daemon and the container say in place of what the host says.
    pub(crate) fn overridden(
        mut self,
        servers: &[IpAddr],
        search: &[String],
        options: &[String],
    ) -> Resolver {
        if !servers.is_empty() {
            self.nameservers = servers.to_vec();
        }
        if !search.is_empty() {
            self.search = search
                .iter()
                .filter(|domain| *domain != ".")
                .cloned()
                .collect();
        }
        if !options.is_empty() {
            self.options = options.to_vec();
        }
        self
    }

    /// The servers that a container in a network namespace of its own can reach.
    pub(crate) fn reachable(&self) -> Vec<IpAddr> {
        let servers: Vec<IpAddr> = self
            .nameservers
            .iter()
            .copied()
            .filter(|address| !address.is_loopback())
            .collect();
        if servers.is_empty() {
            PUBLIC_SERVERS.to_vec()
        } else {
            servers
        }
    }

    /// The file for a container that asks `servers` itself.
    pub(crate) fn render(&self, servers: &[IpAddr]) -> String {
        let mut text: String = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        self.rest(&mut text, &self.options);
        text
    }

    /// The file for a container on a user-defined network: only the embedded server, which asks the others.
    pub(crate) fn render_embedded(&self) -> String {
        let mut text = format!("nameserver {EMBEDDED_SERVER}\n");
        let mut options = self.options.clone();
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
        self.rest(&mut text, &options);
        text
    }

    fn rest(&self, text: &mut String, options: &[String]) {
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
    }
}

/// The hosts file: Docker's fixed lines, `--add-host`s and links, and the container's own names.
pub(crate) fn render_hosts(extra: &[(String, String)], own: &[(IpAddr, String)]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::\tip6-localnet\n\
                    ff00::\tip6-mcastprefix\n\
                    ff02::1\tip6-allnodes\n\
                    ff02::2\tip6-allrouters\n"
        .to_owned();
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    for (address, names) in own {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

/// Where the three files of a container lie.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir(pub(crate) PathBuf);

impl ContainerDir {
    pub(crate) fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// The file that the log can be read from: the driver's own, or a copy of what goes to a server.
    pub(crate) fn log(&self, config: &hull_api::host::LogConfig, id: &str) -> Option<PathBuf> {
        let uncached = config
            .config
            .get("cache-disabled")
            .is_some_and(|value| hull_shim::forward::options::parse_bool(value) == Ok(true));
        match config.kind.as_str() {
            "json-file" => Some(self.0.join(format!("{id}-json.log"))),
            "local" => Some(self.0.join("local-logs").join("container.log")),
            "none" => None,
            _ if uncached => None,
            _ => Some(self.0.join("container-cached.log")),
        }
    }
}

/// Writes a file in place: it may be mounted in a running container, so its inode stays.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(failed(format!("write {}", path.display())))
}

/// Gives a file or directory to the containers' root, where that is not the host's.
pub(crate) fn give(path: &Path, owner: (u32, u32)) -> Result<()> {
    if owner == (0, 0) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))
        .map_err(failed(format!("set the owner of {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_the_hosts_with_overrides() {
        let host = Resolver::parse(
            "# note\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch a.example b.example\noptions edns0\n",
        );
        assert_eq!(
            host.render(&host.reachable()),
            "nameserver 10.0.0.2\nsearch a.example b.example\noptions edns0\n"
        );
        assert_eq!(
            host.render_embedded(),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
        );
        let own = host.overridden(
            &["1.1.1.1".parse().unwrap()],
            &[".".to_owned()],
            &["ndots:2".to_owned()],
        );
        assert_eq!(
            own.render(&own.reachable()),
            "nameserver 1.1.1.1\noptions ndots:2\n"
        );
        assert_eq!(
            Resolver::parse("nameserver ::1\n").reachable(),
            PUBLIC_SERVERS
        );
    }

    #[test]
    fn hosts_has_the_fixed_lines_first() {
        let text = render_hosts(
            &[("db".into(), "10.0.0.9".into())],
            &[("10.0.0.2".parse().unwrap(), "web.example web".into())],
        );
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.9\tdb\n10.0.0.2\tweb.example web\n"));
    }
}
