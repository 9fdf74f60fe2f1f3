//! The end of a run: record it, tell everyone, take down what it used, and what the restart policy says.

use std::sync::Arc;
use std::time::Duration;

use hull_shim::protocol::{Do, Event, Exit};
use tokio::time::Instant;

use super::{KILL_WAIT, Task, wants_restart};
use crate::clock;
use crate::containers::RemoveOptions;
use crate::error::{Error, Result};
use crate::networks::plane::Attachment;
use crate::phase::{ExitInfo, Phase};
use crate::shim::ShimEvent;
use crate::world::blocking;

/// How long a client that does not read its output may hold up the news of the end.
const DELIVERY_WAIT: Duration = Duration::from_millis(500);

impl Task {
    /// The shim says that the kernel kills in it for want of memory: the first process lives on, or ends soon. Nothing is written: the
    /// shim says so again to the next daemon.
    pub(super) fn on_oom(&mut self) {
        if let Phase::Running(live) | Phase::Paused(live) | Phase::Stopping(live) =
            &mut self.state.phase
        {
            live.oom_killed = true;
        }
        self.publish();
        self.emit("oom", &[]);
    }

    /// The shim says that the first process has ended.
    pub(super) async fn on_exit(&mut self, exit: Exit) {
        let Some(live) = self.state.phase.live().cloned() else {
            return;
        };
        if let Err(error) = self.world.options.failpoints.pass("exit.seen") {
            tracing::error!(container = %self.record.id, %error, "exit");
        }
        self.monitor = None;
        self.health = self.health.take().map(|health| hull_api::inspect::Health {
            status: "unhealthy".to_owned(),
            ..health
        });
        let ran = run_time(&live.started_at, &exit.finished_at);
        let info = ExitInfo {
            code: exit.code,
            oom_killed: exit.oom_killed,
            error: String::new(),
            started_at: live.started_at,
            finished_at: exit.finished_at,
        };
        let stopping = self.stopping.take();
        let by_request = stopping
            .as_ref()
            .is_some_and(|stopping| !stopping.restart.is_empty());
        let again = !by_request
            && stopping.is_none()
            && wants_restart(
                &self.record.host.restart_policy,
                info.code,
                self.state.stopped_by_user,
                self.state.restart_count,
            );
        self.state.last_exit = None;
        self.state.phase = if again {
            Phase::Restarting(info.clone())
        } else {
            Phase::Exited(info.clone())
        };
        self.exits += 1;
        self.leaving = self.shim.take().map(|shim| shim.client);
        let attachments = std::mem::take(&mut self.attachments);
        self.close_network(&attachments).await;
        if let Err(error) = self.save_state() {
            tracing::error!(container = %self.record.id, %error, "record an exit");
        }
        if let Err(error) = self.world.options.failpoints.pass("exit.recorded") {
            tracing::error!(container = %self.record.id, %error, "exit");
        }
        self.tear_down(attachments.clone());
        self.wait_for_delivery().await;
        self.world.execs.container_ended(&self.record.id);
        self.publish();
        let seconds = ran.as_secs().to_string();
        self.emit(
            "die",
            &[
                ("exitCode", info.code.to_string()),
                ("execDuration", seconds),
            ],
        );
        for attachment in attachments.iter() {
            self.emit_network("disconnect", attachment);
        }
        for reply in std::mem::take(&mut self.killed) {
            let _ = reply.send(Ok(()));
        }
        if let Some(stopping) = stopping {
            if stopping.by_user {
                self.emit("stop", &[]);
            }
            for reply in stopping.waiting {
                let _ = reply.send(Ok(()));
            }
            if !stopping.restart.is_empty() {
                let done = self.start_by_user(None).await;
                if done.is_ok() {
                    self.emit("restart", &[]);
                }
                for reply in stopping.restart {
                    let _ = reply.send(done.clone());
                }
                return;
            }
        }
        if again {
            self.restart_at = Some(Instant::now() + self.back_off.next(ran));
        } else if self.record.host.auto_remove {
            let options = RemoveOptions {
                volumes: true,
                link: false,
                force: true,
            };
            if let Err(error) = self.remove(options).await {
                tracing::error!(container = %self.record.id, %error, "remove after exit");
            }
        }
    }

