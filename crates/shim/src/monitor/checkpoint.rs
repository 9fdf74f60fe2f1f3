//! Checkpoint and restore, as requests to the monitor. The loop stands still meanwhile: the processes are frozen too.

use std::path::Path;

use super::Monitor;
use crate::now;
use crate::protocol::{Done, Failure, Status};

impl Monitor {
    pub(super) fn restore(&mut self, images: &Path) -> Result<Done, Failure> {
        self.need(&[Status::New], "restore")?;
        self.open_log()?;
        match self.task.restore(images) {
            Ok((pid, streams)) => {
                let started_at = now();
                self.main.pid = Some(pid);
                self.main.streams = streams;
                self.status = Status::Running;
                self.started_at = Some(started_at.clone());
                self.watch_oom();
                Ok(Done::Restored { pid, started_at })
            }
            Err(e) => {
                self.give_up();
                Err(e.into())
            }
        }
    }

    pub(super) fn checkpoint(
        &mut self,
        images: &Path,
        leave_running: bool,
    ) -> Result<Done, Failure> {
        self.need(&[Status::Running], "checkpoint")?;
        self.task.checkpoint(images, leave_running)?;
        Ok(Done::Empty {})
    }
}
