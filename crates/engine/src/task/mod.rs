//! The task that owns one container's phase.
//!
//! Requests and the shim's events arrive in bounded queues; `admit` decides; one sequence runs at a time; what came of it
//! is published as a [`View`] that everyone else reads. There is no lock on a container.

mod change;
mod checkpoint;
mod end;
mod failure;
mod join;
mod links;
mod live;
mod net;
mod prepare;
mod propagation;
mod remove;
mod start;

pub(crate) use propagation::unescape;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hull_api::host::RestartPolicy;
use hull_api::inspect::Health;
use hull_api::network::EndpointSettings;
use hull_shim::protocol::{Do, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admit::{Admitted, Request, admit};
use crate::containers::RemoveOptions;
use crate::error::{Error, Kind, Result};
use crate::health::Monitor;
use crate::networks::plane::Attachment;
use crate::phase::{ExitInfo, State};
use crate::record::ContainerRecord;
use crate::shim::{Delivered, Pending, ShimClient, ShimEvent};
use crate::world::{Handle, World};

pub(crate) use change::name_taken;
pub(crate) use failure::exec_failure;
pub(crate) use links::environment as link_environment;
pub(crate) use prepare::{
    cgroups_path, exec_inputs_user, image_view_key, start_dns as restart_dns, without_dns,
};

/// Requests that wait for a container's task.
const QUEUE_MAX: usize = 128;
/// Attaches that wait for a container's start.
const PENDING_MAX: usize = 256;
/// How long a killed process may take to be reaped before the caller is told.
const KILL_WAIT: Duration = Duration::from_secs(10);

type Reply<T> = oneshot::Sender<Result<T>>;

/// What can be asked of a container's task.
#[derive(Debug)]
pub(crate) enum Message {
    Start {
        /// Go on from the images in this directory.
        checkpoint: Option<PathBuf>,
        reply: Reply<()>,
    },
    Checkpoint {
        /// An empty directory.
        images: PathBuf,
        /// The container ends.
        exit: bool,
        reply: Reply<()>,
    },
    Stop {
        signal: Option<i32>,
        timeout_s: Option<i64>,
        reply: Reply<()>,
    },
    Restart {
        signal: Option<i32>,
        timeout_s: Option<i64>,
        reply: Reply<()>,
    },
    Kill {
        signal: i32,
        reply: Reply<()>,
    },
    Pause(Reply<()>),
    Unpause(Reply<()>),
    Rename {
        name: String,
        reply: Reply<()>,
    },
    RemoveLink {
        alias: String,
        reply: Reply<()>,
    },
    Remove {
        options: RemoveOptions,
        reply: Reply<()>,
    },
    Update {
        update: Box<hull_api::container::UpdateConfig>,
        reply: Reply<()>,
    },
    Attach {
        pending: Pending,
        reply: Reply<()>,
    },
    Connect {
        network: String,
        settings: Box<EndpointSettings>,
        reply: Reply<()>,
    },
    Disconnect {
        network: String,
        force: bool,
        reply: Reply<()>,
    },
    /// The monitor has a new opinion of the container's health.
    Health(Health),
    /// The daemon ends, and its containers with it.
    ShutDown(Reply<()>),
    /// The daemon ends, and its containers run on: the task leaves everything as it is.
    Leave(Reply<()>),
}

/// What everyone may see of a container.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) record: Arc<ContainerRecord>,
    pub(crate) state: State,
    /// Its ends on networks, while it runs.
    pub(crate) attachments: Arc<Vec<Attachment>>,
    /// Its shim, while it runs.
    pub(crate) shim: Option<ShimClient>,
    pub(crate) health: Option<Health>,
    /// How often it has ended since this daemon knows it.
    pub(crate) exits: u64,
    /// It is gone, and this is the last view.
    pub(crate) removed: bool,
}

/// A stop under way.
struct Stopping {
    /// When it is killed; none: never.
    kill_at: Option<Instant>,
    waiting: Vec<Reply<()>>,
    /// Started again afterwards, for these.
    restart: Vec<Reply<()>>,
    /// It was asked for, so an event `stop` follows.
    by_user: bool,
}

