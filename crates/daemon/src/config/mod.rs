//! The daemon's configuration: flags and `daemon.json`, merged and checked. Nothing here touches the system but to read that
//! one file.

pub mod flags;
pub mod hosts;
pub mod options;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hull_api::host::Ulimit;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use flags::Flags;
pub use hosts::Host;

/// A configuration that the daemon refuses.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// The file, in dockerd's words.
    #[error("unable to configure the Docker daemon with file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A value that makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// The name the program goes by decides its default paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// `hull daemon`.
    Hull,
    /// Called as `dockerd`: Docker's socket, pidfile and configuration file.
    Dockerd,
}

impl Personality {
    fn default_config_file(self) -> &'static str {
        match self {
            Self::Hull => "/etc/hull/daemon.json",
            Self::Dockerd => "/etc/docker/daemon.json",
        }
    }

    fn default_host(self) -> &'static str {
        match self {
            Self::Hull => "unix:///run/hull/hull.sock",
            Self::Dockerd => "unix:///var/run/docker.sock",
        }
    }

    fn default_pidfile(self) -> &'static str {
        match self {
            Self::Hull => "/run/hull/hull.pid",
            Self::Dockerd => "/var/run/docker.pid",
        }
    }
}

/// An address pool as the options say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AddressPool {
    /// CIDR.
    pub base: String,
    /// Prefix length of each network.
    pub size: u8,
}

/// An additional runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    /// The program.
    pub path: String,
    /// Arguments before its own.
    pub runtime_args: Vec<String>,
    /// containerd's name of a shim; not supported here.
    pub runtime_type: String,
    /// Options of such a shim.
    pub options: Option<Value>,
}

/// `proxies` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Proxies {
    /// For http.
    pub http_proxy: String,
    /// For https.
    pub https_proxy: String,
    /// Hosts that are reached directly.
    pub no_proxy: String,
}

/// A checked configuration; `None` and empty mean the default. Fields are named as the keys of `daemon.json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "fields are the keys of daemon.json; the option table documents them"
)]
pub struct Config {
    pub runtimes: BTreeMap<String, Runtime>,
    pub allow_direct_routing: Option<bool>,
    pub authorization_plugins: Vec<String>,
    pub bip: String,
    pub bip6: String,
    pub bridge: String,
    pub cdi_spec_dirs: Vec<String>,
    pub cgroup_parent: String,
    pub data_root: String,
    pub debug: bool,
    pub default_address_pools: Vec<AddressPool>,
    pub default_cgroupns_mode: String,
    pub default_gateway: String,
    pub default_gateway_v6: String,
    pub default_ipc_mode: String,
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub default_runtime: String,
    pub default_shm_size: Option<Value>,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub dns: Vec<String>,
    pub dns_opts: Vec<String>,
    pub dns_search: Vec<String>,
    pub exec_opts: Vec<String>,
    pub exec_root: String,
    pub experimental: bool,
    pub features: BTreeMap<String, bool>,
    pub firewall_backend: String,
    pub fixed_cidr: String,
    pub fixed_cidr_v6: String,
    pub group: String,
    pub hosts: Vec<String>,
    pub host_gateway_ips: Vec<String>,
    pub proxies: Proxies,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub icc: Option<bool>,
    pub init: bool,
    pub insecure_registries: Vec<String>,
    pub ip: String,
    pub ip_forward: Option<bool>,
    pub ip_forward_no_drop: bool,
    pub ip_masq: Option<bool>,
    pub ip6tables: Option<bool>,
    pub iptables: Option<bool>,
    pub ipv6: bool,
    pub labels: Vec<String>,
    pub live_restore: Option<bool>,
    pub log_driver: String,
    pub log_format: String,
    pub log_level: String,
    pub log_opts: BTreeMap<String, String>,
    pub max_concurrent_downloads: Option<i64>,
    pub max_concurrent_uploads: Option<i64>,
    pub max_download_attempts: Option<i64>,
    pub metrics_addr: String,
    pub min_api_version: String,
    pub mtu: Option<i64>,
    pub no_new_privileges: bool,
    pub pidfile: String,
    pub plugin_dir: String,
    pub raw_logs: bool,
    pub registry_mirrors: Vec<String>,
    pub seccomp_profile: String,
    pub selinux_enabled: bool,
    pub shutdown_timeout: Option<i64>,
    pub signature_policy: String,
    pub storage_driver: String,
    pub storage_opts: Vec<String>,
    pub tls: Option<bool>,
    pub tlscacert: String,
    pub tlscert: String,
    pub tlskey: String,
    pub tlsverify: bool,
    pub userland_proxy: Option<bool>,
    pub userns_remap: String,
}

