//! `checkpoint`: a container's processes and memory become images.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Status;
use hull_sys::Errno;
use rustix::fs::{Mode, OFlags};

use super::rpc::{Kind, Opts};
use super::swrk::{Criu, Place, Swrk, with_log};
use super::{CheckpointOptions, DESCRIPTORS, Directories, config_file, namespace_key};
use crate::error::Context;
use crate::lifecycle::record_of;
use crate::record::Record;
use crate::{Error, Result};

/// criu's log in the work directory: runc's name.
const LOG: &str = "dump.log";

/// Writes the state of a container's processes to images.
///
/// Unless they are left running, criu kills them; what is left of the container is then the caller's to delete.
///
/// # Errors
/// [`Error::WrongStatus`] when it does not run; [`Error::NoCriu`], [`Error::OldCriu`]; [`Error::Criu`] with criu's
/// answer and the errors in its log. The container runs on then.
pub fn checkpoint(state_root: &Path, id: &str, options: CheckpointOptions<'_>) -> Result<()> {
    let (record, status) = record_of(state_root, id)?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Error::WrongStatus {
            operation: "checkpoint",
            status,
        });
    }
    super::needs_root("checkpoint")?;
    let criu = Criu::find()?;
    if options.pre_dump || options.criu.lazy_pages {
        check_features(&criu, &options)?;
    }
    let directories = Directories::open(&options.criu, true)?;
    let opts = opts(&record, &options, &directories)?;
    if !options.pre_dump {
        let file = options.criu.images.join(DESCRIPTORS);
        let text = serde_json::json!(record.outside.streams).to_string();
        fs::write(&file, text).on("write", &file)?;
    }
    let kind = if options.pre_dump {
        Kind::PreDump
    } else {
        Kind::Dump
    };
    let place = Place {
        directories: directories.places(),
        ..Place::default()
    };
    let swrk = Swrk::start(&criu, place, || Ok(()))?;
    let done = swrk.converse(kind, Some(&opts), |response, _| {
        // Lazy pages can be fetched now. The other points need no answer but yes: the network is the caller's.
        if let ("status-ready", Some(fd)) = (response.script.as_str(), &options.status_fd) {
            rustix::io::write(fd, &[0]).on("write", "status descriptor")?;
        }
        Ok(())
    });
    done.map_err(|e| with_log(e, options.criu.log_directory(), LOG))?;
    Ok(())
}

fn check_features(criu: &Criu, options: &CheckpointOptions<'_>) -> Result<()> {
    let found = criu.features()?;
    let missing = |what: &str| {
        Err(Error::Criu {
            reason: format!("criu is missing features: [{what}]"),
        })
    };
    if options.pre_dump && !found.mem_track {
        return missing("MemTrack");
    }
    if options.criu.lazy_pages && !found.lazy_pages {
        return missing("LazyPages");
    }
    Ok(())
}

fn opts(
    record: &Record,
    options: &CheckpointOptions<'_>,
    directories: &Directories,
) -> Result<Opts> {
    let freezer = record.cgroup.controller("freezer").map(Path::to_owned);
    let mut opts = Opts {
        pid: Some(record.pid),
        leave_running: options.leave_running,
        tcp_skip_in_flight: options.tcp_skip_in_flight,
        link_remap: options.link_remap,
        parent: options.parent.map(str::to_owned),
        page_server: options.page_server.clone(),
        freeze_cgroup: freezer.or_else(|| record.cgroup.unified.clone()),
        config_file: config_file(&record.annotations),
        ..directories.opts(&options.criu, LOG)
    };
    for kind in ["net", "pid"] {
        if let Some(path) = record.outside.namespace(kind) {
            // The file may be a mount that is gone; the namespace is init's.
            let file = format!("/proc/{}/ns/{kind}", record.pid);
            let inode = fs::metadata(&file).on("read", path)?.ino();
            let key = namespace_key(kind);
            opts.external.push(format!("{kind}[{inode}]:{key}"));
        }
    }
    if !options.pre_dump {
        opts.ext_mounts = external_mounts(record)?;
    }
    Ok(opts)
}

/// Where the host's file systems are mounted, and the names by which a restore finds them.
fn external_mounts(record: &Record) -> Result<Vec<(PathBuf, PathBuf)>> {
    let root = format!("/proc/{}/root", record.pid);
    let root = hull_sys::path::open_dir(Path::new(&root)).on("open", root)?;
    let mut found = Vec::new();
    for (destination, _) in &record.outside.mounts {
        let point = place(&root, destination)?;
        found.extend(point.map(|(point, _)| (point, destination.clone())));
    }
    for path in &record.outside.masked {
        if let Some((point, false)) = place(&root, path)? {
            found.push((point, "/dev/null".into()));
        }
    }
    Ok(found)
}

/// Where a path of the container really is, and whether that is a directory; `None` when it is nowhere.
fn place(root: &impl AsFd, path: &Path) -> Result<Option<(PathBuf, bool)>> {
    let opened = hull_sys::path::open_in_root(root.as_fd(), path, OFlags::PATH, Mode::empty());
    let fd = match opened {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.on("open", path)?,
    };
    // In another mount namespace than ours: the name is the one from its root.
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let real = fs::read_link(&link).on("read", &link)?;
    let stat = rustix::fs::fstat(&fd).on("read", path)?;
    let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    Ok(Some((real, directory)))
}