struct Shim {
    client: ShimClient,
    events: mpsc::Receiver<ShimEvent>,
}

/// The restart policy's memory, as moby's `restartmanager`.
#[derive(Debug, Default)]
struct BackOff {
    pause: Duration,
}

pub(crate) struct Task {
    world: Arc<World>,
    record: Arc<ContainerRecord>,
    state: State,
    attachments: Arc<Vec<Attachment>>,
    shim: Option<Shim>,
    health: Option<Health>,
    monitor: Option<Monitor>,
    exits: u64,
    removed: bool,
    /// The daemon is ending.
    left: bool,
    queue: mpsc::Receiver<Message>,
    own_queue: mpsc::WeakSender<Message>,
    view: watch::Sender<Arc<View>>,
    pending: Vec<Pending>,
    /// Clients that get this run's output.
    attached: Vec<Delivered>,
    stopping: Option<Stopping>,
    /// SIGKILL was sent, and these wait for the end.
    killed: Vec<Reply<()>>,
    back_off: BackOff,
    restart_at: Option<Instant>,
    /// Where init failed in the start under way.
    init_failure: Option<hull_shim::protocol::InitFailure>,
    /// What goes on after an exit, off the critical path: the next start waits for it.
    teardown: Option<JoinHandle<()>>,
    /// The shim of a container that has ended: it removes cgroup and runtime state after it has said so.
    leaving: Option<ShimClient>,
}

/// Starts the task of a container that is in the database, and registers it.
pub(crate) fn spawn(world: &Arc<World>, record: ContainerRecord, state: State) -> Handle {
    let (handle, task) = register(world, record, state, None);
    task.go();
    handle
}

/// Registers a container that is in the database. Its task does nothing until [`Task::go`]: what happens to the container
/// meanwhile waits.
pub(crate) fn register(
    world: &Arc<World>,
    record: ContainerRecord,
    state: State,
    adopted: Option<Adopted>,
) -> (Handle, Task) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let (attachments, shim) = match adopted {
        Some(Adopted {
            attachments,
            client,
            events,
        }) => (attachments, Some(Shim { client, events })),
        None => (Vec::new(), None),
    };
    let record = Arc::new(record);
    let attachments = Arc::new(attachments);
    let first = View {
        record: record.clone(),
        state: state.clone(),
        attachments: attachments.clone(),
        shim: shim.as_ref().map(|shim| shim.client.clone()),
        health: None,
        exits: 0,
        removed: false,
    };
    let (view, receiver) = watch::channel(Arc::new(first));
    let handle = Handle {
        id: record.id.clone(),
        queue: sender.clone(),
        view: receiver,
    };
    world.registry.insert(handle.clone(), &record.name);
    let task = Task {
        world: world.clone(),
        record,
        state,
        attachments,
        shim,
        health: None,
        monitor: None,
        exits: 0,
        removed: false,
        left: false,
        queue,
        own_queue: sender.downgrade(),
        view,
        pending: Vec::new(),
        attached: Vec::new(),
        stopping: None,
        killed: Vec::new(),
        back_off: BackOff::default(),
        restart_at: None,
        init_failure: None,
        teardown: None,
        leaving: None,
    };
    (handle, task)
}

/// What restore found of a container that runs.
pub(crate) struct Adopted {
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) client: ShimClient,
    pub(crate) events: mpsc::Receiver<ShimEvent>,
}

