//! Debian packages that a task needs, installed once.
//!
//! Nothing else in the repository calls apt-get.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that a task needs, and the Debian package that brings it.
pub struct Need {
    /// An absolute path, or a name to be found in `PATH`.
    pub program: &'static str,
    /// Debian 12's package.
    pub package: &'static str,
}

/// Shorthand for a [`Need`].
pub const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// Is `program` there, as an absolute path or in `PATH` or the sbin directories?
pub fn has(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| Path::new(dir).join(program).is_file())
}

/// Installs what is missing of `needs`. Services are not started: a test starts its own.
pub fn install(needs: &[Need]) -> Result<()> {
    let mut missing: Vec<&str> = needs
        .iter()
        .filter(|need| !has(need.program))
        .map(|need| need.package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let _keep_services_down = PolicyFile::write()?;
    let run = |args: &[&str]| -> Result<()> {
        let output = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(args)
            .output()
            .context("apt-get")?;
        if !output.status.success() {
            bail!(
                "apt-get {} failed:\n{}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    };
    run(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(missing);
    run(&args)
}

/// `/usr/sbin/policy-rc.d` that forbids starting services, unless the machine has one of its own.
/// Removed on drop.
struct PolicyFile {
    ours: bool,
}

impl PolicyFile {
    const PATH: &'static str = "/usr/sbin/policy-rc.d";

    fn write() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        if Path::new(Self::PATH).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(Self::PATH, "#!/bin/sh\nexit 101\n").context(Self::PATH)?;
        std::fs::set_permissions(Self::PATH, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(Self::PATH);
        }
    }
}
