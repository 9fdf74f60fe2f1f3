//! The container made by `hull_runtime`, called as a library: no further program runs.

use std::os::fd::OwnedFd;
use std::path::Path;

use hull_oci::runtime::{IdMapping, Resources, Spec};
use hull_runtime::cgroup::{CgroupPaths, OomWatch};
use hull_runtime::{
    CheckpointOptions, CreateOptions, CriuOptions, ExecOptions, InitHandle, Preparation,
    RestoreOptions, StartBy, Stdio,
};
use rustix::fs::{FileType, Gid, Uid};

use super::{Config, TaskError};
use crate::protocol::{CgroupManager, ExecCreate, ShimConfig};
use crate::streams::Streams;

pub struct Internal {
    config: Config,
    /// Until the container is made of it.
    spec: Option<Box<Spec>>,
    pipe_owner: Option<(Uid, Gid)>,
    prepared: Option<(Preparation, Streams)>,
    made: Option<Made>,
}

struct Made {
    cgroup: CgroupPaths,
    init: Option<InitHandle>,
}

impl Internal {
    pub(super) fn new(config: Config, spec: Box<Spec>) -> Self {
        Self {
            config,
            pipe_owner: pipe_owner(&spec),
            spec: Some(spec),
            prepared: None,
            made: None,
        }
    }

    fn made(&self) -> Result<&Made, TaskError> {
        self.made.as_ref().ok_or(TaskError::State("not created"))
    }

    /// What comes before init.
    pub(super) fn prepare(&mut self) -> Result<(), TaskError> {
        let spec = self.take_spec()?;
        let shim = &self.config.shim;
        let (streams, stdio) = stdio(shim.terminal, shim.open_stdin, false, self.pipe_owner)?;
        let preparation = hull_runtime::prepare(options(shim, &spec, stdio))?;
        self.prepared = Some((preparation, streams));
        Ok(())
    }

    pub(super) fn create(&mut self) -> Result<(i32, Streams), TaskError> {
        if self.prepared.is_none() {
            self.prepare()?;
        }
        let (preparation, streams) = self
            .prepared
            .take()
            .ok_or(TaskError::State("not prepared"))?;
        let created = preparation.create()?;
        let streams = with_console(streams, created.console_master, self.config.shim.open_stdin)?;
        self.made = Some(Made {
            cgroup: created.cgroup,
            init: Some(created.init),
        });
        Ok((created.pid, streams))
    }

    /// The specification is not needed any more once the container is made of it.
    fn take_spec(&mut self) -> Result<Box<Spec>, TaskError> {
        self.spec.take().ok_or(TaskError::State("made before"))
    }

