//! The flags. Doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// OCI container runtime with runc's command line
#[derive(Debug, Parser)]
#[command(name = "hull-runtime", version, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Global {
    /// Accepted; there is no debug log
    #[arg(long)]
    pub debug: bool,
    /// File that errors are appended to, besides standard error
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Format of that file
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Directory of container state
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Make cgroups through systemd
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Accepted; what the caller may do is found out
    #[arg(long)]
    pub rootless: Option<String>,
    /// Accepted; criu is found in PATH
    #[arg(long)]
    pub criu: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a container
    Create(Box<Create>),
    /// Execute the program of a created container
    Start {
        /// Container
        id: String,
    },
    /// Create and start a container
    Run(Box<Run>),
    /// Run one more process in a container
    Exec(Box<Exec>),
    /// Print a container's state
    State {
        /// Container
        id: String,
    },
    /// Send a signal to a container's init
    Kill(Kill),
    /// Delete what is left of a container
    Delete {
        /// Kill it first if it runs
        #[arg(short, long)]
        force: bool,
        /// Containers
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// List containers
    List {
        /// Output format
        #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        /// Only names
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the processes of a container
    Ps {
        /// Output format: table or json
        #[arg(short, long, default_value = "table")]
        format: String,
        /// Container
        id: String,
        /// Options for ps(1)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        ps: Vec<String>,
    },
    /// Freeze a container
    Pause {
        /// Container
        id: String,
    },
    /// Thaw a container
    Resume {
        /// Container
        id: String,
    },
    /// Change a container's limits
    Update(Box<Update>),
    /// Print a container's readings and OOM events
    Events {
        /// Pause between readings, as 5s or 500ms
        #[arg(long, default_value = "5s")]
        interval: String,
        /// One reading, then exit
        #[arg(long)]
        stats: bool,
        /// Container
        id: String,
    },
    /// Write a config.json to start from
    Spec {
        /// Directory to write it to
        #[arg(short, long)]
        bundle: Option<PathBuf>,
        /// For an ordinary user
        #[arg(long)]
        rootless: bool,
    },
    /// Print what this runtime can do
    Features,
    /// Checkpoint a running container
    Checkpoint(Box<Checkpoint>),
    /// Restore a container from a checkpoint
    Restore(Box<Restore>),
}

impl Command {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start { .. } => "start",
            Self::Run(_) => "run",
            Self::Exec(_) => "exec",
            Self::State { .. } => "state",
            Self::Kill(_) => "kill",
            Self::Delete { .. } => "delete",
            Self::List { .. } => "list",
            Self::Ps { .. } => "ps",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Update(_) => "update",
            Self::Events { .. } => "events",
            Self::Spec { .. } => "spec",
            Self::Features => "features",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Directory of the bundle; the current one when absent
    #[arg(short, long)]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives init's pidfd
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// File that receives init's pid
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2)
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Descriptors from 3 up that the program inherits
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Container
    pub id: String,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Do not wait for the program
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when its program ends
    #[arg(long)]
    pub keep: bool,
    /// Do not adopt the program's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Unix socket that receives the terminal's master
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives the pidfd
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long)]
    pub cwd: Option<String>,
    /// Environment, NAME=value
    #[arg(short, long)]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User, UID or UID:GID
    #[arg(short, long)]
    pub user: Option<String>,
    /// Supplementary groups
    #[arg(short = 'g', long)]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(short, long)]
    pub process: Option<PathBuf>,
    /// Do not wait for it
    #[arg(short, long)]
    pub detach: bool,
    /// File that receives its pid
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long)]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long)]
    pub apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,
    /// Capabilities to add
    #[arg(short, long)]
    pub cap: Vec<String>,
    /// Descriptors from 3 up that it inherits
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Cgroup below the container's
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// Also in a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// Container
    pub id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// What a checkpoint and its restore must both be told.
#[derive(Debug, Args)]
pub(super) struct Criu {
    /// Directory of criu's images; `checkpoint` in the current one when absent
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// Directory of criu's logs and temporary files
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow connections to unix sockets of the host
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session or terminal of the host's
    #[arg(long)]
    pub shell_job: bool,
    /// Fetch memory pages when they are touched (userfaultfd)
    #[arg(long)]
    pub lazy_pages: bool,
    /// Keep file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Cgroups: soft, full, strict or ignore
    #[arg(long, value_enum)]
    pub manage_cgroups_mode: Option<CgroupsMode>,
    /// Make a namespace without what was in it: network, which is always so
    #[arg(long, value_enum)]
    pub empty_ns: Vec<EmptyNs>,
    /// Keep pages that are in two images in one
    #[arg(long)]
    pub auto_dedup: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum CgroupsMode {
    Soft,
    Full,
    Strict,
    Ignore,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum EmptyNs {
    Network,
}

#[derive(Debug, Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    pub criu: Criu,
    /// Images of the previous pre-dump, relative to --image-path
    #[arg(long)]
    pub parent_path: Option<String>,
    /// Leave the container running
    #[arg(long)]
    pub leave_running: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Give unlinked files names again
    #[arg(long)]
    pub link_remap: bool,
    /// Descriptor that receives a zero byte once lazy pages are served
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub status_fd: i32,
    /// ADDRESS:PORT of a page server
    #[arg(long)]
    pub page_server: Option<String>,
    /// Save memory only and leave the container running
    #[arg(long)]
    pub pre_dump: bool,
    /// Container
    pub id: String,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    pub criu: Criu,
    /// Directory of the bundle; the current one when absent
    #[arg(short, long)]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Do not wait for the program
    #[arg(short, long)]
    pub detach: bool,
    /// File that receives init's pid
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Do not adopt the program's orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// Accepted; criu changes the root
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not delete the container when its program ends
    #[arg(long)]
    pub keep: bool,
    /// LSM profile, TYPE:NAME
    #[arg(long)]
    pub lsm_profile: Option<String>,
    /// LSM mount context
    #[arg(long)]
    pub lsm_mount_context: Option<String>,
    /// Container
    pub id: String,
}

#[derive(Debug, Args)]
pub(super) struct Kill {
    /// Every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// Container
    pub id: String,
    /// Signal, by name or number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// File with the limits as JSON, - for standard input
    #[arg(short, long)]
    pub resources: Option<PathBuf>,
    /// Block I/O weight
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// CPU quota period in microseconds
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// CPU quota in microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// CPU burst in microseconds
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// CPU shares
    #[arg(long, visible_alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// Real-time period in microseconds
    #[arg(long)]
    pub cpu_rt_period: Option<u64>,
    /// Real-time runtime in microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// CPU idle
    #[arg(long)]
    pub cpu_idle: Option<i64>,
    /// Memory limit in bytes
    #[arg(long, allow_hyphen_values = true)]
    pub memory: Option<i64>,
    /// Memory reservation in bytes
    #[arg(long, allow_hyphen_values = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap in bytes
    #[arg(long, allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    /// Accepted; the kernel has no such limit any more
    #[arg(long)]
    pub kernel_memory: Option<i64>,
    /// Accepted; the kernel has no such limit any more
    #[arg(long)]
    pub kernel_memory_tcp: Option<i64>,
    /// Most processes
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Container
    pub id: String,
}
