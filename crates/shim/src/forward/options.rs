//! What the options of the forwarding log drivers say: Docker's names, defaults and sentences. Pure but for the look at a socket's path.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logfile::parse_size;

/// Options as they were given.
pub type Options = BTreeMap<String, String>;

/// Which server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub enum Settings {
    /// RFC 3164 or RFC 5424 messages.
    Syslog(Syslog),
    /// The journal of this host.
    Journald,
    /// Graylog's extended log format.
    Gelf(Gelf),
    /// Fluentd's forward protocol.
    Fluentd(Fluentd),
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
    /// `host:port`, with TLS.
    Tls(String),
    /// A stream socket's path.
    Unix(String),
    /// A datagram socket's path.
    Unixgram(String),
}

/// How a syslog message is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogFormat {
    /// What syslog(3) sends: no host name.
    Unix,
    /// RFC 3164, with the host name.
    Rfc3164,
    /// RFC 5424, times in seconds.
    Rfc5424,
    /// RFC 5424, times in microseconds.
    Rfc5424Micro,
}

/// Options of `syslog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// None: the socket of this host.
    pub address: Option<Address>,
    /// Already shifted: to be or-ed with the severity.
    pub facility: u8,
    /// The layout.
    pub format: SyslogFormat,
    /// For TLS.
    pub tls: Tls,
}

/// Files for TLS; empty paths: not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that may have signed the server's certificate; else this host's.
    pub ca: String,
    /// Our certificate.
    pub cert: String,
    /// Our key.
    pub key: String,
    /// Take any certificate.
    pub skip_verify: bool,
}

/// How a GELF datagram is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// Not at all.
    None,
}

/// Options of `gelf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gelf {
    /// UDP or TCP.
    pub address: Address,
    /// For UDP.
    pub compression: Compression,
    /// 0 to 9.
    pub level: u32,
    /// TCP: connections tried again for one message.
    pub reconnects_max: u32,
    /// TCP: the pause before each.
    pub reconnect_delay: Duration,
}

/// Options of `fluentd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fluentd {
    /// TCP, TLS or a stream socket.
    pub address: Address,
    /// Connect and send in the background.
    pub asynchronous: bool,
    /// Messages that wait in the background.
    pub buffer_limit: u64,
    /// Attempts for one message.
    pub retries_max: u32,
    /// The first pause between attempts; each further is half as long again.
    pub retry_wait: Duration,
    /// Times with nanoseconds.
    pub sub_second: bool,
    /// Wait until the server says that it has a message.
    pub request_ack: bool,
    /// Zero: none.
    pub write_timeout: Duration,
    /// Zero: none. For acknowledgements.
    pub read_timeout: Duration,
    /// Zero: never. How often the background connection is made anew.
    pub reconnect_interval: Duration,
}

/// Reads the options of one driver.
type Parse = fn(&Options) -> Result<Settings, String>;

/// Common to every driver, read by others.
const COMMON: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// Reads the options of a forwarding driver. `None`: `driver` is not one.
///
/// # Errors
/// Docker's sentence about the first option that is wrong.
pub fn parse(driver: &str, options: &Options) -> Option<Result<Settings, String>> {
    let (known, read): (&[&str], Parse) = match driver {
        "syslog" => (
            &[
                "syslog-address",
                "syslog-facility",
                "syslog-format",
                "syslog-tls-ca-cert",
                "syslog-tls-cert",
                "syslog-tls-key",
                "syslog-tls-skip-verify",
            ],
            syslog,
        ),
        "journald" => (&[], |_| Ok(Settings::Journald)),
        "gelf" => (
            &[
                "gelf-address",
                "gelf-compression-type",
                "gelf-compression-level",
                "gelf-tcp-max-reconnect",
                "gelf-tcp-reconnect-delay",
            ],
            gelf,
        ),
        "fluentd" => (
            &[
                "fluentd-address",
                "fluentd-async",
                "fluentd-async-reconnect-interval",
                "fluentd-buffer-limit",
                "fluentd-max-retries",
                "fluentd-read-timeout",
                "fluentd-request-ack",
                "fluentd-retry-wait",
                "fluentd-sub-second-precision",
                "fluentd-write-timeout",
            ],
            fluentd,
        ),
        _ => return None,
    };
    let common =
        |key: &String| COMMON.contains(&key.as_str()) || super::BUILT_IN.contains(&key.as_str());
    let stranger = options
        .keys()
        .find(|key| !common(key) && !known.contains(&key.as_str()));
    Some(match stranger {
        Some(key) if driver == "gelf" => {
            Err(format!("unknown log opt \"{key}\" for gelf log driver"))
        }
        Some(key) => Err(format!("unknown log opt '{key}' for {driver} log driver")),
        None => read(options),
    })
}

