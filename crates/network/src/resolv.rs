//! resolv.conf(5): the host's is read, a container's is written. Layout and rules are Docker's (moby's `resolvconf` package).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::dns;

/// Lines read of the host's file, and servers that the embedded DNS asks.
const LINES_MAX: usize = 1000;
const UPSTREAMS_MAX: usize = 3;

/// Servers for a host that names none but its own loopback. Docker's choice.
const DEFAULT_V4: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];
const DEFAULT_V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844)),
];

/// What a resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    nameservers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<String>,
    /// Lines of other keywords (`sortlist`), kept as they are.
    other: Vec<String>,
    /// What of it came from `--dns` and the like.
    overridden: Vec<&'static str>,
}

/// The file to read: systemd-resolved's list of real servers when /etc/resolv.conf names only its stub.
pub fn host_path() -> PathBuf {
    let path = Path::new("/etc/resolv.conf");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let stub = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
    if ResolvConf::parse(&text).nameservers == [stub] {
        PathBuf::from("/run/systemd/resolve/resolv.conf")
    } else {
        path.to_owned()
    }
}

impl ResolvConf {
    /// Reads a file's text. Lines that make no sense are skipped, as resolvers do.
    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines().take(LINES_MAX).map(str::trim) {
            let mut words = line.split_whitespace();
            match words.next() {
                // A zone (fe80::1%eth0) means nothing in another namespace.
                Some("nameserver") => conf
                    .nameservers
                    .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                Some(word) if !word.starts_with(['#', ';']) => conf.other.push(line.to_owned()),
                Some(_) | None => {}
            }
        }
        conf
    }

    /// Replaces each part that was given (`--dns`, `--dns-search`, `--dns-option`). A search list of `.` is an empty one.
    pub fn override_with(&mut self, nameservers: &[IpAddr], search: &[String], options: &[String]) {
        if !nameservers.is_empty() {
            self.nameservers = nameservers.to_vec();
            self.overridden.push("nameservers");
        }
        if !search.is_empty() {
            self.search = search.iter().filter(|name| *name != ".").cloned().collect();
            self.overridden.push("search");
        }
        if !options.is_empty() {
            self.options = options.to_vec();
            self.overridden.push("options");
        }
    }

    /// The text for a container in the host's namespace.
    pub fn for_host(&self, source: &Path) -> String {
        let comment = format!("# Based on host file: '{}'", source.display());
        self.text(&self.nameservers, &self.options, &[comment], &[])
    }

    /// The text for a container on the default bridge: servers on the host's loopback are out of its reach.
    pub fn for_bridge(&self, source: &Path, ipv6: bool) -> String {
        let mut comments = vec![format!(
            "# Based on host file: '{}' (legacy)",
            source.display()
        )];
        let mut servers = self.nameservers.clone();
        if !self.overridden.contains(&"nameservers") {
            servers.retain(|ip| !ip.is_loopback() && (ipv6 || ip.is_ipv4()));
        }
        if servers.is_empty() {
            servers.extend(DEFAULT_V4);
            servers.extend(DEFAULT_V6.iter().filter(|_| ipv6));
            comments.push("# Used default nameservers.".to_owned());
        }
        self.text(&servers, &self.options, &comments, &[])
    }

    /// The text for a container on a user-defined network.
    pub fn for_embedded(&self, source: &Path) -> String {
        let mut options = self.options.clone();
        let mut after = Vec::new();
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            // Single-label names are ours to answer: nothing may be appended to them first.
            options.push("ndots:0".to_owned());
            after.push("# Option ndots from: internal".to_owned());
        }
        let mut comments = vec![format!(
            "# Based on host file: '{}' (internal resolver)",
            source.display()
        )];
        let from_host = !self.overridden.contains(&"nameservers");
        let servers = self.upstreams();
        let name = |server: &SocketAddr| {
            if from_host {
                format!("host({})", server.ip())
            } else {
                server.ip().to_string()
            }
        };
        comments.push(match servers.is_empty() {
            true => "# NO EXTERNAL NAMESERVERS DEFINED".to_owned(),
            false => format!(
                "# ExtServers: [{}]",
                servers.iter().map(name).collect::<Vec<_>>().join(" ")
            ),
        });
        self.text(&[IpAddr::V4(dns::ADDRESS)], &options, &comments, &after)
    }

    /// The servers that the embedded DNS asks from the host's namespace, where its loopback is in reach.
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        self.nameservers
            .iter()
            .take(UPSTREAMS_MAX)
            .map(|ip| SocketAddr::new(*ip, 53))
            .collect()
    }

    fn text(
        &self,
        servers: &[IpAddr],
        options: &[String],
        comments: &[String],
        after: &[String],
    ) -> String {
        let mut lines = vec![
            "# Generated by Docker Engine.".to_owned(),
            "# This file can be edited; Docker Engine will not make further changes once it"
                .to_owned(),
            "# has been modified.".to_owned(),
            String::new(),
        ];
        lines.extend(servers.iter().map(|ip| format!("nameserver {ip}")));
        if !self.search.is_empty() {
            lines.push(format!("search {}", self.search.join(" ")));
        }
        if !options.is_empty() {
            lines.push(format!("options {}", options.join(" ")));
        }
        lines.extend(self.other.iter().cloned());
        lines.push(String::new());
        lines.extend(comments.iter().cloned());
        lines.push(format!("# Overrides: [{}]", self.overridden.join(" ")));
        lines.extend(after.iter().cloned());
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    const HOST: &str = "; a comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver nonsense\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0\n";

    #[test]
    fn default_bridge_leaves_out_loopback() {
        let conf = ResolvConf::parse(HOST);
        expect![[r#"
            # Generated by Docker Engine.
            # This file can be edited; Docker Engine will not make further changes once it
            # has been modified.

            nameserver 10.0.0.2
            search a.example b.example
            options edns0 trust-ad
            sortlist 10.0.0.0

            # Based on host file: '/etc/resolv.conf' (legacy)
            # Overrides: []
        "#]]
        .assert_eq(&conf.for_bridge(Path::new("/etc/resolv.conf"), false));
    }

    #[test]
    fn without_servers_the_defaults() {
        let text = ResolvConf::parse("nameserver 127.0.0.1\n").for_bridge(Path::new("/x"), false);
        assert!(
            text.contains("nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            "{text}"
        );
        assert!(text.contains("# Used default nameservers.\n"));
    }

    #[test]
    fn user_defined_networks_have_the_embedded_server() {
        let mut conf = ResolvConf::parse(HOST);
        conf.override_with(&["192.0.2.53".parse().expect("ip")], &[".".to_owned()], &[]);
        expect![[r#"
            # Generated by Docker Engine.
            # This file can be edited; Docker Engine will not make further changes once it
            # has been modified.

            nameserver 127.0.0.11
            options edns0 trust-ad ndots:0
            sortlist 10.0.0.0

            # Based on host file: '/etc/resolv.conf' (internal resolver)
            # ExtServers: [192.0.2.53]
            # Overrides: [nameservers search]
            # Option ndots from: internal
        "#]]
        .assert_eq(&conf.for_embedded(Path::new("/etc/resolv.conf")));
        assert_eq!(
            conf.upstreams(),
            ["192.0.2.53:53".parse().expect("address")]
        );
        assert!(
            ResolvConf::parse(HOST)
                .for_embedded(Path::new("/x"))
                .contains("ExtServers: [host(127.0.0.53) host(10.0.0.2)]")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let conf = ResolvConf::parse(&text);
            prop_assert!(conf.upstreams().len() <= UPSTREAMS_MAX);
            let _ = conf.for_embedded(Path::new("/x"));
        }
    }
}
