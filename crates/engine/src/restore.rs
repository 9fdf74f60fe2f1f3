//! Taking over after an earlier daemon: containers that run are adopted through their shims' sockets, those that ended get
//! their exit codes from the shims' records, half-made things are buried.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hull_shim::protocol::{Do, Done, Event, Status};
use hull_state::{Db, containers as rows, leases, networks as network_rows};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::error::{Error, Result, failed};
use crate::networks::plane::{Attachment, NetworkRecord};
use crate::phase::{ExitInfo, Live, Phase, State};
use crate::record::ContainerRecord;
use crate::shim::{ShimClient, ShimEvent};
use crate::task::{self, Adopted, Message};
use crate::world::{World, blocking};

/// How long a shim may take to say how it is.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Whether a process belongs to a container: by its cgroup, since a number may have been given to another meanwhile.
fn is_ours(pid: i32, container: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|text| text.contains(container))
}

/// Ends a container whose shim died: nobody holds its output any more, nor would anybody remove its cgroup and the runtime's
/// record, which would stand in the way of the next start. Its first process takes its pid namespace along.
pub(crate) fn end_without_shim(world: &World, pid: i32, container: &str) -> Result<()> {
    if let Some(pid) = rustix::process::Pid::from_raw(pid)
        && let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        && is_ours(pid.as_raw_nonzero().get(), container)
    {
        // It may have ended meanwhile.
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    }
    let state_root = world.options.exec_root.join("runtime");
    match hull_runtime::delete(&state_root, container, true) {
        Ok(()) | Err(hull_runtime::Error::NotFound(_)) => Ok(()),
        Err(error) => Err(Error::failed("remove what the dead shim left", error)),
    }
}

/// Restores everything; containers whose policy says so are started again, without waiting for them.
pub(crate) async fn restore(world: &Arc<World>) -> Result<()> {
    let all = world.db.read(rows::list)?;
    let mut restart = Vec::new();
    // They begin when all is swept: what one makes for a restart, or takes down after an end, is no leftover.
    let mut tasks = Vec::new();
    let mut kept_attachments = Vec::new();
    let mut unlisted = Vec::new();
    // Rows of a newer Hull, say: what belongs to them is not ours to bury, and whoever can read them finds it as it was.
    let mut unreadable = BTreeSet::new();
    let attachments = blocking(world, |world| world.plane.attachments()).await?;
    for row in all {
        let record = match ContainerRecord::decode(&row.record, &row.id, &row.name) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(container = %row.id, %error, "a container cannot be read; it is left as it is");
                unreadable.insert(row.id);
                continue;
            }
        };
        let state: State = match serde_json::from_str(&row.phase) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(container = %row.id, %error, "a container's state cannot be read; it is left as it is");
                unreadable.insert(row.id);
                continue;
            }
        };
        let own: Vec<Attachment> = attachments
            .iter()
            .filter(|one| one.endpoint.container_id == row.id)
            .cloned()
            .collect();
        let found = find(world, &record, state).await;
        match found {
            Found::Runs {
                state,
                client,
                events,
            } => {
                let (own, others): (Vec<_>, Vec<_>) = own
                    .into_iter()
                    .partition(|one| record.lists(&one.network.network));
                unlisted.extend(others);
                kept_attachments.extend(own.clone());
                save(&world.db, &row.id, &state)?;
                let adopted = Adopted {
                    attachments: own,
                    client,
                    events,
                };
                let (_, task) = task::register(world, record, state, Some(adopted));
                tasks.push(task);
            }
            Found::Over(state) => {
                save(&world.db, &row.id, &state)?;
                let again = wants_start(&record, &state);
                let gone = record.host.auto_remove && matches!(state.phase, Phase::Exited(_));
                let (handle, task) = task::register(world, record, state, None);
                tasks.push(task);
                restart.push((handle, again, gone));
            }
        }
    }
    kept_attachments.extend(
        attachments
            .into_iter()
            .filter(|one| unreadable.contains(&one.endpoint.container_id)),
    );
    blocking(world, move |world| {
        for attachment in &unlisted {
            if let Err(error) = drop_unlisted(world, attachment) {
                tracing::error!(container = %attachment.endpoint.container_id, %error, "take a container out of a network");
            }
        }
        network(world, &kept_attachments, &unreadable)?;
        sweep(world, &unreadable)
    })
    .await?;
    for task in tasks {
        task.go();
    }
    // Plugins may take their time, and may be among what is started.
    let of = world.clone();
    tokio::spawn(async move { of.volumes.unmount_left().await });
    for (handle, again, gone) in restart {
        let (reply, _) = oneshot::channel();
        if gone {
            let options = crate::containers::RemoveOptions {
                volumes: true,
                link: false,
                force: true,
            };
            let _ = handle.queue.send(Message::Remove { options, reply }).await;
        } else if again {
            let _ = handle
                .queue
                .send(Message::Start {
                    checkpoint: None,
                    reply,
                })
                .await;
        }
    }
    Ok(())
}