/// The option's text, empty when not given.
fn text<'o>(options: &'o Options, key: &str) -> &'o str {
    options.get(key).map_or("", String::as_str)
}

/// `proto://rest` with one of Docker's transports.
fn transport(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    ["tcp", "tcp+tls", "udp", "unix", "unixgram"]
        .contains(&scheme)
        .then_some((scheme, rest))
}

fn syslog(options: &Options) -> Result<Settings, String> {
    Ok(Settings::Syslog(Syslog {
        address: syslog_address(text(options, "syslog-address"))?,
        facility: facility(text(options, "syslog-facility"))?,
        format: match text(options, "syslog-format") {
            "" => SyslogFormat::Unix,
            "rfc3164" => SyslogFormat::Rfc3164,
            "rfc5424" => SyslogFormat::Rfc5424,
            "rfc5424micro" => SyslogFormat::Rfc5424Micro,
            _ => return Err("Invalid syslog format".to_owned()),
        },
        tls: Tls {
            ca: text(options, "syslog-tls-ca-cert").to_owned(),
            cert: text(options, "syslog-tls-cert").to_owned(),
            key: text(options, "syslog-tls-key").to_owned(),
            // As Docker: that it is there counts, not what it says.
            skip_verify: options.contains_key("syslog-tls-skip-verify"),
        },
    }))
}

fn syslog_address(address: &str) -> Result<Option<Address>, String> {
    if address.is_empty() {
        return Ok(None);
    }
    let Some((scheme, rest)) = transport(address) else {
        return Err(format!(
            "syslog-address should be in form proto://address, got {address}"
        ));
    };
    if scheme.starts_with("unix") {
        if let Err(e) = std::fs::metadata(rest) {
            let why = match e.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => e.to_string(),
            };
            return Err(format!("stat {rest}: {why}"));
        }
        let path = rest.to_owned();
        return Ok(Some(match scheme {
            "unix" => Address::Unix(path),
            _ => Address::Unixgram(path),
        }));
    }
    let host = rest.split('/').next().unwrap_or_default();
    let host = match port_of(host) {
        Some(_) => host.to_owned(),
        None => format!("{host}:514"),
    };
    Ok(Some(match scheme {
        "udp" => Address::Udp(host),
        "tcp" => Address::Tcp(host),
        _ => Address::Tls(host),
    }))
}

/// The port of `host:port` or `[v6]:port`, as text.
fn port_of(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    (!name.contains(':') || name.ends_with(']')).then_some(port)
}

/// A facility's name or number, shifted as RFC 3164 section 4.1.1 wants it.
fn facility(name: &str) -> Result<u8, String> {
    const NAMES: [(&str, u8); 20] = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
    let name = if name.is_empty() { "daemon" } else { name };
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok().filter(|number| *number <= 23))
        .map(|number| number << 3)
        .ok_or_else(|| "invalid syslog facility".to_owned())
}

