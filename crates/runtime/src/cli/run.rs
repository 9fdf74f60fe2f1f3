//! `create` and `run`: a bundle becomes a container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hull_oci::runtime::Spec;
use hull_sys::{fdpass, selfexe};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::args::{Create, Global, Run};
use super::foreground;
use crate::{CreateOptions, Created, Error, StartBy, Stdio};

/// Largest config.json that is read.
const CONFIG_MAX: u64 = 64 << 20;

/// Reads a bundle's configuration.
pub(super) fn read_spec(bundle: &Path) -> anyhow::Result<Spec> {
    use std::io::Read;
    let path = bundle.join("config.json");
    let mut text = Vec::new();
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    file.take(CONFIG_MAX).read_to_end(&mut text)?;
    Ok(crate::error::parse(path, &text)?)
}

pub(super) fn create(global: &Global, args: &Create) -> anyhow::Result<i32> {
    let created = create_container(global, args, true, StartBy::Socket)?;
    hand_over(args, &created)?;
    Ok(0)
}

pub(super) fn run(global: &Global, args: &Run) -> anyhow::Result<i32> {
    let root = global.state_root();
    if !args.detach && !args.no_subreaper {
        hull_sys::process::set_child_subreaper(true)?;
    }
    let mask = foreground::block(!args.detach)?;
    let created = create_container(global, &args.create, args.detach, StartBy::Handle);
    let mut created = created.inspect_err(|_| foreground::unblock(mask))?;
    let console = created.console_master.take();
    let pidfd = created.pidfd;
    let outcome = if args.create.console_socket.is_some() {
        console
            .as_ref()
            .map_or(Ok(()), |fd| send_console(&args.create, fd.as_fd()))
    } else {
        Ok(())
    };
    let started = outcome.and_then(|()| created.init.start().map_err(explain));
    if let Err(e) = started {
        let _ = hull_sys::pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = hull_sys::pidfd::wait(pidfd.as_fd());
        let _ = crate::delete(&root, &args.create.id, true);
        return Err(e);
    }
    if args.detach {
        return Ok(0);
    }
    let console = console.filter(|_| args.create.console_socket.is_none());
    let exit = foreground::wait(pidfd.as_fd(), console)?;
    if !args.keep {
        crate::delete(&root, &args.create.id, true)?;
    }
    Ok(exit.shell_code())
}

/// Runs from a read-only mount from here on (CVE-2019-5736). Where that cannot be had, rootless, the file
/// belongs to somebody whom the container cannot become.
pub(super) fn protect() {
    if let Err(e) = selfexe::ensure_read_only() {
        tracing::debug!("not on a read-only mount: {e}");
    }
}

/// The bundle's directory, absolute.
pub(super) fn bundle(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(bundle) => {
            std::fs::canonicalize(bundle).with_context(|| format!("bundle {}", bundle.display()))
        }
        None => Ok(std::env::current_dir()?),
    }
}

fn create_container(
    global: &Global,
    args: &Create,
    detached: bool,
    start_by: StartBy,
) -> anyhow::Result<Created> {
    let bundle = bundle(args.bundle.as_deref())?;
    let mut spec = read_spec(&bundle)?;
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    check_console(terminal, detached, args.console_socket.is_some())?;
    let preserve_fds = args.preserve_fds + listen_fds(&mut spec);
    crate::create(CreateOptions {
        id: &args.id,
        bundle: &bundle,
        spec: &spec,
        state_root: &global.state_root(),
        rootfs: &[],
        stdio: stdio(terminal, args.console_socket.is_none()),
        cgroup_manager: global.cgroup_manager(),
        pid_file: args.pid_file.as_deref(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds,
        start_by,
    })
    .map_err(explain)
}

/// The streams; a terminal in the foreground starts with the size of ours.
pub(super) fn stdio(terminal: bool, ours: bool) -> Stdio {
    if !terminal {
        return Stdio::Inherit;
    }
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok();
    let size = size
        .filter(|s| ours && s.ws_col != 0)
        .map(|s| (s.ws_col, s.ws_row));
    Stdio::Terminal { size }
}

/// runc's rules, in runc's words.
pub(super) fn check_console(terminal: bool, detached: bool, socket: bool) -> anyhow::Result<()> {
    if terminal && detached && !socket {
        bail!("cannot allocate tty if runc will detach without setting console socket");
    }
    if socket && !(terminal && detached) {
        bail!("cannot use console socket if runc will not detach or allocate tty");
    }
    Ok(())
}

/// Socket activation, sd_listen_fds(3): descriptors from 3 up go on to the program.
fn listen_fds(spec: &mut Spec) -> u32 {
    let count = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|n| n.parse::<u32>().ok());
    let count = count.filter(|n| *n > 0 && *n < 1024).unwrap_or(0);
    if let (true, Some(process)) = (count > 0, &mut spec.process) {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".into());
    }
    count
}

fn hand_over(args: &Create, created: &Created) -> anyhow::Result<()> {
    if let Some(console) = &created.console_master {
        send_console(args, console.as_fd())?;
    }
    if let Some(path) = &args.pidfd_socket {
        send_fd(path, b"pidfd", created.pidfd.as_fd())?;
    }
    Ok(())
}

fn send_console(args: &Create, master: BorrowedFd<'_>) -> anyhow::Result<()> {
    match &args.console_socket {
        Some(path) => send_fd(path, b"/dev/pts/0", master),
        None => Ok(()),
    }
}

/// Sends one descriptor to whoever listens at `path`, with a name as data.
pub(super) fn send_fd(path: &Path, name: &[u8], fd: BorrowedFd<'_>) -> anyhow::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let address = SocketAddrUnix::new(path)?;
    rustix::net::connect(&socket, &address)
        .with_context(|| format!("connect to {}", path.display()))?;
    fdpass::send(socket.as_fd(), name, &[fd])?;
    Ok(())
}

/// runc's frame around a failing init, which Docker's engine looks into for the program's name.
pub(super) fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Init(init) => {
            anyhow::anyhow!("unable to start container process: {init}")
        }
        other => other.into(),
    }
}