fn save(db: &Db, id: &str, state: &State) -> Result<()> {
    let text = serde_json::to_string(state).map_err(failed("encode a container's state"))?;
    Ok(db.write(|tx| rows::set_phase(tx, id, &text))?)
}

/// `always`, and what nobody stopped on purpose.
fn wants_start(record: &ContainerRecord, state: &State) -> bool {
    let Phase::Exited(exit) = &state.phase else {
        return false;
    };
    match record.host.restart_policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !state.stopped_by_user,
        "on-failure" => task::wants_restart(
            &record.host.restart_policy,
            exit.code,
            state.stopped_by_user,
            state.restart_count,
        ),
        _ => false,
    }
}

enum Found {
    Runs {
        state: State,
        client: ShimClient,
        events: mpsc::Receiver<ShimEvent>,
    },
    Over(State),
}

/// How a container is, whatever its row says.
async fn find(world: &Arc<World>, record: &ContainerRecord, state: State) -> Found {
    let id = &record.id;
    let over = |state: State, exit: ExitInfo| {
        Found::Over(State {
            phase: Phase::Exited(exit),
            last_exit: None,
            ..state
        })
    };
    let before = match &state.phase {
        Phase::Created | Phase::Exited(_) | Phase::Dead(_) => return Found::Over(state),
        // A remove that did not come to its end is done again by the user; the container is whole until its row goes.
        Phase::Removing => {
            let exit = state.exit().cloned().unwrap_or_default();
            return over(state, exit);
        }
        Phase::Restarting(exit) => {
            let exit = exit.clone();
            return over(state, exit);
        }
        Phase::Starting => None,
        Phase::Running(live) | Phase::Paused(live) | Phase::Stopping(live) => Some(live.clone()),
    };
    if let Some((client, events, shim)) = reconnect(world, id).await {
        match (shim.status, shim.pid) {
            (Status::Running | Status::Paused, Some(pid)) => {
                let started_at = shim.started_at.unwrap_or_else(clock::now);
                let live = Live {
                    pid,
                    started_at,
                    cgroup: String::new(),
                    oom_killed: shim.oom_killed,
                };
                let phase = if shim.status == Status::Paused {
                    Phase::Paused(live)
                } else {
                    Phase::Running(live)
                };
                return Found::Runs {
                    state: State { phase, ..state },
                    client,
                    events,
                };
            }
            (Status::New | Status::Created, _) => {
                let _ = client.command(Do::Discard {}).await;
            }
            (Status::Exited | Status::Running | Status::Paused, _) => wait_for_end(events).await,
        }
    }
    let started_at = before
        .as_ref()
        .map(|live| live.started_at.clone())
        .unwrap_or_default();
    match (world.launcher.exit_record(id), before) {
        (Some(exit), _) => over(
            state,
            ExitInfo {
                code: exit.code,
                oom_killed: exit.oom_killed,
                error: String::new(),
                started_at,
                finished_at: exit.finished_at,
            },
        ),
        (None, Some(live)) => {
            // Its shim is gone without a record (the host was restarted, or the shim was killed): what is left of it goes too.
            let (pid, of) = (live.pid, id.clone());
            if let Err(error) =
                blocking(world, move |world| end_without_shim(world, pid, &of)).await
            {
                tracing::warn!(container = %id, %error, "after the shim's death");
            }
            over(
                state,
                ExitInfo {
                    code: 255,
                    finished_at: clock::now(),
                    started_at,
                    ..ExitInfo::default()
                },
            )
        }
        (None, None) => {
            // A shim that died with its daemon may have prepared cgroups and a record, which the next start would find in its way.
            const NO_PROCESS_YET: i32 = 0;
            let of = id.clone();
            let ended = blocking(world, move |world| {
                end_without_shim(world, NO_PROCESS_YET, &of)
            });
            if let Err(error) = ended.await {
                tracing::warn!(container = %id, %error, "after a start that was cut off");
            }
            match state.last_exit.clone() {
                // It was never started before.
                None => Found::Over(State {
                    phase: Phase::Created,
                    ..state
                }),
                Some(exit) => over(state, exit),
            }
        }
    }
}

