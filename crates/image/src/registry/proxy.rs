//! Which proxy an address is reached by: the configured one, else the environment's, by Go's rules
//! (`golang.org/x/net/http/httpproxy`).

use std::net::IpAddr;

use reqwest::Url;

use super::host::in_network;
use crate::types::Proxies;

impl Proxies {
    /// What is not configured is taken from the environment, as dockerd does.
    pub(crate) fn or_environment(&self) -> Proxies {
        let pick = |own: &str, names: [&str; 2]| {
            let from = || names.iter().find_map(|name| std::env::var(name).ok());
            match own {
                "" => from().unwrap_or_default(),
                own => own.to_owned(),
            }
        };
        Proxies {
            http: pick(&self.http, ["HTTP_PROXY", "http_proxy"]),
            https: pick(&self.https, ["HTTPS_PROXY", "https_proxy"]),
            no_proxy: pick(&self.no_proxy, ["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy for an address; none: it is reached directly, as loopback always is.
    pub(crate) fn for_url(&self, url: &Url) -> Option<Url> {
        let proxy = match url.scheme() {
            "http" => &self.http,
            "https" => &self.https,
            _ => return None,
        };
        let host = url.host_str()?.trim_matches(['[', ']']).to_lowercase();
        if proxy.is_empty() || self.is_direct(&host, url.port_or_known_default()) {
            return None;
        }
        match proxy.contains("://") {
            true => Url::parse(proxy).ok(),
            false => Url::parse(&format!("http://{proxy}")).ok(),
        }
    }

    fn is_direct(&self, host: &str, port: Option<u16>) -> bool {
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.no_proxy
            .split(',')
            .map(|entry| entry.trim().to_lowercase())
            .filter(|entry| !entry.is_empty())
            .any(|entry| entry_covers(&entry, host, address, port))
    }
}

fn entry_covers(entry: &str, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some(address) = address
        && let Some(within) = in_network(address, entry)
    {
        return within;
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
            match digits.parse::<u16>() {
                Ok(wanted) => (name, Some(wanted)),
                Err(_) => (entry, None),
            }
        }
        Some(_) | None => (entry, None),
    };
    if wanted.is_some() && wanted != port {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    if let Some(address) = address {
        return name.parse() == Ok(address);
    }
    // `.example.com` and `*.example.com` are what lies below; `example.com` is itself and what lies below.
    let below = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
    match below {
        Some(domain) => host.ends_with(&format!(".{domain}")),
        None => host == name || host.ends_with(&format!(".{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask() {
        let proxies = Proxies {
            http: "http://p:1".to_owned(),
            https: "p2:2".to_owned(),
            no_proxy: "example.com, .below.org,10.0.0.0/8,[fd00::1],host.net:444,*.star.io"
                .to_owned(),
        };
        let by = |url: &str| {
            proxies
                .for_url(&Url::parse(url).unwrap())
                .map(|proxy| proxy.to_string())
        };
        assert_eq!(by("http://a.net/").as_deref(), Some("http://p:1/"));
        assert_eq!(by("https://a.net/").as_deref(), Some("http://p2:2/"));
        for direct in [
            "https://example.com/",
            "https://a.example.com/",
            "https://a.below.org/",
            "http://10.1.2.3/",
            "http://[fd00::1]/",
            "https://host.net:444/",
            "https://a.star.io",
            "http://localhost:5000/",
            "http://127.0.0.9/",
            "http://[::1]:5000/",
        ] {
            assert_eq!(by(direct), None, "{direct}");
        }
        for asked in [
            "https://notexample.com/",
            "https://below.org/",
            "http://11.1.2.3/",
            "https://host.net/",
            "https://star.io/",
        ] {
            assert!(by(asked).is_some(), "{asked}");
        }
    }
}
