//! Kills for want of memory, told when they happen.

use hull_runtime::cgroup::OomWatch;

use super::Monitor;
use crate::protocol::{Event, Status};

/// What is known of kills for want of memory.
#[derive(Default)]
pub(super) struct Oom {
    pub(super) watch: Option<OomWatch>,
    /// The daemon was told of one, or would have been if there had been one.
    pub(super) told: bool,
    /// Counted by the watch, in case somebody else removes the cgroup with its counter.
    kills: u64,
}

impl Monitor {
    /// From the container's creation on. A kernel that takes no watch tells at the end only.
    pub(super) fn watch_oom(&mut self) {
        match self.task.oom_watch() {
            Ok(watch) => self.oom.watch = watch,
            Err(e) => eprintln!("shim: {}", crate::chain(&e)),
        }
    }

    /// The watch is ready.
    pub(super) fn oom_ready(&mut self) {
        let Some(watch) = &mut self.oom.watch else {
            return;
        };
        let happened = watch.happened();
        self.oom.kills = watch.kills();
        if watch.is_gone() {
            self.oom.watch = None;
        }
        if happened && matches!(self.status, Status::Running | Status::Paused) {
            self.oom.told = true;
            self.tell(Event::Oom {});
        }
    }

    /// At the end, while the cgroup is there: whether something was killed; it is told if it was not.
    pub(super) fn oom_killed(&mut self) -> bool {
        self.oom_ready();
        self.oom.watch = None;
        let killed = self.task.oom_killed() || self.oom.kills > 0;
        if killed && !self.oom.told {
            self.tell(Event::Oom {});
        }
        killed
    }
}
