//! Being told of OOM kills when they happen: version 1 signals an eventfd (cgroup-v1/memory.rst, section 10), version 2 has a file whose
//! changes poll(2) tells of (cgroup-v2.rst, `memory.events`).
//!
//! systemd removes a scope's cgroup as soon as it is empty, and the counter goes with it: who reads it only after the container's end may find
//! nothing. The kernel counts a kill before it sends the signal (`__oom_kill_process`), so whoever looks while memory is short sees it in time.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::{CgroupPaths, Mode};
use crate::Result;
use crate::error::Context;

/// How long memory counts as short after its limit was hit: the kernel tells of changes at most every 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV),
/// so a kill may come before it is told.
const SHORT: Duration = Duration::from_millis(25);
/// How often to look while it is short.
const LOOK: Duration = Duration::from_millis(1);

/// A descriptor that is ready when the kernel kills for want of memory in a cgroup, or below it.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: the eventfd; v2: `memory.events`.
    fd: OwnedFd,
    flags: PollFlags,
    cgroup: CgroupPaths,
    last: Counts,
    look_until: Option<Instant>,
    gone: bool,
}

/// Of `memory.events`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// The limit was hit.
    max: u64,
    /// Nothing more could be reclaimed.
    oom: u64,
    /// Processes killed.
    oom_kill: u64,
}

impl Counts {
    fn parse(text: &str) -> Self {
        let of = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            max: of("max "),
            oom: of("oom "),
            oom_kill: of("oom_kill "),
        }
    }
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
        let mut watch = OomWatch {
            fd,
            flags,
            cgroup: self.clone(),
            last: Counts::default(),
            look_until: None,
            gone: false,
        };
        if flags.contains(PollFlags::PRI) {
            watch.look();
            // What came before is counted, and no reason to hurry.
            watch.look_until = None;
        }
        Ok(Some(watch))
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
        let before = self.last.oom_kill;
        self.look();
        self.last.oom_kill > before
    }

    /// v2: reads the counts, which settles poll(2) until the file changes again, and decides whether to look again soon.
    fn look(&mut self) {
        let mut buffer = [0; 512];
        let Ok(count) = rustix::io::pread(&self.fd, &mut buffer, 0) else {
            // ENODEV: the cgroup was removed. What was counted stays.
            (self.gone, self.look_until) = (true, None);
            return;
        };
        let now = Counts::parse(&String::from_utf8_lossy(&buffer[..count]));
        let changed = now != std::mem::replace(&mut self.last, now);
        if changed {
            self.look_until = Some(Instant::now() + SHORT);
        } else if self.look_until.is_some_and(|until| Instant::now() >= until) {
            self.look_until = None;
        }
    }

    /// When to ask even if poll(2) tells nothing.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.look_until
            .map(|until| until.min(Instant::now() + LOOK))
    }

    /// The cgroup was removed: poll(2) would tell of that for ever.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// v2: how many processes the kernel has killed, as far as was seen, even when the cgroup is gone.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.last.oom_kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let text = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n";
        let counts = Counts {
            max: 17,
            oom: 2,
            oom_kill: 1,
        };
        assert_eq!(Counts::parse(text), counts);
        assert_eq!(Counts::parse("nonsense"), Counts::default());
    }
}
