//! AppArmor: Docker's default profile as text, loading it, and the label that a process asks for.
//!
//! Compiling a profile is `apparmor_parser`'s, as for Docker: the binary form follows the features of the running kernel.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// The name under which every engine of Docker's kind loads its default profile.
pub const DEFAULT_PROFILE: &str = "docker-default";

/// Where the kernel's AppArmor is spoken to.
const SECURITYFS: &str = "/sys/kernel/security/apparmor";
/// Where a distribution keeps profiles and what they include.
const PROFILES: &str = "/etc/apparmor.d";
/// The most that is read of a list of profiles or of what the parser says.
const READ_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What went wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that would break out of its quotes in the profile, or that the kernel would take for something else.
    #[error("\"{0}\" cannot be the name of an AppArmor profile")]
    Name(String),
    /// The list of loaded profiles cannot be read.
    #[error("read {SECURITYFS}/profiles")]
    List(#[source] io::Error),
    /// The parser could not be run.
    #[error("run apparmor_parser to load the profile {name} (is the package apparmor installed?)")]
    Start {
        /// The profile.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The parser refused.
    #[error("apparmor_parser could not load the profile {name}: {said}")]
    Refused {
        /// The profile.
        name: String,
        /// Its own words.
        said: String,
    },
    /// The kernel refused a compiled profile.
    #[error("load a compiled AppArmor profile through {SECURITYFS}/.replace")]
    Load(#[source] io::Error),
}

/// Whether the running kernel enforces AppArmor and shows it here.
pub fn is_enabled() -> bool {
    let parameter = fs::read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    parameter.first() == Some(&b'Y') && Path::new(SECURITYFS).is_dir()
}

/// Whether a profile of this name is loaded.
pub fn is_loaded(name: &str) -> Result<bool, Error> {
    let file = fs::File::open(format!("{SECURITYFS}/profiles")).map_err(Error::List)?;
    for line in io::BufReader::new(file.take(READ_MAX_BYTES)).lines() {
        if label(&line.map_err(Error::List)?) == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Loads [`DEFAULT_PROFILE`] unless it is there; whether AppArmor is enabled at all.
pub fn ensure_default_profile() -> Result<bool, Error> {
    if !is_enabled() {
        return Ok(false);
    }
    if !is_loaded(DEFAULT_PROFILE)? {
        load(
            DEFAULT_PROFILE,
            &ProfileText::here(DEFAULT_PROFILE)?.to_string(),
        )?;
    }
    Ok(true)
}

/// Compiles and loads a profile with `apparmor_parser`, without its cache, which may be on a read-only file system.
pub fn load(name: &str, text: &str) -> Result<(), Error> {
    let start = |source| Error::Start {
        name: name.to_owned(),
        source,
    };
    let mut parser = Command::new("apparmor_parser")
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = parser.stdin.take()
        && let Err(error) = stdin.write_all(text.as_bytes())
        // A parser that ends early says why on its standard error.
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(start(error));
    }
    let mut said = String::new();
    if let Some(stderr) = parser.stderr.take() {
        stderr
            .take(READ_MAX_BYTES)
            .read_to_string(&mut said)
            .map_err(start)?;
    }
    let status = parser.wait().map_err(start)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Refused {
            name: name.to_owned(),
            said: said.trim().to_owned(),
        })
    }
}

/// Loads profiles that `apparmor_parser --stdout` compiled elsewhere, replacing those of the same names.
pub fn load_compiled(policy: &[u8]) -> Result<(), Error> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(format!("{SECURITYFS}/.replace"))
        .map_err(Error::Load)?;
    // One write: the kernel takes each for a whole policy.
    let written = file.write(policy).map_err(Error::Load)?;
    if written == policy.len() {
        Ok(())
    } else {
        Err(Error::Load(io::ErrorKind::WriteZero.into()))
    }
}

