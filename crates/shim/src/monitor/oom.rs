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
        let happened = self.oom.watch.as_mut().is_some_and(OomWatch::happened);
        if happened && matches!(self.status, Status::Running | Status::Paused) {
            self.oom.told = true;
            self.tell(Event::Oom {});
        }
    }

    /// At the end, while the cgroup is there: whether something was killed; it is told if it was not.
    pub(super) fn oom_killed(&mut self) -> bool {
        self.oom.watch = None;
        let killed = self.task.oom_killed();
        if killed && !self.oom.told {
            self.tell(Event::Oom {});
        }
        killed
    }
}
