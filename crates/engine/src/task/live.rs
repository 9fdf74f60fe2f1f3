//! What is done to a process: stop, restart, kill, pause, unpause.

use std::time::Duration;

use hull_shim::protocol::Do;
use tokio::time::Instant;

use super::{Reply, Stopping, Task, not_modified};
use crate::admit::{Admitted, Request};
use crate::error::{Error, Result};
use crate::phase::Phase;
use crate::shim::CallError;
use crate::signal;

/// Docker's time between the stop signal and SIGKILL.
const STOP_TIMEOUT_S: i64 = 10;

impl Task {
    pub(super) async fn stop(
        &mut self,
        signal: Option<i32>,
        timeout_s: Option<i64>,
        reply: Reply<()>,
    ) {
        match self.admit(Request::Stop) {
            Err(error) => {
                let _ = reply.send(Err(error));
            }
            Ok(Admitted::Already) => {
                let _ = reply.send(Err(not_modified()));
            }
            Ok(Admitted::Do | Admitted::Join | Admitted::DoAndThaw | Admitted::RecordOnly) => {
                if matches!(self.state.phase, Phase::Restarting(_)) {
                    let done = self.give_up_restart();
                    let _ = reply.send(done);
                    return;
                }
                self.state.stopped_by_user = true;
                self.begin_stop(signal, timeout_s).await;
                if let Some(stopping) = &mut self.stopping {
                    stopping.waiting.push(reply);
                }
            }
        }
    }

    /// As stop, but not a user's wish: at the next boot the restart policy decides.
    pub(super) async fn shut_down(&mut self, reply: Reply<()>) {
        self.restart_at = None;
        if self.state.phase.live().is_none() {
            let _ = reply.send(Ok(()));
            return;
        }
        self.begin_stop(None, None).await;
        if let Some(stopping) = &mut self.stopping {
            stopping.waiting.push(reply);
        }
    }

    pub(super) async fn restart(
        &mut self,
        signal: Option<i32>,
        timeout_s: Option<i64>,
        reply: Reply<()>,
    ) {
        if let Err(error) = self.admit(Request::Restart) {
            let _ = reply.send(Err(error));
            return;
        }
        if self.state.phase.live().is_some() {
            self.begin_stop(signal, timeout_s).await;
            if let Some(stopping) = &mut self.stopping {
                stopping.restart.push(reply);
            }
            return;
        }
        let done = self.start_by_user(None).await;
        if done.is_ok() {
            self.emit("restart", &[]);
        }
        let _ = reply.send(done);
    }

    /// A container that waits for its next start has nothing to end.
    fn give_up_restart(&mut self) -> Result<()> {
        self.restart_at = None;
        self.state.stopped_by_user = true;
        if let Phase::Restarting(exit) = &self.state.phase {
            self.state.phase = Phase::Exited(exit.clone());
        }
        self.save_state()?;
        self.exits += 1;
        self.publish();
        self.emit("stop", &[]);
        Ok(())
    }

    /// Sends the stop signal and sets the time of the kill; joins a stop that is under way.
    async fn begin_stop(&mut self, signal: Option<i32>, timeout_s: Option<i64>) {
        let signal = signal.unwrap_or_else(|| self.stop_signal());
        let timeout_s = timeout_s
            .or(self.record.config.stop_timeout)
            .unwrap_or(STOP_TIMEOUT_S);
        let kill_at = u64::try_from(timeout_s)
            .ok()
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let frozen = matches!(self.state.phase, Phase::Paused(_));
        if let Some(live) = self.state.phase.live().cloned() {
            self.state.phase = Phase::Stopping(live);
            self.publish();
        }
        if signal != rustix::process::Signal::KILL.as_raw() || self.stopping.is_none() {
            self.signal_all(signal).await;
            self.emit("kill", &[("signal", signal.to_string())]);
        }
        if frozen {
            self.thaw().await;
        }
        let stopping = self.stopping.get_or_insert_with(|| Stopping {
            kill_at,
            waiting: Vec::new(),
            restart: Vec::new(),
            by_user: true,
        });
        // The shorter patience wins.
        stopping.kill_at = match (stopping.kill_at, kill_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn stop_signal(&self) -> i32 {
        signal::parse(&self.record.config.stop_signal)
            .unwrap_or(rustix::process::Signal::TERM.as_raw())
    }

    async fn thaw(&mut self) {
        let Some(shim) = &self.shim else { return };
        if let Err(error) = shim.client.command(Do::Resume {}).await {
            tracing::warn!(container = %self.record.id, %error, "thaw");
        }
    }

    pub(super) async fn kill(&mut self, signal: i32, reply: Reply<()>) {
        let admitted = match self.admit(Request::Kill) {
            Ok(admitted) => admitted,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let kills = signal == rustix::process::Signal::KILL.as_raw();
        // A signal that is not this container's way to stop leaves its restart policy alone.
        if kills || self.record.config.stop_signal.is_empty() || signal == self.stop_signal() {
            self.state.stopped_by_user = true;
        }
        let Some(shim) = &self.shim else {
            let _ = reply.send(Err(Error::conflict(format!(
                "container {} is not running",
                self.record.id
            ))));
            return;
        };
        let sent = shim
            .client
            .command(Do::Signal {
                exec: None,
                signal,
                all: false,
            })
            .await;
        if let Err(error) = sent {
            let what = format!("signal container {}", self.record.id);
            let _ = reply.send(Err(self.undone(what, error).await));
            return;
        }
        self.emit("kill", &[("signal", signal.to_string())]);
        if admitted == Admitted::DoAndThaw {
            self.thaw().await;
            if let Phase::Paused(live) = &self.state.phase {
                self.state.phase = Phase::Running(live.clone());
                self.publish();
            }
        }
        if kills {
            self.killed.push(reply);
        } else {
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) async fn pause(&mut self) -> Result<()> {
        self.admit(Request::Pause)?;
        self.freeze(true).await?;
        if let Some(live) = self.state.phase.live().cloned() {
            self.state.phase = Phase::Paused(live);
        }
        self.save_state()?;
        self.publish();
        self.emit("pause", &[]);
        Ok(())
    }

    pub(super) async fn unpause(&mut self) -> Result<()> {
        self.admit(Request::Unpause)?;
        self.freeze(false).await?;
        if let Some(live) = self.state.phase.live().cloned() {
            self.state.phase = Phase::Running(live);
        }
        self.save_state()?;
        self.publish();
        self.emit("unpause", &[]);
        Ok(())
    }

    async fn freeze(&self, freeze: bool) -> Result<()> {
        let (action, word) = if freeze {
            (Do::Pause {}, "pause")
        } else {
            (Do::Resume {}, "unpause")
        };
        let Some(shim) = &self.shim else {
            return Err(Error::conflict(format!(
                "container {} is not running",
                self.record.id
            )));
        };
        match shim.client.command(action).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let what = format!("cannot {word} container {}", self.record.id);
                Err(self.undone(what, error).await)
            }
        }
    }

    /// What a shim did not do. One that is gone, or whose container is, has told its end, of which this task will hear next.
    async fn undone(&self, what: String, error: CallError) -> Error {
        let gone = match &self.shim {
            Some(shim) => shim.client.has_ended().await,
            None => true,
        };
        if gone {
            Error::conflict(format!("container {} is not running", self.record.id))
        } else {
            Error::failed(what, error)
        }
    }
}