fn gelf(options: &Options) -> Result<Settings, String> {
    let given = text(options, "gelf-address");
    if given.is_empty() {
        return Err("gelf-address is a required parameter".to_owned());
    }
    let Some((scheme, rest)) = transport(given) else {
        return Err(format!(
            "gelf-address should be in form proto://address, got {given}"
        ));
    };
    if !["udp", "tcp"].contains(&scheme) {
        return Err("gelf: endpoint needs to be TCP or UDP".to_owned());
    }
    let host = rest.split('/').next().unwrap_or_default();
    if port_of(host).is_none() {
        return Err("gelf: please provide gelf-address as proto://host:port".to_owned());
    }
    let udp = scheme == "udp";
    let unknown = |key: &str, value: &str| {
        format!("unknown value {value:?} for log opt {key:?} for gelf log driver")
    };
    let mut gelf = Gelf {
        address: match udp {
            true => Address::Udp(host.to_owned()),
            false => Address::Tcp(host.to_owned()),
        },
        compression: Compression::Gzip,
        level: 1,
        reconnects_max: 3,
        reconnect_delay: Duration::from_secs(1),
    };
    for (key, value) in options {
        match key.as_str() {
            "gelf-compression-level" | "gelf-compression-type" if !udp => {
                return Err("compression is only supported on UDP".to_owned());
            }
            "gelf-compression-level" => {
                let level: i32 = value
                    .parse()
                    .ok()
                    .filter(|level| (-1..=9).contains(level))
                    .ok_or_else(|| unknown(key, value))?;
                // -1 is Go's name for the library's own choice, which is 6.
                gelf.level = u32::try_from(level).unwrap_or(6);
            }
            "gelf-compression-type" => {
                gelf.compression = match value.as_str() {
                    "gzip" => Compression::Gzip,
                    "zlib" => Compression::Zlib,
                    "none" => Compression::None,
                    _ => return Err(unknown(key, value)),
                };
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                if udp {
                    return Err(format!("{key:?} is only valid for TCP"));
                }
                let number: u32 = value
                    .parse()
                    .map_err(|_| format!("{key:?} must be a positive integer"))?;
                match key.as_str() {
                    "gelf-tcp-max-reconnect" => gelf.reconnects_max = number,
                    _ => gelf.reconnect_delay = Duration::from_secs(u64::from(number)),
                }
            }
            _ => {}
        }
    }
    Ok(Settings::Gelf(gelf))
}

fn fluentd(options: &Options) -> Result<Settings, String> {
    let given = text(options, "fluentd-address");
    let flag = |key: &str| match text(options, key) {
        "" => Ok(false),
        value => parse_bool(value),
    };
    let duration = |key: &str| match text(options, key) {
        "" => Ok(Duration::ZERO),
        value => go_duration(value).map_err(|why| format!("invalid value for {key}: {why}")),
    };
    let interval = duration("fluentd-async-reconnect-interval")?;
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(10));
    if !interval.is_zero() && !(least..=most).contains(&interval) {
        return Err(format!(
            "invalid value for fluentd-async-reconnect-interval: value ({:?}) must be between 100ms and 10s",
            text(options, "fluentd-async-reconnect-interval")
        ));
    }
    Ok(Settings::Fluentd(Fluentd {
        address: fluentd_address(given)
            .map_err(|why| format!("invalid fluentd-address ({given}): {why}"))?,
        asynchronous: flag("fluentd-async")?,
        buffer_limit: match text(options, "fluentd-buffer-limit") {
            "" => 1 << 20,
            value => parse_size(value)
                .ok()
                .flatten()
                .ok_or_else(|| format!("invalid size: '{value}'"))?,
        },
        retries_max: match text(options, "fluentd-max-retries") {
            "" => i32::MAX as u32,
            value => value
                .parse()
                .map_err(|_| format!("strconv.ParseUint: parsing {value:?}: invalid syntax"))?,
        },
        retry_wait: match text(options, "fluentd-retry-wait") {
            "" => Duration::from_secs(1),
            value => go_duration(value)?,
        },
        sub_second: flag("fluentd-sub-second-precision")?,
        request_ack: flag("fluentd-request-ack")?,
        write_timeout: duration("fluentd-write-timeout")?,
        read_timeout: duration("fluentd-read-timeout")?,
        reconnect_interval: interval,
    }))
}

