//! Every option of the daemon as data: the flag's name, the key in `daemon.json`, the shape of its value, its help.
//! Names and shapes are dockerd's (docs.docker.com/reference/cli/dockerd).

/// The shape of an option's value on the command line and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=false`; JSON boolean.
    Bool,
    /// JSON string.
    Text,
    /// JSON number.
    Number,
    /// Repeatable, or separated by commas where dockerd does so; JSON list of strings.
    List,
    /// Repeatable `key=value`; JSON object of strings.
    Map,
    /// `name=path`; JSON `{"name": {"path": ..}}`.
    Runtime,
    /// `name=soft[:hard]`; JSON `{"name": {"Name", "Soft", "Hard"}}`.
    Ulimit,
    /// `base=CIDR,size=N`; JSON list of `{"base", "size"}`.
    AddressPool,
    /// `driver=key=value`; JSON object of objects.
    MapOfMaps,
    /// `feature=bool`; JSON object of booleans.
    Switches,
    /// A size such as `64M`; JSON string or number.
    Size,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Long flag without dashes; empty where only the file has it.
    pub flag: &'static str,
    /// One-letter flag.
    pub short: Option<char>,
    /// Key in `daemon.json`; empty where only the command line has it.
    pub key: &'static str,
    /// Shape of the value.
    pub kind: Kind,
    /// What `--help` says; empty hides it: accepted for dockerd's sake, without effect here.
    pub help: &'static str,
}

const fn opt(flag: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt {
        flag,
        short: None,
        key: flag,
        kind,
        help,
    }
}

const fn keyed(flag: &'static str, key: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt {
        flag,
        short: None,
        key,
        kind,
        help,
    }
}

const fn short(
    flag: &'static str,
    letter: char,
    key: &'static str,
    kind: Kind,
    help: &'static str,
) -> Opt {
    Opt {
        flag,
        short: Some(letter),
        key,
        kind,
        help,
    }
}

