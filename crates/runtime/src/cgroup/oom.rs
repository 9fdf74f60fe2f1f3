//! Being told of OOM kills when they happen: version 1 signals an eventfd (cgroup-v1/memory.rst, section 10), version 2 has a file whose
//! changes poll(2) tells of (cgroup-v2.rst, `memory.events`).

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::{CgroupPaths, Mode};
use crate::Result;
use crate::error::Context;

/// A descriptor that is ready when the kernel kills for want of memory in a cgroup, or below it.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: the eventfd; v2: `memory.events`.
    fd: OwnedFd,
    flags: PollFlags,
    cgroup: CgroupPaths,
    kills: u64,
}

impl CgroupPaths {
    /// Watches for OOM kills from now on; `None` where the container has no memory controller.
    ///
    /// # Errors
    /// The cgroup's files cannot be opened, or the kernel takes no watch.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        let (fd, flags) = match (self.mode, &self.unified) {
            (Mode::V2, Some(path)) => {
                let file = path.join("memory.events");
                match file.exists() {
                    true => (File::open(&file).on("open", file)?.into(), PollFlags::PRI),
                    false => return Ok(None),
                }
            }
            _ => match self.controller("memory") {
                None => return Ok(None),
                Some(path) => (notified_v1(path)?, PollFlags::IN),
            },
        };
        let kills = self.oom_kills()?;
        Ok(Some(OomWatch {
            fd,
            flags,
            cgroup: self.clone(),
            kills,
        }))
    }
}

fn notified_v1(path: &std::path::Path) -> Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = eventfd(0, flags).on("make an eventfd for", path)?;
    let control = path.join("memory.oom_control");
    let watched = File::open(&control).on("open", &control)?;
    let line = format!("{} {}", event.as_raw_fd(), watched.as_raw_fd());
    let file = path.join("cgroup.event_control");
    // The kernel keeps what it needs of both.
    fs::write(&file, line).on("watch for OOM kills by", file)?;
    Ok(event)
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OomWatch {
    /// What poll(2) is to wait for.
    #[must_use]
    pub fn flags(&self) -> PollFlags {
        self.flags
    }

    /// After poll(2): whether there was a lack of memory since this was last asked. v1 tells of it before it kills, so that the count of
    /// kills says nothing yet; it tells as well where the OOM killer is off and the container waits, as Docker's event does.
    pub fn happened(&mut self) -> bool {
        let mut buffer = [0; 512];
        if self.flags.contains(PollFlags::IN) {
            let told = rustix::io::read(&self.fd, &mut buffer).is_ok();
            // The end of the cgroup is told in the same way.
            let memory = self.cgroup.controller("memory");
            return told && memory.is_some_and(std::path::Path::exists);
        }
        // Reading settles poll(2) until the file changes again.
        let _ = rustix::io::pread(&self.fd, &mut buffer, 0);
        let kills = self.cgroup.oom_kills().unwrap_or(self.kills);
        kills > std::mem::replace(&mut self.kills, kills)
    }
}