impl Config {
    /// The file that the flags name, or the default one.
    #[must_use]
    pub fn file(flags: &Flags, personality: Personality) -> &str {
        let named = flags.config_file.as_deref();
        named.unwrap_or(personality.default_config_file())
    }

    /// Reads the file that the flags name (or the default one, if it is there), merges and checks.
    ///
    /// # Errors
    /// Unknown directives, directives given both ways, malformed values: in dockerd's words.
    pub fn load(flags: &Flags, personality: Personality) -> Result<Self, ConfigError> {
        let path = Path::new(Self::file(flags, personality));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && flags.config_file.is_none() => {
                String::new()
            }
            Err(e) => return Err(file_error(path, &format!("open {}: {e}", path.display()))),
        };
        let mut config = Self::merge(flags, &text).map_err(|error| match error {
            ConfigError::Invalid(why) if !text.is_empty() => file_error(path, &why),
            other => other,
        })?;
        config.fill_defaults(personality);
        config.check()?;
        Ok(config)
    }

    /// Merges the file's text (empty: no file) under the flags.
    fn merge(flags: &Flags, text: &str) -> Result<Self, ConfigError> {
        let mut values = read_file(text)?;
        refuse_unknown(&values)?;
        refuse_both(&flags.values, &values)?;
        for (key, value) in &flags.values {
            values.insert(key.clone(), value.clone());
        }
        hull_api::json::from_value(Value::Object(values))
            .map_err(|e| ConfigError::Invalid(e.to_string()))
    }

    fn fill_defaults(&mut self, personality: Personality) {
        let fill = |slot: &mut String, default: &str| {
            if slot.is_empty() {
                default.clone_into(slot);
            }
        };
        if self.hosts.is_empty() {
            self.hosts.push(personality.default_host().to_owned());
        }
        fill(&mut self.data_root, "/var/lib/hull");
        fill(&mut self.exec_root, "/run/hull");
        fill(
            &mut self.log_level,
            if self.debug { "debug" } else { "info" },
        );
        fill(&mut self.log_driver, "json-file");
        fill(&mut self.default_runtime, "runc");
        // dockerd takes its containers with it unless told otherwise; here a shim keeps each, so an upgrade stops none.
        self.live_restore
            .get_or_insert(personality == Personality::Hull);
        fill(&mut self.proxies.http_proxy, &self.http_proxy);
        fill(&mut self.proxies.https_proxy, &self.https_proxy);
        fill(&mut self.proxies.no_proxy, &self.no_proxy);
        if self.pidfile.is_empty() {
            // A daemon with an exec-root of its own keeps its pidfile there, so that several can run side by side.
            self.pidfile = match self.exec_root.as_str() {
                "/run/hull" => personality.default_pidfile().to_owned(),
                root => format!("{root}/hull.pid"),
            };
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |why: String| Err(ConfigError::Invalid(why));
        if !matches!(
            self.log_level.as_str(),
            "trace" | "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic"
        ) {
            return invalid(format!("invalid logging level: {}", self.log_level));
        }
        if !matches!(self.log_format.as_str(), "" | "text" | "json") {
            return invalid(format!("invalid log format: {}", self.log_format));
        }
        for (value, name) in [
            (self.max_concurrent_downloads, "max concurrent downloads"),
            (self.max_concurrent_uploads, "max concurrent uploads"),
            (self.mtu, "default MTU"),
        ] {
            if value.is_some_and(|n| n < 0) {
                return invalid(format!("invalid {name}: {}", value.unwrap_or_default()));
            }
        }
        if self.max_download_attempts.is_some_and(|n| n < 1) {
            return invalid(format!(
                "invalid max download attempts: {}",
                self.max_download_attempts.unwrap_or_default()
            ));
        }
        if let Some(bad) = self
            .dns
            .iter()
            .find(|dns| dns.parse::<std::net::IpAddr>().is_err())
        {
            return invalid(format!("{bad} is not an ip address"));
        }
        if let Some(bad) = self.labels.iter().find(|label| !label.contains('=')) {
            return invalid(format!("bad attribute format: {bad}"));
        }
        if let Some(bad) = self
            .default_address_pools
            .iter()
            .find(|p| p.base.parse::<ipnet::IpNet>().is_err())
        {
            return invalid(format!(
                "invalid base pool: invalid CIDR address: {}",
                bad.base
            ));
        }
        for (name, runtime) in &self.runtimes {
            match (name.as_str(), runtime.path.is_empty()) {
                ("runc", _) => return invalid(format!("runtime name '{name}' is reserved")),
                (_, true) => {
                    return invalid(format!(
                        "runtime '{name}': a path is required (containerd shims are not supported)"
                    ));
                }
                (_, false) => {}
            }
        }
        if self.default_runtime != "runc" && !self.runtimes.contains_key(&self.default_runtime) {
            return invalid(format!(
                "specified default runtime '{}' does not exist",
                self.default_runtime
            ));
        }
        for opt in &self.exec_opts {
            match opt.split_once('=') {
                Some(("native.cgroupdriver", "cgroupfs" | "systemd")) => {}
                Some(("native.cgroupdriver", other)) => {
                    return invalid(format!(
                        "native.cgroupdriver option {other} is not supported"
                    ));
                }
                _ => return invalid(format!("unsupported exec option: {opt}")),
            }
        }
        for host in &self.hosts {
            Host::parse(host).map_err(ConfigError::Invalid)?;
        }
        Ok(())
    }

    /// `systemd` or `cgroupfs`, where asked for.
    pub fn cgroup_driver(&self) -> Option<&str> {
        self.exec_opts
            .iter()
            .rev()
            .find_map(|opt| opt.strip_prefix("native.cgroupdriver="))
    }
}

