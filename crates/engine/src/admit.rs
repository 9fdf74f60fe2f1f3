//! Which request makes sense in which phase: one pure, exhaustive table.

use crate::error::{Error, Kind};
use crate::phase::Phase;

/// The requests that depend on the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Start it.
    Start,
    /// End it in good order.
    Stop,
    /// Stop if need be, then start.
    Restart,
    /// Send a signal.
    Kill,
    /// Freeze.
    Pause,
    /// Save its processes.
    Checkpoint,
    /// Thaw.
    Unpause,
    /// Give it another name.
    Rename,
    /// Remove; `force` ends it first.
    Remove {
        /// Whether a running container is ended.
        force: bool,
    },
    /// Change limits or the restart policy.
    Update,
    /// Attach to its streams.
    Attach,
    /// Run a further process in it.
    Exec,
    /// Read its resource use, or list its processes.
    Observe,
    /// Change the size of its terminal.
    Resize,
    /// Connect a network, or disconnect one.
    Network,
    /// Read or write its files.
    Files,
}

/// What the container's task is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Do it.
    Do,
    /// Nothing to do: it is so already, and that is an answer of its own (304).
    Already,
    /// Join what is under way.
    Join,
    /// Thaw as well: a frozen process sees no signal.
    DoAndThaw,
    /// Only the record changes: there is no process.
    RecordOnly,
}

/// Why not; becomes Docker's sentence by [`Refusal::error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no process.
    NotRunning,
    /// It is frozen, and this needs it thawed.
    IsPaused,
    /// It is frozen already.
    AlreadyPaused,
    /// It is not frozen.
    NotPaused,
    /// It waits for its next start.
    IsRestarting,
    /// It is going away.
    BeingRemoved,
    /// It runs, and only force removes that.
    RemoveRunning,
    /// It is frozen, and only force removes that.
    RemovePaused,
    /// A remove is under way.
    RemoveInProgress,
}

/// Decides. Requests that arrive while the task works wait in its queue, so `Starting` and `Removing` are seen here only
/// after a crash or a failed removal.
pub fn admit(phase: &Phase, request: Request) -> Result<Admitted, Refusal> {
    use Admitted::{Already, Do, DoAndThaw, Join, RecordOnly};
    use Request as R;
    match phase {
        Phase::Created | Phase::Exited(_) | Phase::Starting => match request {
            R::Start | R::Restart | R::Rename | R::Remove { .. } | R::Attach | R::Files => Ok(Do),
            R::Stop => Ok(Already),
            R::Update | R::Network => Ok(RecordOnly),
            R::Kill | R::Pause | R::Checkpoint | R::Exec | R::Observe | R::Resize => {
                Err(Refusal::NotRunning)
            }
            R::Unpause => Err(Refusal::NotPaused),
        },
        Phase::Running(_) => match request {
            R::Start => Ok(Already),
            R::Stop
            | R::Restart
            | R::Kill
            | R::Pause
            | R::Checkpoint
            | R::Rename
            | R::Update
            | R::Attach
            | R::Exec
            | R::Observe
            | R::Resize
            | R::Network
            | R::Files
            | R::Remove { force: true } => Ok(Do),
            R::Unpause => Err(Refusal::NotPaused),
            R::Remove { force: false } => Err(Refusal::RemoveRunning),
        },
        Phase::Paused(_) => match request {
            R::Start | R::Attach | R::Exec | R::Checkpoint => Err(Refusal::IsPaused),
            R::Stop | R::Restart | R::Kill | R::Remove { force: true } => Ok(DoAndThaw),
            R::Unpause | R::Rename | R::Update | R::Observe | R::Resize | R::Network | R::Files => {
                Ok(Do)
            }
            R::Pause => Err(Refusal::AlreadyPaused),
            R::Remove { force: false } => Err(Refusal::RemovePaused),
        },
        Phase::Stopping(_) => match request {
            R::Start => Ok(Already),
            R::Stop | R::Restart => Ok(Join),
            R::Kill
            | R::Pause
            | R::Checkpoint
            | R::Rename
            | R::Update
            | R::Attach
            | R::Exec
            | R::Observe
            | R::Resize
            | R::Network
            | R::Files
            | R::Remove { force: true } => Ok(Do),
            R::Unpause => Err(Refusal::NotPaused),
            R::Remove { force: false } => Err(Refusal::RemoveRunning),
        },
        Phase::Restarting(_) => match request {
            R::Start | R::Stop | R::Restart | R::Rename | R::Files | R::Remove { force: true } => {
                Ok(Do)
            }
            R::Update | R::Network => Ok(RecordOnly),
            R::Kill | R::Resize | R::Observe => Err(Refusal::NotRunning),
            R::Pause | R::Attach | R::Exec | R::Checkpoint => Err(Refusal::IsRestarting),
            R::Unpause => Err(Refusal::NotPaused),
            R::Remove { force: false } => Err(Refusal::RemoveRunning),
        },
        Phase::Removing => match request {
            R::Remove { .. } => Err(Refusal::RemoveInProgress),
            R::Start
            | R::Stop
            | R::Restart
            | R::Kill
            | R::Pause
            | R::Checkpoint
            | R::Unpause
            | R::Rename
            | R::Update
            | R::Attach
            | R::Exec
            | R::Observe
            | R::Resize
            | R::Network
            | R::Files => Err(Refusal::BeingRemoved),
        },
        Phase::Dead(_) => match request {
            R::Remove { .. } => Ok(Do),
            R::Start
            | R::Stop
            | R::Restart
            | R::Kill
            | R::Pause
            | R::Checkpoint
            | R::Unpause
            | R::Rename
            | R::Update
            | R::Attach
            | R::Exec
            | R::Observe
            | R::Resize
            | R::Network
            | R::Files => Err(Refusal::BeingRemoved),
        },
    }
}