    /// What a checkpoint and its restore have in common, beyond criu's own choices.
    fn criu(images: &Path) -> CriuOptions<'_> {
        CriuOptions {
            // Many programs hold a lock on a file of their own.
            file_locks: true,
            ..CriuOptions::new(images)
        }
    }

    pub(super) fn restore(&mut self, images: &Path) -> Result<(i32, Streams), TaskError> {
        let spec = self.take_spec()?;
        let shim = &self.config.shim;
        let (streams, stdio) = stdio(shim.terminal, shim.open_stdin, false, self.pipe_owner)?;
        let restored = hull_runtime::restore(RestoreOptions {
            create: options(shim, &spec, stdio),
            criu: Self::criu(images),
            lsm_profile: None,
            lsm_mount_context: None,
        })?;
        let streams = with_console(streams, restored.console_master, shim.open_stdin)?;
        self.made = Some(Made {
            cgroup: restored.cgroup,
            init: None,
        });
        Ok((restored.pid, streams))
    }

    pub(super) fn checkpoint(&self, images: &Path, leave_running: bool) -> Result<(), TaskError> {
        let shim = &self.config.shim;
        let options = CheckpointOptions {
            leave_running,
            ..CheckpointOptions::new(Self::criu(images))
        };
        Ok(hull_runtime::checkpoint(
            &shim.state_root,
            &shim.id,
            options,
        )?)
    }

    pub(super) fn start(&mut self) -> Result<(), TaskError> {
        let init = self
            .made
            .as_mut()
            .and_then(|made| made.init.take())
            .ok_or(TaskError::State("not created, or started before"))?;
        Ok(init.start()?)
    }

    pub(super) fn exec(&mut self, exec: &ExecCreate) -> Result<(i32, Streams), TaskError> {
        let shim = &self.config.shim;
        let (streams, stdio) = stdio(
            exec.process.terminal,
            exec.open_stdin,
            exec.detached,
            self.pipe_owner,
        )?;
        let execed = hull_runtime::exec(ExecOptions {
            state_root: &shim.state_root,
            id: &shim.id,
            process: &exec.process,
            stdio,
            pid_file: None,
            preserve_fds: 0,
            sub_cgroup: None,
            ignore_paused: false,
        })?;
        let streams = with_console(streams, execed.console_master, exec.open_stdin)?;
        Ok((execed.pid, streams))
    }

    pub(super) fn pause(&self) -> Result<(), TaskError> {
        let shim = &self.config.shim;
        Ok(hull_runtime::pause(&shim.state_root, &shim.id)?)
    }

    pub(super) fn resume(&self) -> Result<(), TaskError> {
        let shim = &self.config.shim;
        Ok(hull_runtime::resume(&shim.state_root, &shim.id)?)
    }

    pub(super) fn update(&self, resources: &Resources) -> Result<(), TaskError> {
        let shim = &self.config.shim;
        Ok(hull_runtime::update(&shim.state_root, &shim.id, resources)?)
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>, TaskError> {
        Ok(self.made()?.cgroup.pids()?)
    }

    pub(super) fn oom_watch(&self) -> Result<Option<OomWatch>, TaskError> {
        Ok(self.made()?.cgroup.oom_watch()?)
    }

    pub(super) fn oom_killed(&self) -> bool {
        self.made
            .as_ref()
            .is_some_and(|made| made.cgroup.oom_kills().is_ok_and(|kills| kills > 0))
    }

    pub(super) fn remove(&mut self) -> Result<(), TaskError> {
        let shim = &self.config.shim;
        // Dropping the handle ends an init that still waits for its start.
        self.made = None;
        self.prepared = None;
        match hull_runtime::delete(&shim.state_root, &shim.id, true) {
            Ok(()) | Err(hull_runtime::Error::NotFound(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Root of the container's user namespace, where it has one. It must own the pipes: /dev/stdout could not be opened else, and init
/// cannot give to its user what belongs to an owner or a group without a mapping (user_namespaces(7)).
fn pipe_owner(spec: &Spec) -> Option<(Uid, Gid)> {
    let linux = spec.linux.as_ref()?;
    let root = |mappings: &[IdMapping]| {
        let first = mappings.iter().find(|mapping| mapping.container_id == 0);
        first.map(|mapping| mapping.host_id)
    };
    let (uid, gid) = (root(&linux.uid_mappings)?, root(&linux.gid_mappings)?);
    Some((Uid::from_raw(uid), Gid::from_raw(gid)))
}

fn options<'a>(shim: &'a ShimConfig, spec: &'a Spec, stdio: Stdio) -> CreateOptions<'a> {
    CreateOptions {
        id: &shim.id,
        bundle: &shim.bundle,
        spec,
        state_root: &shim.state_root,
        rootfs: &shim.rootfs,
        stdio,
        cgroup_manager: match shim.cgroup_manager {
            CgroupManager::Cgroupfs => hull_runtime::CgroupManager::Cgroupfs,
            CgroupManager::Systemd => hull_runtime::CgroupManager::Systemd,
        },
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        start_by: StartBy::Handle,
    }
}

/// Our ends and the process's, of pipes; a terminal's come from the runtime.
fn stdio(
    terminal: bool,
    open_stdin: bool,
    dropped: bool,
    owner: Option<(Uid, Gid)>,
) -> Result<(Streams, Stdio), TaskError> {
    if terminal {
        return Ok((Streams::default(), Stdio::Terminal { size: None }));
    }
    let (streams, ends) =
        Streams::pipes(open_stdin, dropped).map_err(TaskError::io("making the streams' pipes"))?;
    if let Some(owner) = owner {
        for end in [&ends.stdin, &ends.stdout, &ends.stderr] {
            give_pipe(end, owner).map_err(TaskError::io("giving the streams' pipes away"))?;
        }
    }
    let stdio = Stdio::Fds {
        stdin: ends.stdin,
        stdout: ends.stdout,
        stderr: ends.stderr,
    };
    Ok((streams, stdio))
}

/// Never /dev/null, which is everybody's.
fn give_pipe(end: &OwnedFd, (uid, gid): (Uid, Gid)) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(end)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
        rustix::fs::fchown(end, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn with_console(
    streams: Streams,
    master: Option<OwnedFd>,
    open_stdin: bool,
) -> Result<Streams, TaskError> {
    match master {
        None => Ok(streams),
        Some(master) => {
            Streams::terminal(master, open_stdin).map_err(TaskError::io("taking over the terminal"))
        }
    }
}