    /// The connection to the shim broke: its exit record says whether the container has ended.
    pub(super) async fn on_shim_gone(&mut self) {
        let Some(live) = self.state.phase.live().cloned() else {
            self.shim = None;
            return;
        };
        if let Some(exit) = self.world.launcher.exit_record(&self.record.id) {
            self.on_exit(exit).await;
            return;
        }
        // The record is renamed into place just before the shim leaves; look again after a moment.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let exit = self.world.launcher.exit_record(&self.record.id).unwrap_or_else(|| {
            tracing::error!(container = %self.record.id, "the shim died without an exit record; its container is killed");
            Exit { pid: live.pid, code: 137, signal: Some(9), oom_killed: false, finished_at: clock::now() }
        });
        let id = self.record.id.clone();
        let removed = blocking(&self.world, move |world| {
            crate::restore::end_without_shim(world, live.pid, &id)
        })
        .await;
        if let Err(error) = removed {
            tracing::warn!(container = %self.record.id, %error, "after the shim's death");
        }
        self.on_exit(exit).await;
    }

    /// Whoever hears of the end may look at what an attached client was given: as in Docker it has all of it by then, unless it does not read.
    async fn wait_for_delivery(&mut self) {
        let all = futures_util::future::join_all(std::mem::take(&mut self.attached));
        let _ = tokio::time::timeout(DELIVERY_WAIT, all).await;
    }

    /// Ports and names, before anyone hears of the exit: what is published next may want them.
    async fn close_network(&self, attachments: &Arc<Vec<Attachment>>) {
        if !attachments
            .iter()
            .any(|attachment| !attachment.endpoint.ports.is_empty() || attachment.network.has_dns())
        {
            return;
        }
        let attachments = attachments.clone();
        if let Err(error) =
            blocking(&self.world, move |world| world.plane.close(&attachments)).await
        {
            tracing::warn!(container = %self.record.id, %error, "close published ports");
        }
    }

    /// The rest, off the critical path: namespace, leases, mounted volumes, the shim's folder.
    fn tear_down(&mut self, attachments: Arc<Vec<Attachment>>) {
        let own_network = self.record.network_mode().is_private();
        let world = self.world.clone();
        let record = self.record.clone();
        self.teardown = Some(tokio::spawn(async move {
            let done = blocking(&world, move |world| {
                let id = &record.id;
                world.options.failpoints.pass("exit.network")?;
                let taken = if own_network {
                    world.plane.take_down(id)
                } else {
                    Ok(())
                };
                let forgotten = if attachments.is_empty() {
                    Ok(())
                } else {
                    world.plane.forget(id)
                };
                let released = world.volumes.release(record.volumes(), id);
                let removed = world.launcher.remove_dir(id);
                taken.and(forgotten).and(released).and(removed)
            })
            .await;
            if let Err(error) = done {
                tracing::warn!(%error, "take down after an exit");
            }
        }));
    }

    /// Kills it for its removal and waits until its end is recorded, whatever else comes from the shim meanwhile.
    pub(super) async fn kill_and_wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + KILL_WAIT;
        // Who waits for it to come back waits in vain; started again it would outlive this kill.
        for reply in self
            .stopping
            .iter_mut()
            .flat_map(|one| one.restart.drain(..))
        {
            let _ = reply.send(Err(Error::conflict(
                "container is marked for removal and cannot be started",
            )));
        }
        self.signal_all(rustix::process::Signal::KILL.as_raw())
            .await;
        if matches!(self.state.phase, Phase::Paused(_))
            && let Some(shim) = &self.shim
        {
            let _ = shim.client.command(Do::Resume {}).await;
        }
        self.emit("kill", &[("signal", "9".to_owned())]);
        while self.state.phase.live().is_some() {
            let event = tokio::time::timeout_at(deadline, super::next_event(&mut self.shim)).await;
            match event {
                Ok(ShimEvent::Said(Event::Exited(exit))) => Box::pin(self.on_exit(exit)).await,
                Ok(ShimEvent::Gone) => Box::pin(self.on_shim_gone()).await,
                Ok(ShimEvent::Said(Event::ExecExited { exec, code })) => {
                    self.world.execs.ended(&exec, code)
                }
                Ok(ShimEvent::Said(Event::Oom {})) => self.on_oom(),
                Err(_) => {
                    return Err(Error::internal(format!(
                        "tried to kill container, but did not receive an exit event (container {})",
                        self.record.id
                    )));
                }
            }
        }
        Ok(())
    }
}

fn run_time(started_at: &str, finished_at: &str) -> Duration {
    let parse = |time: &str| time.parse::<jiff::Timestamp>().ok();
    match (parse(started_at), parse(finished_at)) {
        (Some(start), Some(end)) => {
            Duration::try_from(end.duration_since(start)).unwrap_or_default()
        }
        _ => Duration::ZERO,
    }
}
