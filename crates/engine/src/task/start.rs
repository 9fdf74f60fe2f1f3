//! The start sequence: lease, write, build, launch and connect side by side, create, start. Each acquiring step leaves its
//! undo; see `undo`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hull_shim::protocol::{Attach, Do, Done};
use hull_state::containers as rows;
use tokio::sync::oneshot::error::TryRecvError;

use super::failure::{start_code, start_failure};
use super::prepare::{self, Bundle};
use super::{Shim, Task, exit_of, join, not_modified};
use crate::admit::{Admitted, Request};
use crate::error::{Error, Result};
use crate::networks::plane::Attachment;
use crate::phase::{ExitInfo, Live, Phase, State};
use crate::shim::{CallError, ShimClient, connect_attach};
use crate::undo::Undo;
use crate::world::blocking;

/// What a finished sequence has made.
struct Started {
    attachments: Vec<Attachment>,
    shim: Shim,
    live: Live,
}

/// The network of a container that is being started.
enum Network {
    /// It is there, or it is somebody else's.
    Up(Vec<Attachment>),
    /// Init is to make the namespace; with the servers for its names.
    Awaited(Vec<Attachment>, Vec<IpAddr>),
}

/// How long a shim may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// Makes a shim give its container up, started or not, and waits until it has left: then its cgroup and records are gone.
async fn give_up(client: &ShimClient) {
    if client.command(Do::Discard {}).await.is_err() {
        let signal = rustix::process::Signal::KILL.as_raw();
        let kill = Do::Signal {
            exec: None,
            signal,
            all: true,
        };
        // A shim that is gone has nothing left to give up.
        let _ = client.command(kill).await;
    }
    let left = async {
        while client.call(Do::State {}).await != Err(CallError::Gone) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(LEAVE_MAX, left).await;
}

impl Task {
    /// `POST /containers/{id}/start`.
    pub(super) async fn start_by_user(&mut self, checkpoint: Option<PathBuf>) -> Result<()> {
        match self.admit(Request::Start)? {
            Admitted::Already => return Err(not_modified()),
            Admitted::Do | Admitted::Join | Admitted::DoAndThaw | Admitted::RecordOnly => {}
        }
        self.restart_at = None;
        self.state.restart_count = 0;
        self.state.stopped_by_user = false;
        self.back_off = super::BackOff::default();
        self.start(checkpoint).await
    }

    /// Starts it, whoever asks. On failure the container is as before, with the error and its exit code recorded; that is no exit:
    /// who waits for the next one goes on waiting, as in Docker.
    pub(super) async fn start(&mut self, checkpoint: Option<PathBuf>) -> Result<()> {
        self.settle().await;
        if let Some(shim) = self.leaving.take() {
            // Its one thread answers when the cgroup and the record of this name are gone, or it is gone itself.
            let _ = tokio::time::timeout(LEAVE_MAX, shim.call(Do::State {})).await;
        }
        self.init_failure = None;
        let mut undo = Undo::new();
        match self.sequence(&mut undo, checkpoint).await {
            Ok(started) => {
                undo.disarm();
                self.now_running(started);
                Ok(())
            }
            Err(error) => {
                let error = undo.unwind(error).await;
                Err(self.not_started(error).await)
            }
        }
    }

    async fn sequence(&mut self, undo: &mut Undo, checkpoint: Option<PathBuf>) -> Result<Started> {
        let world = self.world.clone();
        let id = self.record.id.clone();
        world.options.failpoints.pass("start.begin")?;
        let joined = join::joined_namespaces(&world, &self.record)?;
        let mut attachments = self.lease(undo).await?;
        world.options.failpoints.pass("start.leased")?;

        let (record, for_bundle) = (self.record.clone(), attachments.clone());
        {
            let (world, record) = (world.clone(), record.clone());
            undo.push("the bundle", async move {
                blocking(&world, move |world| {
                    let removed = world.launcher.remove_dir(&record.id);
                    world
                        .volumes
                        .release(record.volumes(), &record.id)
                        .and(removed)
                })
                .await
            });
        }
        let Bundle { upstreams } = blocking(&world, move |world| {
            prepare::bundle(world, &record, &for_bundle, joined)
        })
        .await?;
        world.options.failpoints.pass("start.bundle")?;

        // The network is put up while the shim's program is loaded and does what needs no network: cgroups, filter, mounts.
        let own_network = self.record.network_mode().is_private();
        let (events_in, events) = tokio::sync::mpsc::channel(64);
        // A network namespace belongs to the user namespace that it was made in, and only there does a capability count in it: one for a
        // remapped container is made by its init.
        let made_by_init = own_network && !self.record.id_mappings.is_empty();
        let upstreams_for_init = upstreams.clone();
        let putting_up = async {
            if !own_network {
                return Ok(Vec::new());
            }
            if made_by_init {
                return Ok(std::mem::take(&mut attachments));
            }
            let id = id.clone();
            let leased = std::mem::take(&mut attachments);
            blocking(&world, move |world| {
                let mut attachments = leased;
                world
                    .plane
                    .put_up(&id, &mut attachments, &upstreams, None)?;
                Ok(attachments)
            })
            .await
        };
        if own_network {
            let (world, id) = (world.clone(), id.clone());
            undo.push("the network namespace", async move {
                blocking(&world, move |world| world.plane.take_down(&id)).await
            });
        }
        let client = world.launcher.spawn(&id, events_in)?;
        {
            let client = client.clone();
            undo.push("the shim", async move {
                give_up(&client).await;
                Ok(())
            });
        }
        // Where criu makes the container there is nothing to prepare.
        let first = match checkpoint {
            None => Do::Prepare {},
            Some(_) => Do::State {},
        };
        let (connected, answered) = tokio::join!(putting_up, client.call(first));
        let attachments = connected?;
        world.options.failpoints.pass("start.connected")?;
        answered.map_err(|error| self.refused(&error))?;
        world.options.failpoints.pass("start.spawned")?;

        let network = match made_by_init {
            false => Network::Up(attachments),
            true => Network::Awaited(attachments, upstreams_for_init),
        };
        let (pid, started_at, attachments) = match (checkpoint, network) {
            (None, network) => self.run_program(&client, network).await?,
            (Some(images), Network::Up(attachments)) => {
                let (pid, started_at) = self.go_on_from(&client, images).await?;
                (pid, started_at, attachments)
            }
            (Some(_), Network::Awaited(..)) => {
                return Err(Error::missing(
                    "a start from a checkpoint in a user namespace of its own",
                ));
            }
        };
        world.options.failpoints.pass("start.started")?;
        let live = Live {
            pid,
            started_at,
            cgroup: String::new(),
            oom_killed: false,
        };
        let state = State {
            phase: Phase::Running(live.clone()),
            ..self.state.clone()
        };
        let encoded = self.encoded_state(&state)?;
        world.db.try_write(|tx| {
            crate::networks::plane::record_connected(tx, &attachments)?;
            Ok::<_, Error>(rows::set_phase(tx, &id, &encoded)?)
        })?;
        world.options.failpoints.pass("start.running")?;
        Ok(Started {
            attachments,
            shim: Shim { client, events },
            live,
        })
    }

    /// Makes the container and runs its program: init's pid, when, and what it is connected to.
    async fn run_program(
        &mut self,
        client: &ShimClient,
        network: Network,
    ) -> Result<(i32, String, Vec<Attachment>)> {
        let pid = match client.call(Do::Create {}).await {
            Ok(Done::Created { pid }) => pid,
            Ok(_) => return Err(self.refused(&CallError::Unexpected)),
            Err(error) => return Err(self.refused(&error)),
        };
        self.world.options.failpoints.pass("start.created")?;
        let attachments = match network {
            Network::Up(attachments) => attachments,
            Network::Awaited(mut attachments, upstreams) => {
                let id = self.record.id.clone();
                blocking(&self.world, move |world| {
                    world
                        .plane
                        .put_up(&id, &mut attachments, &upstreams, Some(pid))?;
                    Ok(attachments)
                })
                .await?
            }
        };
        self.connect_pending().await;
        match client.call(Do::Start {}).await {
            Ok(Done::Started { started_at }) => Ok((pid, started_at, attachments)),
            Ok(_) => Err(self.refused(&CallError::Unexpected)),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// What the shim refused, in Docker's words; the exit code is decided by init's own report.
    pub(super) fn refused(&mut self, error: &CallError) -> Error {
        if let CallError::Refused(failure) = error {
            self.init_failure.clone_from(&failure.init);
        }
        start_failure(
            error,
            &self.record,
            &self.world.launcher.last_words(&self.record.id),
        )
    }

    /// Addresses and ports, and the phase `Starting`, in one transaction.
    async fn lease(&mut self, undo: &mut Undo) -> Result<Vec<Attachment>> {
        let record = self.record.clone();
        let starting = self.encoded_state(&State {
            phase: Phase::Starting,
            ..self.state.clone()
        })?;
        let attachments = blocking(&self.world, move |world| {
            prepare::lease(world, &record, &starting)
        })
        .await?;
        let (world, id, leased) = (
            self.world.clone(),
            self.record.id.clone(),
            attachments.clone(),
        );
        undo.push("the leased addresses and ports", async move {
            blocking(&world, move |world| {
                let closed = world.plane.close(&leased);
                world.plane.forget(&id)?;
                closed
            })
            .await
        });
        Ok(attachments)
    }

    /// Connects those who attached before the start.
    pub(super) async fn connect_pending(&mut self) {
        self.attached.clear();
        if self.pending.is_empty() {
            return;
        }
        let socket = match self.world.launcher.socket(&self.record.id) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(container = %self.record.id, %error, "attach");
                return self.pending.clear();
            }
        };
        for pending in std::mem::take(&mut self.pending) {
            if pending.is_abandoned() {
                continue;
            }
            match connect_attach(socket.path(), pending.attach.clone()).await {
                Ok(stream) => self.attached.push(pending.resolve(stream)),
                Err(error) => tracing::warn!(container = %self.record.id, %error, "attach"),
            }
        }
    }

    fn now_running(&mut self, started: Started) {
        for attachment in &started.attachments {
            self.emit_network("connect", attachment);
        }
        self.state.last_exit = self.state.exit().cloned();
        self.state.phase = Phase::Running(started.live);
        self.attachments = Arc::new(started.attachments);
        self.shim = Some(started.shim);
        if !self.record.started_before {
            let mut record = (*self.record).clone();
            record.started_before = true;
            self.record = Arc::new(record);
        }
        self.watch_health();
        self.publish();
        self.emit("start", &[]);
    }

    /// Records why it did not start; auto-removes.
    async fn not_started(&mut self, error: Error) -> Error {
        let code = start_code(self.init_failure.take().as_ref());
        let before = exit_of(&self.state);
        let exit = ExitInfo {
            code,
            error: error.message.clone(),
            oom_killed: false,
            ..before
        };
        match self.state.phase {
            Phase::Created => self.state.last_exit = Some(exit),
            Phase::Starting
            | Phase::Running(_)
            | Phase::Paused(_)
            | Phase::Stopping(_)
            | Phase::Restarting(_)
            | Phase::Exited(_)
            | Phase::Removing
            | Phase::Dead(_) => self.state.phase = Phase::Exited(exit),
        }
        if let Err(save) = self.save_state() {
            tracing::error!(container = %self.record.id, error = %save, "record a failed start");
        }
        // Those who wait for output learn that none will come.
        self.pending.clear();
        self.publish();
        if self.record.host.auto_remove {
            let options = crate::containers::RemoveOptions {
                volumes: true,
                link: false,
                force: true,
            };
            if let Err(remove) = self.remove(options).await {
                tracing::error!(container = %self.record.id, error = %remove, "remove after a failed start");
            }
        }
        error
    }

    /// An attach from a client: at once when it runs, else when it starts.
    pub(super) async fn attach(&mut self, pending: crate::shim::Pending) -> Result<()> {
        self.admit(Request::Attach)?;
        if self.shim.is_some() {
            let socket = self.world.launcher.socket(&self.record.id)?;
            let attach: Attach = pending.attach.clone();
            let delivered = pending.resolve(connect_attach(socket.path(), attach).await?);
            self.attached
                .retain_mut(|other| matches!(other.try_recv(), Err(TryRecvError::Empty)));
            self.attached.push(delivered);
            return Ok(());
        }
        self.pending.retain(|waiting| !waiting.is_abandoned());
        if self.pending.len() >= super::PENDING_MAX {
            return Err(Error::conflict(format!(
                "too many clients are attached to container {}",
                self.record.id
            )));
        }
        self.pending.push(pending);
        Ok(())
    }
}