fn fluentd_address(given: &str) -> Result<Address, String> {
    const PORT: u16 = 24224;
    let (scheme, rest) = given.split_once("://").unwrap_or(("tcp", given));
    match scheme {
        "unix" if rest.trim_start_matches('/').is_empty() => return Err("path is empty".to_owned()),
        "unix" => return Ok(Address::Unix(rest.to_owned())),
        "tcp" | "tls" => {}
        _ => return Err(format!("unsupported scheme: '{scheme}'")),
    }
    if rest.contains('/') {
        return Err("should not contain a path element".to_owned());
    }
    let (host, port) = match port_of(rest) {
        Some(port) => (&rest[..rest.len() - port.len() - 1], port),
        None => (rest, ""),
    };
    let port = match port {
        "" => PORT,
        text => text
            .parse()
            .map_err(|_| format!("invalid port: parsing {text:?}: invalid syntax"))?,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let address = format!("{host}:{port}");
    Ok(match scheme {
        "tls" => Address::Tls(address),
        _ => Address::Tcp(address),
    })
}

/// Go's strconv.ParseBool.
///
/// # Errors
/// Its sentence.
pub fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {value:?}: invalid syntax"
        )),
    }
}

fn go_duration(value: &str) -> Result<Duration, String> {
    hull_api::time::parse_go_duration(value)
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("time: invalid duration {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn fault(driver: &str, pairs: &[(&str, &str)]) -> String {
        parse(driver, &options(pairs)).unwrap().unwrap_err()
    }

    #[test]
    fn faults_are_told_in_dockers_words() {
        for (driver, pairs, sentence) in [
            (
                "syslog",
                &[("a", "b")][..],
                "unknown log opt 'a' for syslog log driver",
            ),
            (
                "gelf",
                &[("a", "b")],
                "unknown log opt \"a\" for gelf log driver",
            ),
            (
                "journald",
                &[("max-size", "1m")],
                "unknown log opt 'max-size' for journald log driver",
            ),
            (
                "syslog",
                &[("syslog-address", "10.0.0.1")],
                "syslog-address should be in form proto://address, got 10.0.0.1",
            ),
            (
                "syslog",
                &[("syslog-address", "unix:///no/such")],
                "stat /no/such: no such file or directory",
            ),
            (
                "syslog",
                &[("syslog-facility", "24")],
                "invalid syslog facility",
            ),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
            ("gelf", &[], "gelf-address is a required parameter"),
            (
                "gelf",
                &[("gelf-address", "unix:///x")],
                "gelf: endpoint needs to be TCP or UDP",
            ),
            (
                "gelf",
                &[("gelf-address", "udp://h")],
                "gelf: please provide gelf-address as proto://host:port",
            ),
            (
                "gelf",
                &[
                    ("gelf-address", "tcp://h:1"),
                    ("gelf-compression-type", "gzip"),
                ],
                "compression is only supported on UDP",
            ),
            (
                "gelf",
                &[
                    ("gelf-address", "udp://h:1"),
                    ("gelf-compression-type", "x"),
                ],
                "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
            ),
            (
                "gelf",
                &[
                    ("gelf-address", "udp://h:1"),
                    ("gelf-tcp-max-reconnect", "1"),
                ],
                "\"gelf-tcp-max-reconnect\" is only valid for TCP",
            ),
            (
                "fluentd",
                &[("fluentd-address", "udp://h")],
                "invalid fluentd-address (udp://h): unsupported scheme: 'udp'",
            ),
            (
                "fluentd",
                &[("fluentd-async", "yes")],
                "strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (
                "fluentd",
                &[("fluentd-async-reconnect-interval", "1ms")],
                "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s",
            ),
        ] {
            assert_eq!(fault(driver, pairs), sentence);
        }
        assert!(parse("json-file", &Options::new()).is_none());
    }

    #[test]
    fn addresses_get_their_default_ports() {
        let read =
            |driver, pairs: &[(&str, &str)]| parse(driver, &options(pairs)).unwrap().unwrap();
        let Settings::Syslog(syslog) = read(
            "syslog",
            &[
                ("syslog-address", "tcp+tls://[::1]"),
                ("syslog-facility", "local7"),
            ],
        ) else {
            panic!("not syslog");
        };
        assert_eq!(syslog.address, Some(Address::Tls("[::1]:514".to_owned())));
        assert_eq!(syslog.facility, 23 << 3);
        for (given, address) in [
            ("", Address::Tcp("127.0.0.1:24224".into())),
            ("host", Address::Tcp("host:24224".into())),
            ("tls://host:1", Address::Tls("host:1".into())),
            ("unix:///run/f", Address::Unix("/run/f".into())),
        ] {
            assert_eq!(fluentd_address(given).unwrap(), address);
        }
    }
}
