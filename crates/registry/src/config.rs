//! The command line and the environment: nothing else configures the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Serve container images to Docker and other OCI clients.
///
/// Without any option the server listens on loopback, asks nobody for a password, and allows everything. Every option can also
/// be given as an environment variable, HULL_REGISTRY_ and the option's name.
#[derive(Debug, Clone, Parser)]
#[command(name = "hull registry", version, max_term_width = 100)]
pub struct Config {
    /// Address and port to listen on
    #[arg(
        long,
        env = "HULL_REGISTRY_LISTEN",
        default_value = "127.0.0.1:5000",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,

    /// Directory that holds everything; made if it is not there
    #[arg(
        long,
        env = "HULL_REGISTRY_ROOT",
        default_value = "/var/lib/hull/registry",
        value_name = "DIR"
    )]
    pub root: PathBuf,

    /// Serve HTTPS with this certificate chain (PEM)
    #[arg(
        long,
        env = "HULL_REGISTRY_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(
        long,
        env = "HULL_REGISTRY_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients with a certificate that one of these authorities has signed (PEM)
    #[arg(
        long,
        env = "HULL_REGISTRY_TLS_CLIENT_CA",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_client_ca: Option<PathBuf>,

    /// Ask for a user name and password found in this file (bcrypt, as `htpasswd -B` writes); read again when it changes
    #[arg(
        long,
        env = "HULL_REGISTRY_HTPASSWD",
        conflicts_with = "token_realm",
        value_name = "FILE"
    )]
    pub htpasswd: Option<PathBuf>,

    /// Name shown to users who are asked for a password
    #[arg(
        long,
        env = "HULL_REGISTRY_REALM",
        default_value = "Hull registry",
        value_name = "TEXT"
    )]
    pub realm: String,

    /// Ask for a token that the server at this URL gives
    #[arg(
        long,
        env = "HULL_REGISTRY_TOKEN_REALM",
        requires = "token_service",
        requires = "token_issuer",
        requires = "token_keys",
        value_name = "URL"
    )]
    pub token_realm: Option<String>,

    /// This registry's name in tokens (their audience)
    #[arg(
        long,
        env = "HULL_REGISTRY_TOKEN_SERVICE",
        requires = "token_realm",
        value_name = "NAME"
    )]
    pub token_service: Option<String>,

    /// The token server's name in tokens (their issuer)
    #[arg(
        long,
        env = "HULL_REGISTRY_TOKEN_ISSUER",
        requires = "token_realm",
        value_name = "NAME"
    )]
    pub token_issuer: Option<String>,

    /// Keys that tokens are signed with: certificates or public keys (PEM), or a JSON Web Key Set
    #[arg(
        long,
        env = "HULL_REGISTRY_TOKEN_KEYS",
        requires = "token_realm",
        value_name = "FILE"
    )]
    pub token_keys: Option<PathBuf>,

    /// Refuse everything that changes the registry
    #[arg(long, env = "HULL_REGISTRY_READ_ONLY")]
    pub read_only: bool,

    /// Refuse to delete manifests, tags and blobs
    #[arg(long, env = "HULL_REGISTRY_NO_DELETE")]
    pub no_delete: bool,

    /// Be a pull-through cache of the registry at this URL; nothing can be pushed then
    #[arg(long, env = "HULL_REGISTRY_PROXY", value_name = "URL")]
    pub proxy: Option<String>,

    /// User at the proxied registry
    #[arg(
        long,
        env = "HULL_REGISTRY_PROXY_USERNAME",
        requires = "proxy",
        requires = "proxy_password_file",
        value_name = "NAME"
    )]
    pub proxy_username: Option<String>,

    /// File that holds the user's password at the proxied registry
    #[arg(
        long,
        env = "HULL_REGISTRY_PROXY_PASSWORD_FILE",
        requires = "proxy_username",
        value_name = "FILE"
    )]
    pub proxy_password_file: Option<PathBuf>,

    /// Further certificate authorities that the proxied registry may be known by (PEM)
    #[arg(
        long,
        env = "HULL_REGISTRY_PROXY_CA",
        requires = "proxy",
        value_name = "FILE"
    )]
    pub proxy_ca: Option<PathBuf>,

    /// How long a cached tag is served without asking the proxied registry where it points to
    #[arg(long, env = "HULL_REGISTRY_PROXY_TTL", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub proxy_ttl: Duration,

    /// How long a cached manifest that nobody asks for is kept; 0 keeps it for good
    #[arg(long, env = "HULL_REGISTRY_PROXY_KEEP", default_value = "168h", value_parser = duration, value_name = "TIME")]
    pub proxy_keep: Duration,

    /// Most bytes that the cache keeps, as in 500M or 20G: what was asked for longest ago goes at the next collection; 0 is no limit
    #[arg(long, env = "HULL_REGISTRY_PROXY_SIZE", default_value = "0", value_parser = bytes, value_name = "SIZE")]
    pub proxy_size: u64,

    /// Collect garbage this often; with 0 only when SIGUSR1 asks for it
    #[arg(long, env = "HULL_REGISTRY_GC_INTERVAL", default_value = "1h", value_parser = duration, value_name = "TIME")]
    pub gc_interval: Duration,

    /// How long a blob that no manifest refers to is kept
    #[arg(long, env = "HULL_REGISTRY_GC_GRACE", default_value = "24h", value_parser = duration, value_name = "TIME")]
    pub gc_grace: Duration,

    /// Also collect manifests without a tag
    #[arg(long, env = "HULL_REGISTRY_GC_UNTAGGED")]
    pub gc_untagged: bool,

    /// Collect garbage once, say what was freed, and exit
    #[arg(long)]
    pub gc_now: bool,

    /// How long an upload may lie without progress
    #[arg(long, env = "HULL_REGISTRY_UPLOAD_AGE", default_value = "168h", value_parser = duration, value_name = "TIME")]
    pub upload_age: Duration,

    /// How long a client may send or take nothing before it is cut off
    #[arg(long, env = "HULL_REGISTRY_IDLE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub idle_timeout: Duration,

    /// Bytes a second that pay for the waiting for a slow client, within --idle-timeout; 0 lets any byte do so
    #[arg(
        long = "min-rate",
        env = "HULL_REGISTRY_MIN_RATE",
        default_value = "1K",
        value_parser = bytes,
        value_name = "SIZE"
    )]
    pub rate_min: u64,

    /// Most connections at once; further ones wait
    #[arg(
        long,
        env = "HULL_REGISTRY_MAX_CONNECTIONS",
        default_value_t = 2000,
        value_name = "N"
    )]
    pub max_connections: usize,

    /// Serve /metrics and /healthz here, to everybody who can reach it
    #[arg(long, env = "HULL_REGISTRY_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,

    /// Append a line for each request to this file; - is standard output
    #[arg(long, env = "HULL_REGISTRY_ACCESS_LOG", value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// What to log on standard error: error, warn, info or debug
    #[arg(
        long,
        env = "HULL_REGISTRY_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub log_level: tracing::Level,

    /// On SIGTERM, how long requests may take to finish
    #[arg(long, env = "HULL_REGISTRY_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub shutdown_timeout: Duration,
}