fn file_error(path: &Path, why: &str) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn read_file(text: &str) -> Result<Map<String, Value>, ConfigError> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(ConfigError::Invalid(
            "the file does not contain an object".to_owned(),
        )),
        Err(e) => Err(ConfigError::Invalid(format!("invalid JSON: {e}"))),
    }
}

fn refuse_unknown(values: &Map<String, Value>) -> Result<(), ConfigError> {
    let known = |key: &str| {
        options::FILE_ONLY.contains(&key) || options::OPTIONS.iter().any(|o| o.key == key)
    };
    let mut unknown: Vec<&str> = values
        .keys()
        .map(String::as_str)
        .filter(|key| !known(key))
        .collect();
    if let Some(proxies) = values.get("proxies").and_then(Value::as_object) {
        let foreign = |key: &&str| !matches!(*key, "http-proxy" | "https-proxy" | "no-proxy");
        unknown.extend(proxies.keys().map(String::as_str).filter(foreign));
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(ConfigError::Invalid(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ))),
    }
}

fn refuse_both(flags: &Map<String, Value>, file: &Map<String, Value>) -> Result<(), ConfigError> {
    let mut both = Vec::new();
    let proxies = file.get("proxies").and_then(Value::as_object);
    for (key, flag) in flags {
        if let Some(value) = file.get(key).or_else(|| proxies.and_then(|p| p.get(key))) {
            both.push(format!(
                "{key}: (from flag: {}, from file: {})",
                go_print(flag),
                go_print(value)
            ));
        }
    }
    match both.is_empty() {
        true => Ok(()),
        false => Err(ConfigError::Invalid(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        ))),
    }
}