async fn reconnect(
    world: &World,
    id: &str,
) -> Option<(
    ShimClient,
    mpsc::Receiver<ShimEvent>,
    hull_shim::protocol::State,
)> {
    let (sender, events) = mpsc::channel(64);
    let client = world.launcher.reconnect(id, sender).await.ok()?;
    match tokio::time::timeout(ANSWER_MAX, client.call(Do::State {})).await {
        Ok(Ok(Done::State(state))) => Some((client, events, state)),
        _ => None,
    }
}

/// A shim that has written its record is about to leave.
async fn wait_for_end(mut events: mpsc::Receiver<ShimEvent>) {
    let ended = async {
        loop {
            match events.recv().await {
                Some(ShimEvent::Said(Event::Exited(_)) | ShimEvent::Gone) | None => return,
                Some(ShimEvent::Said(_)) => {}
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER_MAX, ended).await;
}

/// Takes away an end that the record of its container, which runs, does not list: a death came into its connecting, or its disconnecting.
/// Before its row goes, so that a further death changes nothing.
fn drop_unlisted(world: &World, attachment: &Attachment) -> Result<()> {
    let id = &attachment.endpoint.container_id;
    let network = &attachment.network.network;
    let link = world
        .plane
        .host
        .disconnect(id, network, &attachment.endpoint);
    let view = world.registry.find(id)?.view();
    task::without_dns(world, &view.record, attachment, &view.attachments)
        .and(link.map_err(Error::from))
}

/// Leases of what does not run are given back; links, firewall, ports and names of what runs are put up again.
fn network(world: &World, kept: &[Attachment], unreadable: &BTreeSet<String>) -> Result<()> {
    let ids: BTreeSet<&str> = kept.iter().map(|one| one.endpoint.id.as_str()).collect();
    world.db.write(|tx| {
        for row in network_rows::endpoints(tx)? {
            if !ids.contains(row.id.as_str()) {
                network_rows::remove_endpoint(tx, &row.id)?;
            }
        }
        Ok(())
    })?;
    let networks: Vec<hull_network::Network> = world
        .plane
        .all()?
        .into_iter()
        .map(|record: NetworkRecord| record.network)
        .collect();
    let endpoints: Vec<hull_network::Endpoint> =
        kept.iter().map(|one| one.endpoint.clone()).collect();
    let mut sandboxes: Vec<String> = endpoints
        .iter()
        .map(|endpoint| endpoint.container_id.clone())
        .collect();
    sandboxes.extend(running_without_endpoints(world));
    sandboxes.extend(unreadable.iter().cloned());
    sandboxes.sort_unstable();
    sandboxes.dedup();
    world.plane.host.sweep(&sandboxes, &networks)?;
    for network in networks
        .iter()
        .filter(|network| matches!(network.driver.as_str(), "bridge" | "macvlan" | "ipvlan"))
    {
        if let Err(error) = world.plane.host.ensure_network(network) {
            tracing::error!(network = %network.name, %error, "restore a network");
        }
    }
    world.plane.host.sync_firewall(&networks, &endpoints)?;
    let readable = |one: &&Attachment| !unreadable.contains(&one.endpoint.container_id);
    for attachment in kept.iter().filter(readable) {
        if let Err(error) = restore_endpoint(world, attachment) {
            tracing::error!(container = %attachment.endpoint.container_id, %error, "restore published ports and names");
        }
    }
    Ok(())
}

fn running_without_endpoints(world: &World) -> Vec<String> {
    world
        .registry
        .views()
        .iter()
        .filter(|view| view.state.phase.live().is_some())
        .map(|view| view.record.id.clone())
        .collect()
}

fn restore_endpoint(world: &World, attachment: &Attachment) -> Result<()> {
    let network = &attachment.network.network;
    if !attachment.endpoint.ports.is_empty() {
        world
            .plane
            .host
            .reserve_ports(network, &attachment.endpoint)?;
    }
    if attachment.network.has_dns() {
        let id = &attachment.endpoint.container_id;
        let record = world.registry.find(id)?.view().record.clone();
        task::restart_dns(world, &record)?;
        world
            .plane
            .host
            .dns_register(id, network, &attachment.endpoint);
    }
    Ok(())
}

/// Removes what no row names: shims' folders, containers' folders, snapshots, volumes, leases.
fn sweep(world: &World, unreadable: &BTreeSet<String>) -> Result<()> {
    let views = world.registry.views();
    let left_alone = unreadable.iter().map(String::as_str);
    let known: BTreeSet<&str> = views
        .iter()
        .map(|view| view.record.id.as_str())
        .chain(left_alone.clone())
        .collect();
    let live: BTreeSet<&str> = views
        .iter()
        .filter(|view| view.state.phase.live().is_some())
        .map(|view| view.record.id.as_str())
        .chain(left_alone)
        .collect();
    for id in world.launcher.known()? {
        if !live.contains(id.as_str()) {
            bury(world, &id)?;
        }
    }
    let root = world.containers_root();
    for entry in std::fs::read_dir(&root)
        .map_err(failed(format!("read {}", root.display())))?
        .flatten()
    {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !known.contains(name.as_str()) {
            std::fs::remove_dir_all(entry.path())
                .map_err(failed(format!("remove {}", entry.path().display())))?;
        }
    }
    world.db.write(leases::remove_all)?;
    for info in world
        .snapshots
        .walk()
        .map_err(failed("list the snapshots"))?
    {
        let owner = info.key.split("-image-").next().unwrap_or_default();
        if info.kind != hull_state::snapshots::Kind::Committed && !known.contains(owner) {
            world
                .snapshots
                .remove(&info.key)
                .map_err(failed(format!("remove the snapshot {}", info.key)))?;
        }
    }
    world.volumes.restore(&live)
}

/// A folder of a shim that nobody needs: the shim, if it still runs, gives its container up.
fn bury(world: &World, id: &str) -> Result<()> {
    use std::io::Write;
    let socket = world.launcher.socket(id)?;
    if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket.path()) {
        use hull_shim::protocol::{Hello, Request, encode};
        let _ = stream.set_write_timeout(Some(ANSWER_MAX));
        let _ = stream.set_read_timeout(Some(ANSWER_MAX));
        let kill = Do::Signal {
            exec: None,
            signal: 9,
            all: true,
        };
        let mut text = encode(&Hello::Control {});
        text.extend(encode(&Request {
            n: 1,
            action: Do::Discard {},
        }));
        text.extend(encode(&Request { n: 2, action: kill }));
        let _ = stream.write_all(&text);
        // It leaves when it is done: the end of the stream.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    world.launcher.remove_dir(id)
}

/// Ends all containers in good order, for `shutdown`.
pub(crate) async fn stop_all(world: &Arc<World>) -> Result<()> {
    let mut answers = Vec::new();
    for handle in world.registry.all() {
        if handle.view().state.phase.live().is_none() {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        if handle.queue.send(Message::ShutDown(reply)).await.is_ok() {
            answers.push(answer);
        }
    }
    let patience =
        Duration::from_secs(u64::try_from(world.reloadable().shutdown_timeout).unwrap_or(3600));
    let all = async {
        for answer in answers {
            let _ = answer.await;
        }
    };
    tokio::time::timeout(patience, all)
        .await
        .map_err(|_| Error::internal("some containers did not end in time"))
}

/// Ends all tasks and leaves the containers running.
pub(crate) async fn leave_all(world: &Arc<World>) -> Result<()> {
    for handle in world.registry.all() {
        let (reply, answer) = oneshot::channel();
        if handle.queue.send(Message::Leave(reply)).await.is_ok() {
            let _ = tokio::time::timeout(ANSWER_MAX, answer).await;
        }
    }
    Ok(())
}
