//! Init's steps about the program: working directory, `PATH`, `HOME`.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use hull_sys::Errno;
use hull_sys::caps::{self, CapSets};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, accessat, mkdirat, stat};

use super::{At, Init, StepResult};
use crate::plan::Step;

/// Most of `/etc/passwd` that is read for `HOME`.
const PASSWD_MAX: u64 = 1 << 20;
/// Where programs are looked for when the environment has no `PATH` (Go's os/exec: nowhere; Docker always
/// sets it).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Init<'_> {
    /// Enters the working directory, which a new container gets where it is missing (as from runc; an exec does not), and sees to it
    /// that it lies below the root: a descriptor of the host leaked as `/proc/self/fd/N` does not (CVE-2024-21626).
    pub(super) fn cwd(&self, path: &Path) -> StepResult {
        match rustix::process::chdir(path) {
            Err(Errno::NOENT) if self.kit.target.is_none() => {
                make_all(path).at(path)?;
                rustix::process::chdir(path).at(path)?;
            }
            other => other.at(path)?,
        }
        let real = rustix::process::getcwd(Vec::new()).at(path)?;
        // The kernel prefixes what it cannot reach from the root.
        if real.to_bytes().first() != Some(&b'/') {
            return Err(Errno::NOENT).at(path);
        }
        Ok(())
    }

    /// Finds the program as the program's user would, so that a missing one fails create.
    pub(super) fn find_program(&mut self) -> StepResult {
        if let Some(uid) = self.plan.program.home_for {
            self.home = Some(format!("HOME={}", home(uid)));
        }
        let name = self.plan.program.args.first().ok_or(Errno::NOENT)?;
        let held = caps::get()?;
        caps::set(CapSets {
            effective: held.permitted & self.final_effective(),
            ..held
        })?;
        let found = self.search(name);
        caps::set(held)?;
        self.program = Some(found.at(name)?);
        Ok(())
    }

    fn final_effective(&self) -> u64 {
        let mut steps = self.plan.steps.iter();
        let found = steps.find_map(|step| match step {
            Step::Capabilities { effective, .. } => Some(*effective),
            _ => None,
        });
        found.unwrap_or(0)
    }

    fn search(&self, name: &str) -> Result<CString, Errno> {
        let c = |s: String| CString::new(s).map_err(|_| Errno::INVAL);
        if name.contains('/') {
            executable(name)?;
            return c(name.to_owned());
        }
        let mut entries = self.plan.program.env.iter();
        let path = entries.find_map(|entry| entry.strip_prefix("PATH="));
        let mut denied = false;
        for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = format!("{directory}/{name}");
            match executable(&candidate) {
                Ok(()) => return c(candidate),
                Err(Errno::ACCESS) => denied = true,
                Err(_) => {}
            }
        }
        Err(if denied { Errno::ACCESS } else { Errno::NOENT })
    }
}

fn executable(path: &str) -> Result<(), Errno> {
    let stat = stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2(2) is missing before Linux 5.8: execve will tell.
        Err(Errno::NOSYS) => Ok(()),
        other => other,
    }
}

fn make_all(path: &Path) -> Result<(), Errno> {
    let mut so_far = std::path::PathBuf::new();
    for component in path.components() {
        so_far.push(component);
        match mkdirat(CWD, &so_far, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The user's home directory by the container's own `/etc/passwd`; `/` when it has none (as runc).
fn home(uid: u32) -> String {
    let found = std::fs::File::open("/etc/passwd").ok().and_then(|file| {
        let lines = BufReader::new(file.take(PASSWD_MAX)).lines();
        lines.map_while(Result::ok).find_map(|line| {
            let mut fields = line.split(':');
            let matches = fields.nth(2)?.parse() == Ok(uid);
            matches.then(|| fields.nth(2).map(str::to_owned)).flatten()
        })
    });
    found
        .filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".into())
}
