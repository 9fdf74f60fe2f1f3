//! Where a container is in its life, and what Docker calls that.
//!
//! ```text
//!                    start                       exit, no policy
//!   Created ───────────────► Starting ─► Running ───────────────► Exited ─┐ start
//!      │                        │ ▲  ▲      │ ▲                     │     │
//!      │                 failed │ │  │ pause│ │unpause              │◄────┘ (through Starting)
//!      │                        ▼ │  │      ▼ │                     │
//!      │                  Exited  │  │     Paused                   │
//!      │             back-off over│  │                              │
//!      │                     Restarting ◄── exit, policy says again │
//!      │                          Running/Paused ─ stop ─► Stopping ─ exit ─► Exited
//!      └──────────────► Removing ◄─────────────────────────── remove┘
//!                          └─ could not be removed ─► Dead
//! ```
//! One task owns each container's phase. `Starting`, `Stopping` and `Removing` last only while that task works; found at
//! boot they say where a crash happened.

use hull_api::inspect::ContainerState;
use serde::{Deserialize, Serialize};

/// A process is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The first process, in the host's numbering.
    pub pid: i32,
    /// RFC 3339.
    pub started_at: String,
    /// The container's cgroup, as the runtime made it.
    #[serde(default)]
    pub cgroup: String,
    /// The kernel has killed something in it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
}

/// How the last run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitInfo {
    /// As a shell would say it: 128 + n for a signal.
    pub code: i32,
    /// The kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// Why it could not start, if so.
    pub error: String,
    /// RFC 3339; empty when it never ran.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
}

/// The phases; see the drawing above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, never started.
    Created,
    /// A start sequence is under way.
    Starting,
    /// Its process runs.
    Running(Live),
    /// Its process is frozen.
    Paused(Live),
    /// Its process was asked to end.
    Stopping(Live),
    /// It ended, and the restart policy starts it again after a pause.
    Restarting(ExitInfo),
    /// It ended.
    Exited(ExitInfo),
    /// It is being removed.
    Removing,
    /// It could not be removed; only another remove makes sense.
    Dead(String),
}

impl Phase {
    /// The process, when there is one.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Phase::Running(live) | Phase::Paused(live) | Phase::Stopping(live) => Some(live),
            Phase::Created
            | Phase::Starting
            | Phase::Restarting(_)
            | Phase::Exited(_)
            | Phase::Removing
            | Phase::Dead(_) => None,
        }
    }

    /// Docker's `State.Running`: also true while waiting for a restart.
    pub fn is_running(&self) -> bool {
        match self {
            Phase::Running(_) | Phase::Paused(_) | Phase::Stopping(_) | Phase::Restarting(_) => {
                true
            }
            Phase::Created
            | Phase::Starting
            | Phase::Exited(_)
            | Phase::Removing
            | Phase::Dead(_) => false,
        }
    }

    /// Docker's word for it.
    pub fn status(&self) -> &'static str {
        match self {
            Phase::Created | Phase::Starting => "created",
            Phase::Running(_) | Phase::Stopping(_) => "running",
            Phase::Paused(_) => "paused",
            Phase::Restarting(_) => "restarting",
            Phase::Exited(_) => "exited",
            Phase::Removing => "removing",
            Phase::Dead(_) => "dead",
        }
    }
}

/// A phase with what outlives it: the second JSON column of a container's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is.
    pub phase: Phase,
    /// Restarts by policy since the last start by a user.
    #[serde(default)]
    pub restart_count: u32,
    /// A user stopped it: `unless-stopped` does not start it at boot.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// How the run before this one ended.
    #[serde(default)]
    pub last_exit: Option<ExitInfo>,
}

impl State {
    /// Of a container that was just made.
    pub fn created() -> State {
        State {
            phase: Phase::Created,
            restart_count: 0,
            stopped_by_user: false,
            last_exit: None,
        }
    }

    /// The end of the last run, if it ever ran.
    pub fn exit(&self) -> Option<&ExitInfo> {
        match &self.phase {
            Phase::Exited(exit) | Phase::Restarting(exit) => Some(exit),
            Phase::Created
            | Phase::Starting
            | Phase::Running(_)
            | Phase::Paused(_)
            | Phase::Stopping(_)
            | Phase::Removing
            | Phase::Dead(_) => self.last_exit.as_ref(),
        }
    }
}

fn or_never(time: &str) -> String {
    if time.is_empty() {
        hull_api::time::ZERO.to_owned()
    } else {
        time.to_owned()
    }
}

/// The only home of Docker's booleans.
pub fn to_api_state(state: &State) -> ContainerState {
    let live = state.phase.live();
    let exit = state.exit().cloned().unwrap_or_default();
    let over = live.is_none();
    ContainerState {
        status: state.phase.status().to_owned(),
        running: state.phase.is_running(),
        paused: matches!(state.phase, Phase::Paused(_)),
        restarting: matches!(state.phase, Phase::Restarting(_)),
        oom_killed: live.map_or(exit.oom_killed, |live| live.oom_killed),
        dead: matches!(state.phase, Phase::Dead(_)),
        pid: live.map_or(0, |live| i64::from(live.pid)),
        exit_code: if over { i64::from(exit.code) } else { 0 },
        error: match &state.phase {
            Phase::Dead(reason) => reason.clone(),
            _ if over => exit.error.clone(),
            _ => String::new(),
        },
        started_at: live.map_or_else(
            || or_never(&exit.started_at),
            |live| live.started_at.clone(),
        ),
        finished_at: or_never(&exit.finished_at),
        health: None,
    }
}