/// Go's `%v` of a decoded value.
fn go_print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_print).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(map) => {
            format!(
                "map[{}]",
                map.iter()
                    .map(|(k, v)| format!("{k}:{}", go_print(v)))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn load(args: &[&str], file: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        all.push(format!("--config-file={}", path.display()));
        Config::load(&Flags::parse(&all).unwrap(), Personality::Dockerd)
            .map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
    }

    fn refused(args: &[&str], file: &str, expected: Expect) {
        expected.assert_eq(&load(args, file).unwrap_err());
    }

    #[test]
    fn file_and_flags_are_merged() {
        let config = load(
            &["-D", "--exec-root", "/x"],
            r#"{"data-root": "/d", "hosts": ["tcp://1.2.3.4:5"], "proxies": {"no-proxy": "a"}}"#,
        )
        .unwrap();
        assert_eq!(
            (
                config.data_root.as_str(),
                config.exec_root.as_str(),
                config.debug
            ),
            ("/d", "/x", true)
        );
        assert_eq!(
            (config.pidfile.as_str(), config.log_level.as_str()),
            ("/x/hull.pid", "debug")
        );
        assert_eq!(
            (config.hosts, config.proxies.no_proxy),
            (vec!["tcp://1.2.3.4:5".to_owned()], "a".to_owned())
        );
    }

    #[test]
    fn refusals_are_dockerds() {
        refused(
            &[],
            r#"{"foo": 1, "debug": true}"#,
            expect![
                "unable to configure the Docker daemon with file FILE: the following directives don't match any configuration option: foo"
            ],
        );
        refused(
            &["--data-root=/a", "-D"],
            r#"{"data-root": "/b", "debug": false}"#,
            expect![
                "unable to configure the Docker daemon with file FILE: the following directives are specified both as a flag and in the configuration file: data-root: (from flag: /a, from file: /b), debug: (from flag: true, from file: false)"
            ],
        );
        refused(
            &["-H", "unix:///a"],
            r#"{"hosts": ["unix:///b"]}"#,
            expect![
                "unable to configure the Docker daemon with file FILE: the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [unix:///a], from file: [unix:///b])"
            ],
        );
        refused(
            &[],
            r#"{"debug": "yes"}"#,
            expect![
                "unable to configure the Docker daemon with file FILE: json: cannot unmarshal string into Go struct field Config.debug of type bool"
            ],
        );
        refused(
            &[],
            "{",
            expect![
                "unable to configure the Docker daemon with file FILE: invalid JSON: EOF while parsing an object at line 1 column 1"
            ],
        );
        refused(
            &["--log-level=loud"],
            "",
            expect!["invalid logging level: loud"],
        );
        refused(
            &["--default-runtime=crun"],
            "",
            expect!["specified default runtime 'crun' does not exist"],
        );
        refused(&["--dns=x"], "", expect!["x is not an ip address"]);
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let flags = Flags::parse(&["--config-file=/nonexistent/x.json".to_owned()]).unwrap();
        assert!(Config::load(&flags, Personality::Hull).is_err());
    }

    /// Each option has a field, or is hidden: accepted without effect.
    #[test]
    fn every_shown_key_is_read() {
        for opt in options::OPTIONS
            .iter()
            .filter(|o| !o.help.is_empty() && !o.key.is_empty())
        {
            let wrong = serde_json::json!({ opt.key: [[0]] });
            let any = matches!(opt.kind, options::Kind::Size);
            let read = hull_api::json::from_value::<Config>(wrong);
            assert!(any || read.is_err(), "{} is not read", opt.key);
        }
    }
}
