//! The text of a container's /etc/hosts.

use std::net::IpAddr;

/// What every container has. Source: moby's `etchosts` package.
const DEFAULTS_V4: [(&str, &str); 1] = [("127.0.0.1", "localhost")];
const DEFAULTS_V6: [(&str, &str); 5] = [
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
];

/// The file: the defaults, then `extra` (`--add-host`, `--link`: address and names), then the container's own addresses with
/// `hostname.domainname hostname`.
pub fn contents(
    hostname: &str,
    domainname: &str,
    addresses: &[IpAddr],
    extra: &[(IpAddr, String)],
    ipv6: bool,
) -> String {
    let mut out = String::new();
    let mut line = |address: &dyn std::fmt::Display, names: &str| {
        out.push_str(&format!("{address}\t{names}\n"))
    };
    for (address, names) in DEFAULTS_V4 {
        line(&address, names);
    }
    for (address, names) in DEFAULTS_V6.iter().filter(|_| ipv6) {
        line(address, names);
    }
    for (address, names) in extra {
        line(address, names);
    }
    let own = if domainname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname} {hostname}")
    };
    for address in addresses.iter().filter(|_| !hostname.is_empty()) {
        line(address, &own);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn as_docker_writes_it() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        let text = contents(
            "web",
            "example.org",
            &[ip("172.17.0.2")],
            &[(ip("10.0.0.1"), "gate".to_owned())],
            true,
        );
        expect![[r#"
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::	ip6-localnet
            ff00::	ip6-mcastprefix
            ff02::1	ip6-allnodes
            ff02::2	ip6-allrouters
            10.0.0.1	gate
            172.17.0.2	web.example.org web
        "#]]
        .assert_eq(&text);
        assert_eq!(
            contents("a", "", &[ip("172.17.0.2")], &[], false),
            "127.0.0.1\tlocalhost\n172.17.0.2\ta\n"
        );
    }
}