async fn next_event(shim: &mut Option<Shim>) -> ShimEvent {
    match shim {
        Some(shim) => shim.events.recv().await.unwrap_or(ShimEvent::Gone),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Task {
    /// Begins to answer requests and the shim.
    pub(crate) fn go(mut self) {
        tokio::spawn(async move {
            self.watch_health();
            self.run().await;
        });
    }

    async fn run(&mut self) {
        while !self.removed && !self.left {
            let kill_at = self.stopping.as_ref().and_then(|stopping| stopping.kill_at);
            let deadline = [kill_at, self.restart_at].into_iter().flatten().min();
            tokio::select! {
                event = next_event(&mut self.shim) => self.on_shim(event).await,
                message = self.queue.recv() => match message {
                    Some(message) => self.on_message(message).await,
                    None => return,
                },
                () = sleep_until(deadline) => self.on_deadline().await,
            }
        }
    }

    async fn on_deadline(&mut self) {
        let now = Instant::now();
        if let Some(stopping) = &mut self.stopping
            && stopping.kill_at.is_some_and(|at| at <= now)
        {
            stopping.kill_at = None;
            self.signal_all(rustix::process::Signal::KILL.as_raw())
                .await;
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.state.restart_count += 1;
            if let Err(error) = self.start(None).await {
                tracing::warn!(container = %self.record.id, %error, "restart by policy");
                // It counted as running while it waited for this start.
                self.exits += 1;
                self.publish();
            }
        }
    }

    async fn on_shim(&mut self, event: ShimEvent) {
        match event {
            ShimEvent::Said(Event::Exited(exit)) => self.on_exit(exit).await,
            ShimEvent::Said(Event::ExecExited { exec, code }) => {
                self.world.execs.ended(&exec, code);
            }
            ShimEvent::Said(Event::Oom {}) => self.on_oom(),
            ShimEvent::Gone => self.on_shim_gone().await,
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Start { checkpoint, reply } => {
                let done = self.start_by_user(checkpoint).await;
                let _ = reply.send(done);
            }
            Message::Checkpoint {
                images,
                exit,
                reply,
            } => self.checkpoint(images, exit, reply).await,
            Message::Stop {
                signal,
                timeout_s,
                reply,
            } => self.stop(signal, timeout_s, reply).await,
            Message::Restart {
                signal,
                timeout_s,
                reply,
            } => self.restart(signal, timeout_s, reply).await,
            Message::Kill { signal, reply } => self.kill(signal, reply).await,
            Message::Pause(reply) => {
                let done = self.pause().await;
                let _ = reply.send(done);
            }
            Message::Unpause(reply) => {
                let done = self.unpause().await;
                let _ = reply.send(done);
            }
            Message::Rename { name, reply } => {
                let done = self.rename(&name).await;
                let _ = reply.send(done);
            }
            Message::RemoveLink { alias, reply } => {
                let done = self.remove_link(&alias).await;
                let _ = reply.send(done);
            }
            Message::Remove { options, reply } => {
                let done = self.remove(options).await;
                let _ = reply.send(done);
            }
            Message::Update { update, reply } => {
                let done = self.update(*update).await;
                let _ = reply.send(done);
            }
            Message::Attach { pending, reply } => {
                let done = self.attach(pending).await;
                let _ = reply.send(done);
            }
            Message::Connect {
                network,
                settings,
                reply,
            } => {
                let done = self.connect(&network, *settings).await;
                let _ = reply.send(done);
            }
            Message::Disconnect {
                network,
                force,
                reply,
            } => {
                let done = self.disconnect(&network, force).await;
                let _ = reply.send(done);
            }
            Message::Health(health) => self.on_health(health),
            Message::ShutDown(reply) => self.shut_down(reply).await,
            Message::Leave(reply) => {
                self.settle().await;
                self.left = true;
                let _ = reply.send(Ok(()));
            }
        }
    }

    /// Asks the table; a refusal becomes Docker's sentence.
    fn admit(&self, request: Request) -> Result<Admitted> {
        admit(&self.state.phase, request).map_err(|refusal| {
            refusal.error(
                request,
                &self.record.id,
                &self.record.name,
                self.state.phase.status(),
            )
        })
    }

    /// Tells everyone what is so now.
    pub(crate) fn publish(&self) {
        let view = View {
            record: self.record.clone(),
            state: self.state.clone(),
            attachments: self.attachments.clone(),
            shim: self.shim.as_ref().map(|shim| shim.client.clone()),
            health: self.health.clone(),
            exits: self.exits,
            removed: self.removed,
        };
        self.view.send_replace(Arc::new(view));
    }

    /// An event of this container, with its labels, name and image, and what else belongs to it.
    fn emit(&self, action: &str, more: &[(&str, String)]) {
        let mut attributes = self.record.event_attributes();
        attributes.extend(
            more.iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        self.world
            .events
            .publish("container", action, &self.record.id, attributes);
    }

    fn encoded_state(&self, state: &State) -> Result<String> {
        serde_json::to_string(state)
            .map_err(|cause| Error::failed("encode the container's state", cause))
    }

    /// Writes the state as it is in memory.
    fn save_state(&self) -> Result<()> {
        let encoded = self.encoded_state(&self.state)?;
        Ok(self
            .world
            .db
            .write(|tx| hull_state::containers::set_phase(tx, &self.record.id, &encoded))?)
    }

    /// Writes a changed record, then takes it over.
    fn save_record(&mut self, record: ContainerRecord) -> Result<()> {
        let encoded = record.encode()?;
        self.world
            .db
            .write(|tx| hull_state::containers::set_record(tx, &record.id, &encoded))?;
        self.record = Arc::new(record);
        Ok(())
    }

    async fn signal_all(&self, signal: i32) {
        if let Some(shim) = &self.shim {
            let action = Do::Signal {
                exec: None,
                signal,
                all: false,
            };
            if let Err(error) = shim.client.command(action).await {
                tracing::warn!(container = %self.record.id, signal, %error, "signal");
            }
        }
    }

    /// Waits for what an exit left to be taken down.
    async fn settle(&mut self) {
        if let Some(teardown) = self.teardown.take() {
            let _ = teardown.await;
        }
    }
}

/// What the health module needs of a task.
impl Task {
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(crate) fn record(&self) -> &Arc<ContainerRecord> {
        &self.record
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state.phase.live().is_some()
    }

    pub(crate) fn queue_weak(&self) -> mpsc::WeakSender<Message> {
        self.own_queue.clone()
    }

    pub(crate) fn set_monitor(&mut self, monitor: Monitor, health: Health) {
        self.monitor = Some(monitor);
        self.health = Some(health);
        self.publish();
    }

    pub(crate) fn health_status(&self) -> &str {
        self.health.as_ref().map_or("none", |health| &health.status)
    }

    pub(crate) fn set_health(&mut self, health: Health) {
        self.health = Some(health);
        self.publish();
    }

    pub(crate) fn emit_health(&self, status: &str) {
        self.emit(&format!("health_status: {status}"), &[]);
    }
}

impl BackOff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);
    const STEADY: Duration = Duration::from_secs(10);

    /// How long to wait before the next start after a run of `ran`.
    fn next(&mut self, ran: Duration) -> Duration {
        self.pause = match self.pause {
            pause if pause.is_zero() || ran >= Self::STEADY => Self::FIRST,
            pause => (pause * 2).min(Self::LONGEST),
        };
        self.pause
    }
}

/// Whether the policy wants another start. `restarts`: how many there were since the last start by a user.
pub(crate) fn wants_restart(
    policy: &RestartPolicy,
    code: i32,
    stopped_by_user: bool,
    restarts: u32,
) -> bool {
    if stopped_by_user {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = u32::try_from(policy.maximum_retry_count).unwrap_or(0);
            code != 0 && (most == 0 || restarts < most)
        }
        _ => false,
    }
}

fn not_modified() -> Error {
    Error::new(Kind::NotModified, "")
}

/// How the last run ended, or nothing at all.
fn exit_of(state: &State) -> ExitInfo {
    state.exit().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_and_resets() {
        let mut back_off = BackOff::default();
        let mut pauses: Vec<u128> = (0..12)
            .map(|_| back_off.next(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses.pop(), Some(60_000));
        assert_eq!(back_off.next(Duration::from_secs(11)).as_millis(), 100);
    }

    #[test]
    fn policies() {
        let policy = |name: &str, most| RestartPolicy {
            name: name.into(),
            maximum_retry_count: most,
        };
        assert!(!wants_restart(&policy("", 0), 1, false, 0));
        assert!(!wants_restart(&policy("no", 0), 1, false, 0));
        assert!(wants_restart(&policy("always", 0), 0, false, 99));
        assert!(!wants_restart(&policy("always", 0), 0, true, 0));
        assert!(wants_restart(&policy("unless-stopped", 0), 0, false, 0));
        assert!(wants_restart(&policy("on-failure", 2), 1, false, 1));
        assert!(!wants_restart(&policy("on-failure", 2), 1, false, 2));
        assert!(!wants_restart(&policy("on-failure", 0), 0, false, 0));
    }
}
