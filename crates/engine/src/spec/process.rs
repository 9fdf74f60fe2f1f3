//! The process section: command, environment, user, capabilities, limits.

use hull_api::host::Ulimit;
use hull_oci::runtime::{Capabilities, ConsoleSize, Process, Rlimit, User};

use super::user::ResolvedUser;
use super::{Inputs, hostname};
use crate::error::{Error, Result};
use crate::record::ContainerRecord;

/// Docker's `system.DefaultPathEnv`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the init program is seen inside. Called so, this program is an init; one that the user gave (`--init-path`) takes the same
/// arguments, as tini does.
pub(super) const INIT_PATH: &str = "/sbin/docker-init";

pub(super) fn build(inputs: &Inputs<'_>) -> Result<Process> {
    let record = inputs.record;
    let config = &record.config;
    let mut args: Vec<String> = std::iter::once(record.path.clone())
        .chain(record.args.iter().cloned())
        .collect();
    if inputs.init.is_some() {
        args.splice(0..0, [INIT_PATH, "--"].map(str::to_owned));
    }
    let [height, width] = record.host.console_size;
    let console = ConsoleSize {
        height: u64::from(height),
        width: u64::from(width),
    };
    Ok(Process {
        terminal: config.tty,
        console_size: Some(console)
            .filter(|size| config.tty && (size.height > 0 || size.width > 0)),
        user: oci_user(&inputs.user),
        args,
        env: environment(
            record,
            &hostname(record, inputs.host),
            &inputs.link_env,
            &inputs.user.home,
        ),
        cwd: if config.working_dir.is_empty() {
            "/".to_owned()
        } else {
            config.working_dir.clone()
        },
        capabilities: Some(capabilities(&inputs.capabilities, inputs.user.uid)),
        rlimits: rlimits(&record.host.resources.ulimits, inputs.default_ulimits)?,
        no_new_privileges: inputs.security.no_new_privileges.unwrap_or(false),
        apparmor_profile: Some(record.apparmor_profile.clone())
            .filter(|profile| !profile.is_empty()),
        oom_score_adj: Some(i32::try_from(record.host.oom_score_adj).unwrap_or(0)),
        selinux_label: Some(record.process_label.clone()).filter(|label| !label.is_empty()),
        ..Process::default()
    })
}

fn oci_user(user: &ResolvedUser) -> User {
    User {
        uid: user.uid,
        gid: user.gid,
        umask: None,
        additional_gids: user.groups.clone(),
    }
}

/// As Docker: for root everything granted is effective; for others it is only in the bounding set, so that set-uid
/// programs work and nothing else has it. Never inheritable (CVE-2022-24769).
fn capabilities(granted: &[String], uid: u32) -> Capabilities {
    let own = if uid == 0 {
        granted.to_vec()
    } else {
        Vec::new()
    };
    Capabilities {
        bounding: granted.to_vec(),
        effective: own.clone(),
        permitted: own,
        ..Capabilities::default()
    }
}

/// Docker's own variables, then the container's: a variable that the container sets keeps its place and takes its value.
fn environment(
    record: &ContainerRecord,
    hostname: &str,
    links: &[String],
    home: &str,
) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if record.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(links.iter().cloned());
    let mut env = replace_or_append(env, &record.config.env);
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Docker's `ReplaceOrAppendEnvVars`: a name without `=` removes the variable.
pub(super) fn replace_or_append(mut env: Vec<String>, overrides: &[String]) -> Vec<String> {
    for entry in overrides {
        let name = entry.split('=').next().unwrap_or_default();
        let at = env
            .iter()
            .position(|known| known.split('=').next() == Some(name));
        match (at, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => {
                env.remove(at);
            }
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

/// The container's limits on the daemon's defaults.
fn rlimits(own: &[Ulimit], defaults: &[Ulimit]) -> Result<Vec<Rlimit>> {
    let inherited = defaults
        .iter()
        .filter(|limit| !own.iter().any(|mine| mine.name == limit.name));
    own.iter().chain(inherited).map(rlimit).collect()
}

const RLIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn rlimit(limit: &Ulimit) -> Result<Rlimit> {
    if !RLIMITS.contains(&limit.name.as_str()) {
        return Err(Error::invalid(format!(
            "invalid ulimit type: {}",
            limit.name
        )));
    }
    // -1 is no limit, which is the largest value.
    let value = |limit: i64| u64::from_ne_bytes(limit.to_ne_bytes());
    let (soft, hard) = (value(limit.soft), value(limit.hard));
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            limit.soft, limit.hard
        )));
    }
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        hard,
        soft,
    })
}

/// What an exec asks for, resolved.
pub(crate) struct ExecInputs<'a> {
    pub(crate) record: &'a ContainerRecord,
    pub(crate) config: &'a hull_api::exec::ExecConfig,
    pub(crate) console_size: Option<[u32; 2]>,
    /// `NAME=value` of linked containers.
    pub(crate) link_env: Vec<String>,
    pub(crate) user: ResolvedUser,
    pub(crate) hostname: String,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) default_ulimits: &'a [Ulimit],
}

/// The process of an exec: the container's environment, directory and limits, with the exec's own on top.
pub(crate) fn exec_process(inputs: &ExecInputs<'_>) -> Result<Process> {
    let (record, config) = (inputs.record, inputs.config);
    let mut env = environment(
        record,
        &inputs.hostname,
        &inputs.link_env,
        &inputs.user.home,
    );
    if config.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    // HOME is the exec user's own, unless the image or the container sets it.
    if !record
        .config
        .env
        .iter()
        .any(|entry| entry.starts_with("HOME="))
    {
        env = replace_or_append(env, &[format!("HOME={}", inputs.user.home)]);
    }
    let env = replace_or_append(env, &config.env);
    let cwd = [&config.working_dir, &record.config.working_dir]
        .into_iter()
        .find(|dir| !dir.is_empty());
    Ok(Process {
        terminal: config.tty,
        console_size: inputs
            .console_size
            .filter(|_| config.tty)
            .map(|[height, width]| ConsoleSize {
                height: u64::from(height),
                width: u64::from(width),
            }),
        user: oci_user(&inputs.user),
        args: config.cmd.clone(),
        env,
        cwd: cwd.map_or_else(|| "/".to_owned(), Clone::clone),
        capabilities: Some(capabilities(&inputs.capabilities, inputs.user.uid)),
        rlimits: rlimits(&record.host.resources.ulimits, inputs.default_ulimits)?,
        no_new_privileges: inputs.no_new_privileges,
        apparmor_profile: match config.privileged {
            true => Some("unconfined".to_owned()).filter(|_| !record.apparmor_profile.is_empty()),
            false => Some(record.apparmor_profile.clone()).filter(|profile| !profile.is_empty()),
        },
        oom_score_adj: Some(i32::try_from(record.host.oom_score_adj).unwrap_or(0)),
        selinux_label: Some(record.process_label.clone()).filter(|label| !label.is_empty()),
        ..Process::default()
    })
}

/// Checks limits at create, so that a wrong name is refused before anything is made.
pub(crate) fn check_ulimits(limits: &[Ulimit]) -> Result<()> {
    limits
        .iter()
        .try_for_each(|limit| rlimit(limit).map(|_| ()))
}