/// A number with a unit: `90s`, `15m`, `24h`, `7d`, `500ms`. A bare number counts seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration such as 90s, 15m or 24h"))?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "unknown unit {unit:?} in duration {text:?}: ms, s, m, h and d are known"
            ));
        }
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("duration {text:?} is too long"))
}

/// A number of bytes with an optional unit, 1024-based: `4096`, `64K`, `500M`, `20G`, `1T`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size such as 64K, 500M or 20G");
    let (number, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "h",
            "1w",
            "-1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("64k"), Ok(64 << 10));
        assert_eq!(bytes("20G"), Ok(20 << 30));
        for bad in ["", "G", "1.5G", "-1", "1X", "99999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Config as clap::CommandFactory>::command().debug_assert();
        let alone = Config::try_parse_from(["hull registry"]).expect("no configuration needed");
        assert!(alone.listen.ip().is_loopback());
        let half = Config::try_parse_from(["hull registry", "--tls-cert", "x"]);
        assert!(half.is_err(), "a certificate without its key");
        let plain = Config::try_parse_from(["hull registry", "--tls-client-ca", "x"]);
        assert!(plain.is_err(), "clients' certificates without TLS");
        let both = [
            "hull registry",
            "--htpasswd",
            "x",
            "--token-realm",
            "y",
            "--token-service",
            "s",
            "--token-issuer",
            "i",
            "--token-keys",
            "k",
        ];
        assert!(Config::try_parse_from(both).is_err(), "two ways to log in");
    }
}