/// All options, sorted by flag.
pub const OPTIONS: &[Opt] = &[
    keyed(
        "add-runtime",
        "runtimes",
        Kind::Runtime,
        "Register an additional OCI compatible runtime (name=path)",
    ),
    opt(
        "allow-direct-routing",
        Kind::Bool,
        "Allow remote access to published ports on container IP addresses",
    ),
    keyed(
        "authorization-plugin",
        "authorization-plugins",
        Kind::List,
        "Authorization plugins to load",
    ),
    opt("bip", Kind::Text, "IPv4 address for the default bridge"),
    opt("bip6", Kind::Text, "IPv6 address for the default bridge"),
    short(
        "bridge",
        'b',
        "bridge",
        Kind::Text,
        "Attach containers to a network bridge",
    ),
    opt("bridge-accept-fwmark", Kind::Text, ""),
    keyed(
        "cdi-spec-dir",
        "cdi-spec-dirs",
        Kind::List,
        "CDI specification directories to use",
    ),
    opt(
        "cgroup-parent",
        Kind::Text,
        "Set parent cgroup for all containers",
    ),
    keyed("config-file", "", Kind::Text, "Daemon configuration file"),
    opt("containerd", Kind::Text, ""),
    opt("containerd-namespace", Kind::Text, ""),
    opt("containerd-plugins-namespace", Kind::Text, ""),
    opt("cpu-rt-period", Kind::Number, ""),
    opt("cpu-rt-runtime", Kind::Number, ""),
    opt("cri-containerd", Kind::Bool, ""),
    opt(
        "data-root",
        Kind::Text,
        "Root directory of persistent state",
    ),
    short("debug", 'D', "debug", Kind::Bool, "Enable debug mode"),
    keyed(
        "default-address-pool",
        "default-address-pools",
        Kind::AddressPool,
        "Default address pools for local networks",
    ),
    opt(
        "default-cgroupns-mode",
        Kind::Text,
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    opt(
        "default-gateway",
        Kind::Text,
        "Default gateway IPv4 address for the default bridge network",
    ),
    opt(
        "default-gateway-v6",
        Kind::Text,
        "Default gateway IPv6 address for the default bridge network",
    ),
    opt(
        "default-ipc-mode",
        Kind::Text,
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    ),
    keyed(
        "default-network-opt",
        "default-network-opts",
        Kind::MapOfMaps,
        "Default network options",
    ),
    opt(
        "default-runtime",
        Kind::Text,
        "Default OCI runtime for containers",
    ),
    opt(
        "default-shm-size",
        Kind::Size,
        "Default shm size for containers",
    ),
    keyed(
        "default-ulimit",
        "default-ulimits",
        Kind::Ulimit,
        "Default ulimits for containers",
    ),
    opt("dns", Kind::List, "DNS server to use"),
    keyed("dns-opt", "dns-opts", Kind::List, "DNS options to use"),
    opt("dns-search", Kind::List, "DNS search domains to use"),
    keyed(
        "exec-opt",
        "exec-opts",
        Kind::List,
        "Runtime execution options",
    ),
    opt(
        "exec-root",
        Kind::Text,
        "Root directory for execution state files",
    ),
    opt("experimental", Kind::Bool, "Enable experimental features"),
    keyed(
        "feature",
        "features",
        Kind::Switches,
        "Enable feature in the daemon",
    ),
    opt(
        "firewall-backend",
        Kind::Text,
        "Firewall backend to use, iptables or nftables",
    ),
    opt(
        "fixed-cidr",
        Kind::Text,
        "IPv4 subnet for the default bridge network",
    ),
    opt(
        "fixed-cidr-v6",
        Kind::Text,
        "IPv6 subnet for the default bridge network",
    ),
    short(
        "group",
        'G',
        "group",
        Kind::Text,
        "Group for the unix socket",
    ),
    short(
        "host",
        'H',
        "hosts",
        Kind::List,
        "Daemon socket(s) to connect to",
    ),
    keyed(
        "host-gateway-ip",
        "host-gateway-ips",
        Kind::List,
        "IP addresses that host-gateway in --add-host resolves to",
    ),
    opt(
        "http-proxy",
        Kind::Text,
        "HTTP proxy URL to use for outgoing traffic",
    ),
    opt(
        "https-proxy",
        Kind::Text,
        "HTTPS proxy URL to use for outgoing traffic",
    ),
    opt(
        "icc",
        Kind::Bool,
        "Enable inter-container communication for the default bridge network",
    ),
    opt(
        "init",
        Kind::Bool,
        "Run an init in the container to forward signals and reap processes",
    ),
    opt("init-path", Kind::Text, ""),
    keyed(
        "insecure-registry",
        "insecure-registries",
        Kind::List,
        "Enable insecure registry communication",
    ),
    opt(
        "ip",
        Kind::Text,
        "Host IP for port publishing from the default bridge network",
    ),
    opt(
        "ip-forward",
        Kind::Bool,
        "Enable IP forwarding in system configuration",
    ),
    opt(
        "ip-forward-no-drop",
        Kind::Bool,
        "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
    ),
    opt(
        "ip-masq",
        Kind::Bool,
        "Enable IP masquerading for the default bridge network",
    ),
    opt(
        "ip6tables",
        Kind::Bool,
        "Enable addition of IPv6 packet filter rules",
    ),
    opt(
        "iptables",
        Kind::Bool,
        "Enable addition of packet filter rules",
    ),
    opt(
        "ipv6",
        Kind::Bool,
        "Enable IPv6 networking for the default bridge network",
    ),
    keyed(
        "label",
        "labels",
        Kind::List,
        "Set key=value labels to the daemon",
    ),
    opt(
        "live-restore",
        Kind::Bool,
        "Keep containers running while the daemon is down",
    ),
    opt(
        "log-driver",
        Kind::Text,
        "Default driver for container logs",
    ),
    opt(
        "log-format",
        Kind::Text,
        "Set the logging format (\"text\"|\"json\")",
    ),
    short(
        "log-level",
        'l',
        "log-level",
        Kind::Text,
        "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
    ),
    keyed(
        "log-opt",
        "log-opts",
        Kind::Map,
        "Default log driver options for containers",
    ),
    opt(
        "max-concurrent-downloads",
        Kind::Number,
        "Set the max concurrent downloads",
    ),
    opt(
        "max-concurrent-uploads",
        Kind::Number,
        "Set the max concurrent uploads",
    ),
    opt(
        "max-download-attempts",
        Kind::Number,
        "Set the max download attempts for each pull",
    ),
    opt(
        "metrics-addr",
        Kind::Text,
        "Set default address and port to serve the metrics api on",
    ),
    opt(
        "min-api-version",
        Kind::Text,
        "Oldest API version that is answered",
    ),
    opt(
        "mtu",
        Kind::Number,
        "Set the MTU for the default bridge network",
    ),
    opt("network-control-plane-mtu", Kind::Number, ""),
    opt(
        "no-new-privileges",
        Kind::Bool,
        "Set no-new-privileges by default for new containers",
    ),
    opt(
        "no-proxy",
        Kind::Text,
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    keyed(
        "node-generic-resource",
        "node-generic-resources",
        Kind::List,
        "",
    ),
    opt("oom-score-adjust", Kind::Number, ""),
    short(
        "pidfile",
        'p',
        "pidfile",
        Kind::Text,
        "Path to use for daemon PID file",
    ),
    opt(
        "plugin-dir",
        Kind::Text,
        "Directory with the plugins' sockets and addresses, instead of Docker's directories",
    ),
    opt(
        "raw-logs",
        Kind::Bool,
        "Full timestamps without ANSI coloring",
    ),
    keyed(
        "registry-mirror",
        "registry-mirrors",
        Kind::List,
        "Preferred registry mirror",
    ),
    keyed("rootless", "", Kind::Bool, ""),
    opt(
        "seccomp-profile",
        Kind::Text,
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    opt("selinux-enabled", Kind::Bool, "Enable selinux support"),
    opt(
        "shutdown-timeout",
        Kind::Number,
        "Set the shutdown timeout, in seconds",
    ),
    opt(
        "signature-policy",
        Kind::Text,
        "Path to a signature policy (as containers-policy.json) that pulled images must fulfil",
    ),
    short(
        "storage-driver",
        's',
        "storage-driver",
        Kind::Text,
        "Storage driver to use",
    ),
    keyed(
        "storage-opt",
        "storage-opts",
        Kind::List,
        "Storage driver options",
    ),
    opt("swarm-default-advertise-addr", Kind::Text, ""),
    opt("tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    opt(
        "tlscacert",
        Kind::Text,
        "Trust certs signed only by this CA",
    ),
    opt("tlscert", Kind::Text, "Path to TLS certificate file"),
    opt("tlskey", Kind::Text, "Path to TLS key file"),
    opt("tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    opt(
        "userland-proxy",
        Kind::Bool,
        "Forward published ports that the firewall cannot translate: IPv6 to containers without it, [::1]",
    ),
    opt("userland-proxy-path", Kind::Text, ""),
    opt(
        "userns-remap",
        Kind::Text,
        "User/Group setting for user namespaces",
    ),
    keyed(
        "validate",
        "",
        Kind::Bool,
        "Validate daemon configuration and exit",
    ),
];

/// Keys that only the file has.
pub const FILE_ONLY: &[&str] = &["proxies", "builder", "nri-opts", "deprecated-key-path"];

/// The text of `--help`.
pub fn help(program: &str) -> String {
    let mut text = format!(
        "Usage:  {program} [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n"
    );
    for opt in OPTIONS.iter().filter(|o| !o.help.is_empty()) {
        let letter = opt.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
        let value = match opt.kind {
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::Number => " int",
            Kind::List => " list",
            Kind::Map | Kind::Switches => " map",
            Kind::Runtime => " runtime",
            Kind::Ulimit => " ulimit",
            Kind::AddressPool => " pool-options",
            Kind::MapOfMaps => " mapmap",
            Kind::Size => " bytes",
        };
        let left = format!("  {letter}--{}{value}", opt.flag);
        text.push_str(&format!("{left:<44} {}\n", opt.help));
    }
    text.push_str(&format!(
        "{:<44} {}\n{:<44} {}\n",
        "      --help", "Print usage", "  -v, --version", "Print version information and quit"
    ));
    text
}
