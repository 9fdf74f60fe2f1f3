//! The container as the monitor sees it, whichever runtime makes it.

mod external;
mod internal;

use std::path::{Path, PathBuf};

use hull_oci::runtime::{Resources, Spec};
use hull_runtime::cgroup::OomWatch;

use crate::protocol::{ExecCreate, Failure, InitFailure, Runtime, ShimConfig};
use crate::streams::Streams;

/// Why something could not be done to the container.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The runtime library says no.
    #[error(transparent)]
    Runtime(#[from] hull_runtime::Error),
    /// Another runtime said no.
    #[error("{program} {command}: {said}")]
    Program {
        /// Its name.
        program: String,
        /// The command.
        command: String,
        /// What it printed, or how it ended.
        said: String,
    },
    /// A system call failed.
    #[error("{operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bundle's configuration cannot be used.
    #[error("reading {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Asked for before it was created, or twice.
    #[error("the container is not in the state for this: {0}")]
    State(&'static str),
}

impl TaskError {
    /// Where init failed, when it was init.
    #[must_use]
    pub fn init_failure(&self) -> Option<InitFailure> {
        match self {
            Self::Runtime(hull_runtime::Error::Init(e)) => Some(InitFailure {
                step: e.step.to_string(),
                path: Some(e.path.clone()).filter(|path| !path.is_empty()),
                errno: e.errno,
            }),
            Self::Program { said, .. } => external::init_failure(said),
            Self::Runtime(_) | Self::Io { .. } | Self::Config { .. } | Self::State(_) => None,
        }
    }

    fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }
}

impl From<TaskError> for Failure {
    fn from(e: TaskError) -> Self {
        Self {
            message: crate::chain(&e),
            init: e.init_failure(),
        }
    }
}

/// A container, made by one of the runtimes.
pub enum Task {
    /// By the library.
    Internal(Box<internal::Internal>),
    /// By another program.
    External(external::External),
}

/// What both kinds need to know.
struct Config {
    shim: Box<ShimConfig>,
}

impl Task {
    /// Reads the bundle's `config.json`; makes nothing yet.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn new(shim: ShimConfig) -> Result<Self, TaskError> {
        let path = shim.bundle.join("config.json");
        let bytes =
            std::fs::read(&path).map_err(TaskError::io(format!("reading {}", path.display())))?;
        let spec: Box<Spec> =
            serde_json::from_slice(&bytes).map_err(|source| TaskError::Config { path, source })?;
        let runtime = shim.runtime.clone();
        let config = Config {
            shim: Box::new(shim),
        };
        Ok(match runtime {
            Runtime::Internal => Self::Internal(Box::new(internal::Internal::new(config, spec))),
            Runtime::External { path, args } => {
                Self::External(external::External::new(config, path, args))
            }
        })
    }

    /// Makes what needs none of the namespaces that the container joins.
    pub(crate) fn prepare(&mut self) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.prepare(),
            // A program's `create` is one step.
            Self::External(_) => Ok(()),
        }
    }

    /// Makes everything but the user's program: init's pid, and our ends of its streams.
    pub(crate) fn create(&mut self) -> Result<(i32, Streams), TaskError> {
        match self {
            Self::Internal(task) => task.create(),
            Self::External(task) => task.create(),
        }
    }

    /// Runs the user's program.
    pub(crate) fn start(&mut self) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.start(),
            Self::External(task) => task.start(),
        }
    }

    /// Makes the container from a checkpoint; it runs: init's pid, and our ends of its streams.
    pub(crate) fn restore(&mut self, images: &Path) -> Result<(i32, Streams), TaskError> {
        match self {
            Self::Internal(task) => task.restore(images),
            Self::External(task) => task.restore(images),
        }
    }

    /// Saves the container's processes, which end unless they are left running.
    pub(crate) fn checkpoint(&self, images: &Path, leave_running: bool) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.checkpoint(images, leave_running),
            Self::External(task) => task.checkpoint(images, leave_running),
        }
    }

    /// Runs a further process: its pid, and our ends of its streams.
    pub(crate) fn exec(&mut self, exec: &ExecCreate) -> Result<(i32, Streams), TaskError> {
        match self {
            Self::Internal(task) => task.exec(exec),
            Self::External(task) => task.exec(exec),
        }
    }

    /// Signals one process, a child of ours that is not reaped.
    pub(crate) fn signal(&self, pid: i32, signal: i32) -> Result<(), TaskError> {
        let pidfd = hull_sys::pidfd::open(pid)
            .map_err(|e| TaskError::io(format!("finding process {pid}"))(e.into()))?;
        hull_sys::pidfd::send_signal(std::os::fd::AsFd::as_fd(&pidfd), signal)
            .map_err(|e| TaskError::io(format!("signalling process {pid}"))(e.into()))
    }

    /// Signals every process of the container.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), TaskError> {
        for pid in self.pids()? {
            // One that has just ended is no fault.
            let _ = self.signal(pid, signal);
        }
        Ok(())
    }

    pub(crate) fn pause(&self) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.pause(),
            Self::External(task) => task.command("pause", &[]),
        }
    }

    pub(crate) fn resume(&self) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.resume(),
            Self::External(task) => task.command("resume", &[]),
        }
    }

    pub(crate) fn update(&self, resources: &Resources) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.update(resources),
            Self::External(task) => task.update(resources),
        }
    }

    pub(crate) fn pids(&self) -> Result<Vec<i32>, TaskError> {
        match self {
            Self::Internal(task) => task.pids(),
            Self::External(task) => task.pids(),
        }
    }

    /// Watches for kills for want of memory, where somebody counts them.
    pub(crate) fn oom_watch(&self) -> Result<Option<OomWatch>, TaskError> {
        match self {
            Self::Internal(task) => task.oom_watch(),
            // As for `oom_killed`.
            Self::External(_) => Ok(None),
        }
    }

    /// Did the kernel kill a process of the container for want of memory?
    pub(crate) fn oom_killed(&self) -> bool {
        match self {
            Self::Internal(task) => task.oom_killed(),
            // runc and crun keep no count; the cgroup is theirs.
            Self::External(_) => false,
        }
    }

    /// Kills what is left and removes cgroup and records. Goes on after a failure and reports the first.
    pub(crate) fn remove(&mut self) -> Result<(), TaskError> {
        match self {
            Self::Internal(task) => task.remove(),
            Self::External(task) => task.remove(),
        }
    }
}
