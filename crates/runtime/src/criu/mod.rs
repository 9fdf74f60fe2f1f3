//! Checkpoint and restore by criu (<https://criu.org>), through its RPC.
//!
//! The images are those that runc makes and reads: external mounts are named by their destination, masked files by
//! `/dev/null`, entered namespaces `extRootNetNS` and `extRootPidNS`, and `descriptors.json` beside them says which of the
//! standard streams were pipes. What the host gave a container is in its record ([`Outside`]).

mod checkpoint;
mod outside;
mod protobuf;
mod restore;
mod rpc;
mod swrk;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use checkpoint::checkpoint;
pub use outside::Outside;
pub use restore::restore;
pub use rpc::ManageCgroups;

use crate::error::Context;
use crate::{CreateOptions, Result};
use rpc::Opts;

/// What a checkpoint and its restore have in common; both must be asked for the same.
#[derive(Debug, Clone, Copy)]
pub struct CriuOptions<'a> {
    /// Directory of the images.
    pub images: &'a Path,
    /// Directory of criu's log and temporary files; the images' when absent.
    pub work: Option<&'a Path>,
    /// Keep TCP connections (they are locked meanwhile).
    pub tcp_established: bool,
    /// Connections to unix sockets of the host are allowed.
    pub ext_unix_sk: bool,
    /// The session or the terminal is one of the host's.
    pub shell_job: bool,
    /// Keep file locks.
    pub file_locks: bool,
    /// Pages follow when they are touched, by a `criu lazy-pages` daemon.
    pub lazy_pages: bool,
    /// Pages that are in two images are kept in one.
    pub auto_dedup: bool,
    /// What becomes of cgroups.
    pub cgroups: ManageCgroups,
}

impl<'a> CriuOptions<'a> {
    /// Nothing but the directory of the images.
    #[must_use]
    pub fn new(images: &'a Path) -> Self {
        Self {
            images,
            work: None,
            tcp_established: false,
            ext_unix_sk: false,
            shell_job: false,
            file_locks: false,
            lazy_pages: false,
            auto_dedup: false,
            cgroups: ManageCgroups::default(),
        }
    }

    /// Where criu's log is.
    fn log_directory(&self) -> &'a Path {
        self.work.unwrap_or(self.images)
    }
}

/// Input of [`checkpoint`].
#[derive(Debug)]
pub struct CheckpointOptions<'a> {
    /// Images, and what a restore must know too.
    pub criu: CriuOptions<'a>,
    /// The processes go on; without it criu kills them.
    pub leave_running: bool,
    /// Only memory, for a quicker checkpoint later; the processes go on.
    pub pre_dump: bool,
    /// The images of the last pre-dump, relative to the images.
    pub parent: Option<&'a str>,
    /// Memory goes to a page server at this address and port.
    pub page_server: Option<(String, u16)>,
    /// Connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Open files that were unlinked get names again.
    pub link_remap: bool,
    /// Receives one zero byte once lazy pages can be fetched.
    pub status_fd: Option<OwnedFd>,
}

impl<'a> CheckpointOptions<'a> {
    /// A checkpoint that ends the container.
    #[must_use]
    pub fn new(criu: CriuOptions<'a>) -> Self {
        Self {
            criu,
            leave_running: false,
            pre_dump: false,
            parent: None,
            page_server: None,
            tcp_skip_in_flight: false,
            link_remap: false,
            status_fd: None,
        }
    }
}

/// Input of [`restore`].
#[derive(Debug)]
pub struct RestoreOptions<'a> {
    /// The container, as for [`crate::create`]; how it is started has no meaning here.
    pub create: CreateOptions<'a>,
    /// Images, and what was asked for at the checkpoint.
    pub criu: CriuOptions<'a>,
    /// `TYPE:NAME` of the LSM profile instead of the saved one.
    pub lsm_profile: Option<String>,
    /// SELinux mount context instead of the saved one.
    pub lsm_mount_context: Option<String>,
}

