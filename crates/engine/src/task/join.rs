//! The namespaces of other containers that a container joins (`--network container:`, `--pid container:`, `--ipc container:`).

use crate::error::{Error, Result};
use crate::phase::Phase;
use crate::record::ContainerRecord;
use crate::world::World;

/// The first process of each container whose namespace is joined.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Joined {
    pub(super) network: Option<i32>,
    pub(super) pid: Option<i32>,
    pub(super) ipc: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Network,
    Pid,
    Ipc,
}

/// Finds the containers that `record` joins. They have to run; Docker's sentences where they do not.
pub(super) fn joined_namespaces(world: &World, record: &ContainerRecord) -> Result<Joined> {
    let join = |mode: &str, namespace| {
        mode.strip_prefix("container:")
            .map(|wanted| first_process(world, record, wanted, namespace))
            .transpose()
    };
    Ok(Joined {
        network: join(&record.host.network_mode, Namespace::Network)?,
        pid: join(&record.host.pid_mode, Namespace::Pid)?,
        ipc: join(&record.host.ipc_mode, Namespace::Ipc)?,
    })
}

fn first_process(
    world: &World,
    record: &ContainerRecord,
    wanted: &str,
    namespace: Namespace,
) -> Result<i32> {
    let explain = |error: Error| match namespace {
        Namespace::Network => error.context("joining network namespace of container"),
        Namespace::Pid => error.context(format!(
            "cannot join PID of a non running container: {wanted}"
        )),
        Namespace::Ipc => error.context(format!("can't join IPC of container {wanted}")),
    };
    let donor = world.registry.find(wanted).map_err(explain)?.view();
    let id = &donor.record.id;
    if namespace == Namespace::Network && *id == record.id {
        return Err(Error::internal("cannot join own network namespace"));
    }
    if let Phase::Restarting(_) = donor.state.phase {
        let restarting = Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ));
        return Err(match namespace {
            Namespace::Network => restarting.context("cannot join network namespace of container"),
            Namespace::Ipc => explain(restarting),
            Namespace::Pid => restarting,
        });
    }
    let Some(live) = donor.state.phase.live() else {
        let stopped = Error::conflict(format!("container {id} is not running"));
        return Err(match namespace {
            Namespace::Network => Error::conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                donor.record.name,
                donor.state.phase.status()
            )),
            Namespace::Ipc => explain(stopped),
            Namespace::Pid => stopped,
        });
    };
    let private = matches!(donor.record.host.ipc_mode.as_str(), "private" | "none");
    if namespace == Namespace::Ipc && private {
        return Err(explain(Error::internal(
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        )));
    }
    Ok(live.pid)
}