/// The files through which a thread asks for a profile at its next execve, best first: the second is shared among security modules,
/// and the kernel gives it to the first of them.
pub const EXEC_ATTRIBUTES: [&str; 2] = [
    "/proc/thread-self/attr/apparmor/exec",
    "/proc/thread-self/attr/exec",
];

/// What is written to one of [`EXEC_ATTRIBUTES`].
pub fn exec_label(profile: &str) -> String {
    format!("exec {profile}")
}

/// The profile's name in `name (mode)`, as the kernel lists profiles and shows a process's own. Names may have spaces and brackets.
fn label(context: &str) -> &str {
    let context = context.trim_end_matches(['\n', '\0']);
    match context
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once(" ("))
    {
        Some((name, _)) => name,
        None => context,
    }
}

/// The default profile, and what it depends on.
#[derive(Debug, Clone)]
pub struct ProfileText {
    /// The profile's name.
    pub name: String,
    /// The profile of the engine, which sends the container's processes signals; `unconfined` mostly.
    pub daemon: String,
    /// /etc/apparmor.d/abi/3.0 exists. From ABI 4 on, `network` would no longer mean unix sockets too.
    pub abi: bool,
    /// /etc/apparmor.d/tunables/global exists; it defines `@{PROC}`.
    pub tunables: bool,
    /// /etc/apparmor.d/abstractions/base exists.
    pub base: bool,
}

impl ProfileText {
    /// For this machine and this process.
    pub fn here(name: &str) -> Result<ProfileText, Error> {
        if name.is_empty()
            || name == "unconfined"
            || name.starts_with(':')
            || name.contains(['"', '\\', '\n', '\0'])
        {
            return Err(Error::Name(name.to_owned()));
        }
        let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        let daemon = match label(&own) {
            "" => "unconfined".to_owned(),
            own => own.to_owned(),
        };
        let exists = |path: &str| Path::new(PROFILES).join(path).exists();
        Ok(ProfileText {
            name: name.to_owned(),
            daemon,
            abi: exists("abi/3.0"),
            tunables: exists("tunables/global"),
            base: exists("abstractions/base"),
        })
    }
}

impl std::fmt::Display for ProfileText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProfileText { name, daemon, .. } = self;
        writeln!(f, "# The default profile of containers, made by Hull.")?;
        if self.abi {
            writeln!(f, "abi <abi/3.0>,")?;
        }
        writeln!(
            f,
            "{}",
            if self.tunables {
                "#include <tunables/global>"
            } else {
                "@{PROC}=/proc/"
            }
        )?;
        writeln!(
            f,
            "\nprofile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{"
        )?;
        if self.base {
            writeln!(f, "  #include <abstractions/base>\n")?;
        }
        f.write_str(RULES_ALLOWED)?;
        writeln!(
            f,
            "  # Signals from the host, from runtimes and the engine under profiles of their own, and among the container's processes."
        )?;
        for peer in [
            "unconfined",
            "runc",
            "crun",
            "hull",
            &format!("\"{daemon}\""),
        ] {
            writeln!(f, "  signal (receive) peer={peer},")?;
        }
        writeln!(f, "  signal (send,receive) peer=\"{name}\",")?;
        f.write_str(RULES_DENIED)?;
        writeln!(
            f,
            "  # Processes of the container may trace each other, as far as the kernel lets them."
        )?;
        writeln!(
            f,
            "  ptrace (trace,tracedby,read,readby) peer=\"{name}\",\n}}"
        )
    }
}

const RULES_ALLOWED: &str = "  # Everything that namespaces, capabilities and seccomp leave.
  network,
  capability,
  file,
  umount,
  # The kernel's crypto sockets were a way to root, and seccomp cannot see them behind the old socketcall.
  deny network alg,

";

/// AppArmor has no \"everything but\": a name is excluded letter by letter, as `[^c]*` and then `c[^g]*`.
const RULES_DENIED: &str = "
  # Nothing directly in /proc, and below it only processes' own folders, sys/kernel/shm* and what is read.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  # The host's keyboard commands and its memory.
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  # New mounts could uncover what is masked.
  deny mount,

  # /sys, except /sys/fs/cgroup.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

