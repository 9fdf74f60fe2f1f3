//! Checkpoints: a container's processes are saved, and a start goes on from there.

use std::path::PathBuf;

use hull_shim::protocol::{Do, Done};

use super::{Reply, Task};
use crate::admit::Request;
use crate::error::{Error, Result};
use crate::shim::{CallError, ShimClient};

impl Task {
    /// `POST /containers/{id}/checkpoints`. With `exit` the answer comes when the container has ended: the next request may be its start.
    pub(super) async fn checkpoint(&mut self, images: PathBuf, exit: bool, reply: Reply<()>) {
        match self.save(images, exit).await {
            Err(error) => {
                let _ = reply.send(Err(error));
            }
            Ok(()) => {
                self.emit("checkpoint", &[]);
                if exit {
                    self.killed.push(reply);
                } else {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    async fn save(&mut self, images: PathBuf, exit: bool) -> Result<()> {
        self.admit(Request::Checkpoint)?;
        let Some(shim) = &self.shim else {
            return Err(Error::conflict(format!(
                "container {} is not running",
                self.record.id
            )));
        };
        let action = Do::Checkpoint {
            images,
            leave_running: !exit,
        };
        shim.client
            .command(action)
            .await
            .map_err(|error| Error::internal(error.to_string()))?;
        // Its restart policy must not begin it anew.
        self.state.stopped_by_user |= exit;
        Ok(())
    }

    /// Makes the container from images instead of from its program: init's pid, and when. Who waits to be attached is attached before.
    pub(super) async fn go_on_from(
        &mut self,
        client: &ShimClient,
        images: PathBuf,
    ) -> Result<(i32, String)> {
        self.connect_pending().await;
        match client.call(Do::Restore { images }).await {
            Ok(Done::Restored { pid, started_at }) => Ok((pid, started_at)),
            Ok(_) => Err(self.refused(&CallError::Unexpected)),
            Err(error) => Err(self.refused(&error)),
        }
    }
}
