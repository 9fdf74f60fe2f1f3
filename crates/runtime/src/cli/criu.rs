//! `checkpoint` and `restore`.

use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hull_sys::fds;

use super::args::{CgroupsMode, Checkpoint, Criu, EmptyNs, Global, Restore};
use super::{foreground, run};
use crate::{
    CheckpointOptions, CreateOptions, CriuOptions, Error, ManageCgroups, RestoreOptions, StartBy,
};

/// Where images are without `--image-path`: runc's place.
const IMAGES: &str = "checkpoint";

pub(super) fn checkpoint(global: &Global, args: Checkpoint) -> anyhow::Result<i32> {
    let root = global.state_root();
    let images = images(&args.criu)?;
    if let Some(parent) = &args.parent_path {
        check_parent(&images, parent)?;
    }
    let page_server = args.page_server.as_deref().map(page_server).transpose()?;
    let status_fd = match args.status_fd {
        -1 => None,
        fd => Some(fds::take(fd).with_context(|| format!("invalid --status-fd argument {fd}"))?),
    };
    let done = crate::checkpoint(
        &root,
        &args.id,
        CheckpointOptions {
            criu: options(&args.criu, &images),
            leave_running: args.leave_running,
            pre_dump: args.pre_dump,
            parent: args.parent_path.as_deref(),
            page_server,
            tcp_skip_in_flight: args.tcp_skip_in_flight,
            link_remap: args.link_remap,
            status_fd,
        },
    );
    match done {
        Err(Error::WrongStatus { status, .. }) => {
            bail!("Container cannot be checkpointed in {status} state")
        }
        other => other?,
    }
    if !args.leave_running && !args.pre_dump {
        crate::delete(&root, &args.id, true)?;
    }
    Ok(0)
}

pub(super) fn restore(global: &Global, args: &Restore) -> anyhow::Result<i32> {
    let root = global.state_root();
    let bundle = run::bundle(args.bundle.as_deref())?;
    let spec = run::read_spec(&bundle)?;
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    run::check_console(terminal, args.detach, args.console_socket.is_some())?;
    if !args.detach && !args.no_subreaper {
        hull_sys::process::set_child_subreaper(true)?;
    }
    let images = images(&args.criu)?;
    let mask = foreground::block(!args.detach)?;
    let restored = crate::restore(RestoreOptions {
        create: CreateOptions {
            id: &args.id,
            bundle: &bundle,
            spec: &spec,
            state_root: &root,
            rootfs: &[],
            stdio: run::stdio(terminal, false),
            cgroup_manager: global.cgroup_manager(),
            pid_file: args.pid_file.as_deref(),
            no_pivot: args.no_pivot,
            no_new_keyring: false,
            preserve_fds: 0,
            start_by: StartBy::Handle,
        },
        criu: options(&args.criu, &images),
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
    });
    let mut restored = restored.inspect_err(|_| foreground::unblock(mask))?;
    let console = restored.console_master.take();
    if let (Some(path), Some(master)) = (&args.console_socket, &console) {
        run::send_fd(path, b"/dev/pts/0", master.as_fd())?;
    }
    if args.detach {
        return Ok(0);
    }
    let console = console.filter(|_| args.console_socket.is_none());
    let exit = foreground::wait(restored.pidfd.as_fd(), console)?;
    if !args.keep {
        crate::delete(&root, &args.id, true)?;
    }
    Ok(exit.shell_code())
}

/// The directory of the images, absolute and made.
fn images(args: &Criu) -> anyhow::Result<PathBuf> {
    let path = args.image_path.clone().unwrap_or_else(|| IMAGES.into());
    let path = std::path::absolute(path)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("mkdir {}", path.display()))?;
    Ok(path)
}

fn options<'a>(args: &'a Criu, images: &'a Path) -> CriuOptions<'a> {
    // The network namespace is always made without what was in it.
    let ([] | [EmptyNs::Network, ..]) = args.empty_ns[..];
    CriuOptions {
        images,
        work: args.work_path.as_deref(),
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        lazy_pages: args.lazy_pages,
        auto_dedup: args.auto_dedup,
        cgroups: match args.manage_cgroups_mode {
            None => ManageCgroups::Default,
            Some(CgroupsMode::Soft) => ManageCgroups::Soft,
            Some(CgroupsMode::Full) => ManageCgroups::Full,
            Some(CgroupsMode::Strict) => ManageCgroups::Strict,
            Some(CgroupsMode::Ignore) => ManageCgroups::Ignore,
        },
    }
}

/// runc's rules, in runc's words.
fn check_parent(images: &Path, parent: &str) -> anyhow::Result<()> {
    if Path::new(parent).is_absolute() {
        bail!("--parent-path must be relative");
    }
    let real = images.join(parent);
    let metadata = std::fs::metadata(&real)
        .with_context(|| format!("invalid --parent-path: stat {}", real.display()))?;
    if !metadata.is_dir() {
        bail!("invalid --parent-path: {}: not a directory", real.display());
    }
    Ok(())
}

fn page_server(text: &str) -> anyhow::Result<(String, u16)> {
    let parts = text.rsplit_once(':');
    let Some((address, port)) = parts.filter(|(a, p)| !a.is_empty() && !p.is_empty()) else {
        bail!("Use --page-server ADDRESS:PORT to specify page server");
    };
    // An IPv6 address stands in brackets, which criu does not want.
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let port = port.parse().context("Invalid port number")?;
    Ok((bare.unwrap_or(address).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_and_parents_are_checked() {
        assert_eq!(page_server("1.2.3.4:27").unwrap(), ("1.2.3.4".into(), 27));
        assert_eq!(page_server("[::1]:27").unwrap(), ("::1".into(), 27));
        for bad in ["", ":1", "host", "host:", "host:x", "host:65536"] {
            page_server(bad).unwrap_err();
        }
        let images = tempfile::tempdir().unwrap();
        std::fs::create_dir(images.path().join("pre")).unwrap();
        check_parent(images.path(), "pre").unwrap();
        for bad in ["/pre", "nosuch"] {
            check_parent(images.path(), bad).unwrap_err();
        }
    }
}
