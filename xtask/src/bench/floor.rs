//! What the kernel alone costs for one container: the same namespaces, root, mounts and exec, with nothing above them.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hull_sys::clone::{self, CloneArgs};
use hull_sys::exec::{CStrings, execve};
use hull_sys::{mount, pidfd};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// Starts `busybox true` in all namespaces on an overlay root and waits for its end: the time from clone3 to the reaped child.
pub fn start_once() -> Result<Duration> {
    let work = tempfile::Builder::new()
        .prefix("hull-floor-")
        .tempdir_in("/dev/shm")?;
    let root = work.path();
    for folder in [
        "lower/bin",
        "lower/proc",
        "lower/dev",
        "lower/sys",
        "upper",
        "work",
    ] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("lower/bin/true")).context("/bin/busybox")?;
    let argv = CStrings::new(["true"])?;
    let env = CStrings::new::<&str>([])?;
    let start = Instant::now();
    let child = clone::clone3(
        &CloneArgs {
            flags: clone::CLONE_NEWNS
                | clone::CLONE_NEWUTS
                | clone::CLONE_NEWIPC
                | clone::CLONE_NEWPID
                | clone::CLONE_NEWNET
                | clone::CLONE_NEWCGROUP,
            exit_signal: rustix::process::Signal::CHILD.as_raw() as u64,
            ..CloneArgs::default()
        },
        || match enter(root) {
            Ok(()) => {
                let _ = execve(c"/bin/true", &argv, &env);
                127
            }
            Err(_) => 126,
        },
    )?;
    let ended = pidfd::wait(child.pidfd.as_fd())?;
    let took = start.elapsed();
    if ended.shell_code() != 0 {
        bail!("the floor's process ended with {}", ended.shell_code());
    }
    Ok(took)
}

/// Root, and the file systems that every container gets.
fn enter(root: &Path) -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let shown = root.display();
    let overlay = mount::detached(
        "overlay",
        Some("overlay"),
        &[
            format!("lowerdir={shown}/lower"),
            format!("upperdir={shown}/upper"),
            format!("workdir={shown}/work"),
        ],
    )?;
    let target = root.join("lower");
    mount::attach(overlay.as_fd(), None, &target)?;
    for (fs, at, options) in [
        ("proc", "proc", &[][..]),
        ("tmpfs", "dev", &["mode=755", "size=65536k"][..]),
        ("sysfs", "sys", &["ro"][..]),
    ] {
        let made = mount::detached(fs, Some(fs), options)?;
        mount::attach(made.as_fd(), None, &target.join(at))?;
    }
    for (fs, at, options) in [
        ("devpts", "dev/pts", &["newinstance", "ptmxmode=0666"][..]),
        ("tmpfs", "dev/shm", &["mode=1777"][..]),
        ("mqueue", "dev/mqueue", &[][..]),
    ] {
        std::fs::create_dir(target.join(at))?;
        let made = mount::detached(fs, Some(fs), options)?;
        mount::attach(made.as_fd(), None, &target.join(at))?;
    }
    std::env::set_current_dir(&target)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}