";

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn text(full: bool) -> String {
        let name = "docker-default".to_owned();
        ProfileText {
            name,
            daemon: "unconfined".to_owned(),
            abi: full,
            tunables: full,
            base: full,
        }
        .to_string()
    }

    #[test]
    fn profile() {
        expect![[r##"
            # The default profile of containers, made by Hull.
            abi <abi/3.0>,
            #include <tunables/global>

            profile "docker-default" flags=(attach_disconnected,mediate_deleted) {
              #include <abstractions/base>

              # Everything that namespaces, capabilities and seccomp leave.
              network,
              capability,
              file,
              umount,
              # The kernel's crypto sockets were a way to root, and seccomp cannot see them behind the old socketcall.
              deny network alg,

              # Signals from the host, from runtimes and the engine under profiles of their own, and among the container's processes.
              signal (receive) peer=unconfined,
              signal (receive) peer=runc,
              signal (receive) peer=crun,
              signal (receive) peer=hull,
              signal (receive) peer="unconfined",
              signal (send,receive) peer="docker-default",

              # Nothing directly in /proc, and below it only processes' own folders, sys/kernel/shm* and what is read.
              deny @{PROC}/* w,
              deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
              deny @{PROC}/sys/[^k]** w,
              deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
              # The host's keyboard commands and its memory.
              deny @{PROC}/sysrq-trigger rwklx,
              deny @{PROC}/kcore rwklx,

              # New mounts could uncover what is masked.
              deny mount,

              # /sys, except /sys/fs/cgroup.
              deny /sys/[^f]*/** wklx,
              deny /sys/f[^s]*/** wklx,
              deny /sys/fs/[^c]*/** wklx,
              deny /sys/fs/c[^g]*/** wklx,
              deny /sys/fs/cg[^r]*/** wklx,
              deny /sys/firmware/** rwklx,
              deny /sys/devices/virtual/powercap/** rwklx,
              deny /sys/kernel/security/** rwklx,

              # Processes of the container may trace each other, as far as the kernel lets them.
              ptrace (trace,tracedby,read,readby) peer="docker-default",
            }
        "##]].assert_eq(&text(true));
        assert!(text(false).contains("@{PROC}=/proc/") && !text(false).contains("include"));
    }

    #[test]
    fn labels() {
        assert_eq!(label("docker-default (enforce)\n"), "docker-default");
        assert_eq!(label("a (b) c (complain)"), "a (b) c");
        assert_eq!(label("unconfined\n"), "unconfined");
        assert_eq!(exec_label("docker-default"), "exec docker-default");
    }

    #[test]
    fn names_that_break_out_are_refused() {
        for name in ["", "unconfined", "a\" {}\nprofile b", "a\\", ":ns:a"] {
            assert!(
                matches!(ProfileText::here(name), Err(Error::Name(_))),
                "{name}"
            );
        }
    }

    /// Debian's compiler accepts the text, with and without the distribution's includes.
    #[test]
    fn apparmor_parser_compiles_it() {
        let Some(parser) = hull_testkit::skips::program("apparmor_parser") else {
            hull_testkit::skip!("apparmor_parser is not installed");
            return;
        };
        let here = ProfileText::here(DEFAULT_PROFILE).expect("a good name");
        let bare = ProfileText {
            abi: false,
            tunables: false,
            base: false,
            ..here.clone()
        };
        for profile in [here, bare] {
            let mut command = Command::new(&parser);
            command.args(["--skip-cache", "--skip-kernel-load", "--stdout"]);
            let output = hull_testkit::process::run_with_input(
                &mut command,
                profile.to_string().as_bytes(),
                std::time::Duration::from_secs(60),
            );
            output.expect("run the parser").ok();
        }
    }
}