impl Refusal {
    /// Docker's sentence for the container with this id and name, asked to do `request`.
    pub fn error(self, request: Request, id: &str, name: &str, status: &str) -> Error {
        let message = match self {
            Refusal::NotRunning => format!("container {id} is not running"),
            Refusal::IsPaused => match request {
                Request::Start => "cannot start a paused container, try unpause instead".to_owned(),
                Request::Attach => {
                    format!("container {id} is paused, unpause the container before attach")
                }
                Request::Exec => {
                    format!("container {id} is paused, unpause the container before exec")
                }
                Request::Stop
                | Request::Restart
                | Request::Kill
                | Request::Pause
                | Request::Checkpoint
                | Request::Unpause
                | Request::Rename
                | Request::Remove { .. }
                | Request::Update
                | Request::Observe
                | Request::Resize
                | Request::Network
                | Request::Files => format!("container {id} is paused"),
            },
            Refusal::AlreadyPaused => format!("container {id} is already paused"),
            Refusal::NotPaused => format!("Container {id} is not paused"),
            Refusal::IsRestarting => {
                format!("container {id} is restarting, wait until the container is running")
            }
            Refusal::BeingRemoved => match request {
                Request::Start => {
                    "container is marked for removal and cannot be started".to_owned()
                }
                Request::Stop
                | Request::Restart
                | Request::Kill
                | Request::Pause
                | Request::Checkpoint
                | Request::Unpause
                | Request::Rename
                | Request::Remove { .. }
                | Request::Update
                | Request::Attach
                | Request::Exec
                | Request::Observe
                | Request::Resize
                | Request::Network
                | Request::Files => format!("container {id} is marked for removal"),
            },
            Refusal::RemoveRunning => format!(
                "cannot remove container \"/{name}\": container is {status}: stop the container before removing or force remove"
            ),
            Refusal::RemovePaused => {
                format!(
                    "cannot remove container \"/{name}\": container is paused and must be unpaused first"
                )
            }
            Refusal::RemoveInProgress => {
                format!("removal of container {name} is already in progress")
            }
        };
        Error::new(Kind::Conflict, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{ExitInfo, Live};

    fn phases() -> Vec<Phase> {
        let live = Live {
            pid: 7,
            started_at: String::new(),
            cgroup: String::new(),
            oom_killed: false,
        };
        vec![
            Phase::Created,
            Phase::Starting,
            Phase::Running(live.clone()),
            Phase::Paused(live.clone()),
            Phase::Stopping(live),
            Phase::Restarting(ExitInfo::default()),
            Phase::Exited(ExitInfo::default()),
            Phase::Removing,
            Phase::Dead("busy".into()),
        ]
    }

    const REQUESTS: &[Request] = &[
        Request::Start,
        Request::Stop,
        Request::Restart,
        Request::Kill,
        Request::Pause,
        Request::Checkpoint,
        Request::Unpause,
        Request::Rename,
        Request::Remove { force: false },
        Request::Remove { force: true },
        Request::Update,
        Request::Attach,
        Request::Exec,
        Request::Observe,
        Request::Resize,
        Request::Network,
        Request::Files,
    ];

    #[test]
    fn a_process_is_needed_where_one_is_used() {
        for phase in phases() {
            for request in [
                Request::Kill,
                Request::Pause,
                Request::Checkpoint,
                Request::Exec,
                Request::Observe,
                Request::Resize,
            ] {
                let admitted = admit(&phase, request).is_ok();
                assert!(
                    !admitted || phase.live().is_some(),
                    "{request:?} in {phase:?}"
                );
            }
        }
    }

    #[test]
    fn force_removes_whatever_is_not_already_going() {
        for phase in phases() {
            let forced = admit(&phase, Request::Remove { force: true });
            assert_eq!(
                forced.is_err(),
                matches!(phase, Phase::Removing),
                "{phase:?}"
            );
            let gentle = admit(&phase, Request::Remove { force: false });
            assert!(gentle.is_err() || !phase.is_running(), "{phase:?}");
        }
    }

    #[test]
    fn every_refusal_has_a_sentence() {
        for phase in phases() {
            for request in REQUESTS {
                if let Err(refusal) = admit(&phase, *request) {
                    let error = refusal.error(*request, "abc", "web", phase.status());
                    assert_eq!(error.kind, Kind::Conflict);
                    assert!(error.message.len() > 10);
                }
            }
        }
        let refusal = admit(&phases()[2], Request::Remove { force: false }).unwrap_err();
        assert_eq!(
            refusal
                .error(Request::Remove { force: false }, "abc", "web", "running")
                .message,
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
    }
}