/// Output of [`restore`].
#[derive(Debug)]
pub struct Restored {
    /// Init's pid as the caller sees it.
    pub pid: i32,
    /// Init's pidfd. Init is the caller's child: the caller reaps it.
    pub pidfd: OwnedFd,
    /// The terminal's master, when the container has one.
    pub console_master: Option<OwnedFd>,
    /// Where its cgroups are.
    pub cgroup: crate::cgroup::CgroupPaths,
}

/// Processes of other users are taken apart and made again with the pids and the user ids that they had.
fn needs_root(field: &str) -> Result<()> {
    if crate::HostFacts::probe()?.rootless {
        return Err(crate::Error::Unsupported {
            field: field.into(),
            reason: "criu needs root outside of user namespaces".into(),
        });
    }
    Ok(())
}

/// Which of the standard streams were pipes: beside the images, under runc's name.
const DESCRIPTORS: &str = "descriptors.json";

/// The annotation by which a container names a configuration file of criu's; empty: none.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// The one that is named without it. What does not exist is passed over by criu.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

fn config_file(annotations: &std::collections::BTreeMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(path) => (!path.is_empty()).then(|| path.clone()),
        None => Some(CONFIG_FILE.into()),
    }
}

/// runc's and criu's name of a namespace that was entered, as `extRootNetNS`.
fn namespace_key(kind: &str) -> &'static str {
    match kind {
        "pid" => "extRootPidNS",
        _ => "extRootNetNS",
    }
}

/// Images and work directories, made where they are missing; criu has them open at the numbers that they have here.
struct Directories {
    images: (OwnedFd, PathBuf),
    work: Option<(OwnedFd, PathBuf)>,
}

impl Directories {
    fn open(options: &CriuOptions<'_>, make_images: bool) -> Result<Self> {
        let make = |path: &Path| match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.on("make", path),
        };
        let open = |path: &Path| {
            let fd = hull_sys::path::open_dir(path).on("open", path)?;
            let real = fs::canonicalize(path).on("open", path)?;
            Ok((fd, real))
        };
        if make_images {
            make(options.images)?;
        }
        let work = options
            .work
            .map(|path| make(path).and_then(|()| open(path)));
        Ok(Self {
            images: open(options.images)?,
            work: work.transpose()?,
        })
    }

    /// For [`swrk::Place`].
    fn places(&self) -> Vec<(RawFd, PathBuf)> {
        let all = [&self.images].into_iter().chain(&self.work);
        all.map(|(fd, path)| (fd.as_raw_fd(), path.clone()))
            .collect()
    }

    /// What both requests say.
    fn opts(&self, options: &CriuOptions<'_>, log_file: &str) -> Opts {
        Opts {
            images_dir_fd: self.images.0.as_raw_fd(),
            work_dir_fd: self.work.as_ref().map(|(fd, _)| fd.as_raw_fd()),
            log_file: log_file.into(),
            ext_unix_sk: options.ext_unix_sk,
            tcp_established: options.tcp_established,
            shell_job: options.shell_job,
            file_locks: options.file_locks,
            lazy_pages: options.lazy_pages,
            auto_dedup: options.auto_dedup,
            cgroups: options.cgroups,
            // Addresses and links are not the runtime's to restore; as runc.
            empty_ns: hull_sys::clone::CLONE_NEWNET,
            ..Opts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_criu_s_configuration() {
        let of = |value: Option<&str>| {
            let annotations = value.map(|v| (CONFIG_ANNOTATION.to_owned(), v.to_owned()));
            config_file(&annotations.into_iter().collect())
        };
        assert_eq!(of(None).as_deref(), Some("/etc/criu/runc.conf"));
        assert_eq!(of(Some("/x")).as_deref(), Some("/x"));
        assert_eq!(of(Some("")), None);
    }
}
