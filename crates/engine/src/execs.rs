//! The execs service: further processes in running containers. They die with their container's shim and are kept in
//! memory only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hull_api::exec::{ExecConfig, ExecInspect, ExecStartConfig, ProcessConfig};
use hull_api::frames::{StreamKind, encode};
use hull_shim::protocol::{Attach, Do, Done, ExecCreate};
use tokio::sync::watch;

use crate::admit::{Request, admit};
use crate::error::{Error, Kind, Result};
use crate::id::new_id;
use crate::shim::{AttachReader, AttachWriter, ShimClient, connect_attach};
use crate::spec::{self, ExecInputs, SecurityOptions};
use crate::streams::AttachStream;
use crate::task::{View, exec_failure, exec_inputs_user, link_environment};
use crate::world::{Handle, World, blocking};

/// Ended execs that are remembered for inspect, over all containers.
const ENDED_MAX: usize = 1024;
/// Execs of one container that exist at once.
const PER_CONTAINER_MAX: usize = 4096;

/// How long the news of an exec's end may take from its shim to here.
const NEWS_MAX: Duration = Duration::from_secs(2);

/// How far an exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { code: i64 },
}

struct Exec {
    id: String,
    container: Handle,
    config: ExecConfig,
    progress: watch::Sender<Progress>,
    /// When it was made, in order.
    number: u64,
    /// A health probe: not shown.
    hidden: bool,
}

/// All execs. Shared by the service and the containers' tasks.
#[derive(Default)]
pub(crate) struct ExecTable {
    inner: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    execs: BTreeMap<String, Arc<Exec>>,
    next: u64,
}

impl ExecTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock()
            .execs
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// The shim says that an exec has ended.
    pub(crate) fn ended(&self, id: &str, code: i32) {
        if let Ok(exec) = self.get(id) {
            exec.end(i64::from(code));
        }
    }

    /// The container has ended, and its execs with it.
    pub(crate) fn container_ended(&self, container: &str) {
        let ended: Vec<Arc<Exec>> = self
            .lock()
            .execs
            .values()
            .filter(|exec| exec.container.id == container)
            .cloned()
            .collect();
        for exec in ended {
            exec.end(137);
        }
    }

    /// Ids of a container's execs that have not ended, for inspect.
    pub(crate) fn of_container(&self, container: &str) -> Vec<String> {
        let table = self.lock();
        let shown = table
            .execs
            .values()
            .filter(|exec| exec.container.id == container && !exec.hidden && !exec.is_over());
        shown.map(|exec| exec.id.clone()).collect()
    }
}

impl Table {
    /// Forgets the oldest ended execs beyond the bound.
    fn trim(&mut self) {
        let mut ended: Vec<(u64, String)> = self
            .execs
            .values()
            .filter(|exec| exec.is_over())
            .map(|exec| (exec.number, exec.id.clone()))
            .collect();
        if ended.len() <= ENDED_MAX {
            return;
        }
        ended.sort_unstable();
        for (_, id) in ended.drain(..ended.len() - ENDED_MAX / 2) {
            self.execs.remove(&id);
        }
    }
}

impl Exec {
    fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    fn is_over(&self) -> bool {
        matches!(self.progress(), Progress::Ended { .. })
    }

    /// The end of the output and the news of the end come from the shim by two ways. A client that has seen the one asks for the exit
    /// code: where the shim has the exec no longer, the other is under way, and is waited for.
    async fn settle(&self) {
        if matches!(self.progress(), Progress::Created | Progress::Ended { .. }) {
            return;
        }
        let Some(shim) = self.container.view().shim.clone() else {
            return;
        };
        let Ok(Done::State(state)) = shim.call(Do::State {}).await else {
            return;
        };
        if !state.execs.iter().any(|(id, _)| *id == self.id) {
            let mut progress = self.progress.subscribe();
            let ended = progress.wait_for(|progress| matches!(progress, Progress::Ended { .. }));
            let _ = tokio::time::timeout(NEWS_MAX, ended).await;
        }
    }

    fn end(&self, code: i64) {
        self.progress.send_if_modified(|progress| match progress {
            Progress::Ended { .. } => false,
            Progress::Created | Progress::Starting | Progress::Running { .. } => {
                *progress = Progress::Ended { code };
                true
            }
        });
    }
}

/// The execs service. A cheap clone.
#[derive(Clone)]
pub struct Execs {
    pub(crate) world: Arc<World>,
}

fn admitted(view: &View) -> Result<()> {
    admit(&view.state.phase, Request::Exec)
        .map(|_| ())
        .map_err(|refusal| {
            refusal.error(
                Request::Exec,
                &view.record.id,
                &view.record.name,
                view.state.phase.status(),
            )
        })
}

impl Execs {
    /// Makes an exec and returns its id.
    pub async fn create(&self, container: &str, config: ExecConfig) -> Result<String> {
        let handle = self.world.registry.find(container)?;
        if config.cmd.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        crate::detach::parse(Some(config.detach_keys.as_str()).filter(|keys| !keys.is_empty()))?;
        let command = config.cmd.join(" ");
        let id = self.create_for(&handle, config, false).await?;
        let view = handle.view();
        let mut attributes = view.record.event_attributes();
        attributes.insert("execID".to_owned(), id.clone());
        self.world.events.publish(
            "container",
            &format!("exec_create: {command}"),
            &handle.id,
            attributes,
        );
        Ok(id)
    }

    pub(crate) async fn create_for(
        &self,
        handle: &Handle,
        config: ExecConfig,
        hidden: bool,
    ) -> Result<String> {
        admitted(&handle.view())?;
        let (progress, _) = watch::channel(Progress::Created);
        let mut table = self.world.execs.lock();
        if table
            .execs
            .values()
            .filter(|exec| exec.container.id == handle.id && !exec.is_over())
            .count()
            >= PER_CONTAINER_MAX
        {
            return Err(Error::conflict(format!(
                "container {} has too many execs",
                handle.id
            )));
        }
        table.trim();
        let number = table.next;
        table.next += 1;
        let id = new_id();
        let exec = Exec {
            id: id.clone(),
            container: handle.clone(),
            config,
            progress,
            number,
            hidden,
        };
        table.execs.insert(id.clone(), Arc::new(exec));
        Ok(id)
    }

    /// Starts it. `None` when detached. Where the program cannot be started an attached caller reads the sentence from the
    /// stream (Docker has switched protocols by then) and inspect has the exit code, 126 or 127.
    pub async fn start(&self, id: &str, start: ExecStartConfig) -> Result<Option<AttachStream>> {
        let exec = self.world.execs.get(id)?;
        let shim = self.check_start(&exec)?;
        let attached = !start.detach
            && (exec.config.attach_stdin || exec.config.attach_stdout || exec.config.attach_stderr);
        if start.detach && start.console_size.is_some() {
            exec.progress.send_replace(Progress::Created);
            return Err(Error::invalid(
                "console size can be set only for attached and tty execs",
            ));
        }
        let console = start.console_size.or(exec.config.console_size);
        let started = self.run(&exec, &shim, console, attached).await;
        match started {
            Ok(stream) => Ok(stream),
            Err(error) if start.detach || error.kind == Kind::Conflict => Err(error),
            Err(error) => Ok(Some(told(&error, exec.config.tty))),
        }
    }

    /// Starts a hidden exec and gives its streams.
    pub(crate) async fn start_attached(&self, id: &str) -> Result<AttachStream> {
        let exec = self.world.execs.get(id)?;
        let shim = self.check_start(&exec)?;
        self.run(&exec, &shim, None, true)
            .await?
            .ok_or_else(|| Error::internal("the exec has no streams"))
    }

    /// Takes the exec from `Created` to `Starting`, once.
    fn check_start(&self, exec: &Exec) -> Result<ShimClient> {
        let view = exec.container.view();
        if exec.is_over() {
            return Err(Error::conflict(format!(
                "exec {} has already exited",
                exec.id
            )));
        }
        admitted(&view)?;
        let taken = exec.progress.send_if_modified(|progress| {
            let fresh = *progress == Progress::Created;
            if fresh {
                *progress = Progress::Starting;
            }
            fresh
        });
        if !taken {
            return Err(Error::conflict(format!(
                "exec {} is already running",
                exec.id
            )));
        }
        view.shim.clone().ok_or_else(|| {
            Error::conflict(format!("container {} is not running", exec.container.id))
        })
    }

    /// Makes it in the shim, attaches, starts it: in this order no output is lost.
    async fn run(
        &self,
        exec: &Arc<Exec>,
        shim: &ShimClient,
        console: Option<[u32; 2]>,
        attached: bool,
    ) -> Result<Option<AttachStream>> {
        let program = exec.config.cmd.first().cloned().unwrap_or_default();
        let process = match self.process(exec, console).await {
            Ok(process) => process,
            Err(error) => {
                exec.end(126);
                return Err(error);
            }
        };
        let failpoint = |name| {
            let passed = self.world.options.failpoints.pass(name);
            passed.inspect_err(|_| exec.end(126))
        };
        failpoint("exec.begin")?;
        let create = ExecCreate {
            exec: exec.id.clone(),
            process,
            open_stdin: exec.config.attach_stdin && attached,
            detached: !attached,
        };
        let fail = |error: &crate::shim::CallError| {
            let (code, error) = exec_failure(error, &program);
            exec.end(code);
            error
        };
        shim.command(Do::ExecCreate(Box::new(create)))
            .await
            .map_err(|error| fail(&error))?;
        let stream = match attached {
            true => Some(self.attach(exec).await.inspect_err(|_| exec.end(126))?),
            false => None,
        };
        failpoint("exec.created")?;
        let pid = match shim
            .call(Do::ExecStart {
                exec: exec.id.clone(),
            })
            .await
        {
            Ok(Done::ExecStarted { pid }) => pid,
            Ok(
                Done::Empty {}
                | Done::Created { .. }
                | Done::Started { .. }
                | Done::Restored { .. }
                | Done::State(_)
                | Done::Pids { .. },
            ) => {
                return Err(fail(&crate::shim::CallError::Unexpected));
            }
            Err(error) => return Err(fail(&error)),
        };
        self.world.options.failpoints.pass("exec.started")?;
        // It may have ended already.
        exec.progress.send_if_modified(|progress| {
            let starting = *progress == Progress::Starting;
            if starting {
                *progress = Progress::Running { pid };
            }
            starting
        });
        if !exec.hidden {
            self.emit_start(exec);
        }
        Ok(stream)
    }

    fn emit_start(&self, exec: &Arc<Exec>) {
        let (world, exec) = (self.world.clone(), exec.clone());
        let mut attributes = exec.container.view().record.event_attributes();
        attributes.insert("execID".to_owned(), exec.id.clone());
        let action = format!("exec_start: {}", exec.config.cmd.join(" "));
        world
            .events
            .publish("container", &action, &exec.container.id, attributes.clone());
        tokio::spawn(async move {
            let mut progress = exec.progress.subscribe();
            let ended = progress
                .wait_for(|progress| matches!(progress, Progress::Ended { .. }))
                .await;
            if let Ok(Progress::Ended { code }) = ended.map(|progress| *progress) {
                attributes.insert("exitCode".to_owned(), code.to_string());
                world
                    .events
                    .publish("container", "exec_die", &exec.container.id, attributes);
            }
        });
    }

    async fn process(
        &self,
        exec: &Arc<Exec>,
        console_size: Option<[u32; 2]>,
    ) -> Result<hull_oci::runtime::Process> {
        let view = exec.container.view();
        let exec = exec.clone();
        blocking(&self.world, move |world| {
            let record = &view.record;
            let pid = view.state.phase.live().map_or(0, |live| live.pid);
            let user = exec_inputs_user(record, pid, &exec.config.user)?;
            let security = SecurityOptions::parse(&record.host.security_opt)?;
            let privileged = exec.config.privileged || record.host.privileged;
            let caps =
                hull_security::caps::tweak(&record.host.cap_add, &record.host.cap_drop, privileged)
                    .map_err(|error| Error::invalid(error.to_string()))?;
            spec::exec_process(&ExecInputs {
                record,
                config: &exec.config,
                console_size,
                link_env: link_environment(world, record),
                user,
                hostname: spec::hostname(record, &world.host),
                capabilities: caps.iter().map(|cap| cap.name().to_owned()).collect(),
                no_new_privileges: security
                    .no_new_privileges
                    .unwrap_or(world.options.no_new_privileges),
                default_ulimits: &world.options.default_ulimits,
            })
        })
        .await
    }

    async fn attach(&self, exec: &Exec) -> Result<AttachStream> {
        let keys = crate::detach::parse(
            Some(exec.config.detach_keys.as_str()).filter(|keys| !keys.is_empty()),
        )?;
        let attach = Attach {
            exec: Some(exec.id.clone()),
            stdin: exec.config.attach_stdin,
            stdout: exec.config.attach_stdout,
            stderr: exec.config.attach_stderr,
            detach_keys: keys,
        };
        let stream = connect_attach(
            self.world.launcher.socket(&exec.container.id)?.path(),
            attach,
        )
        .await?;
        let (reader, writer) = stream.into_split();
        Ok(AttachStream {
            reader: Box::new(AttachReader::ready(reader)),
            writer: Box::new(AttachWriter::ready(writer)),
            terminal: exec.config.tty,
        })
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self, id: &str) -> i64 {
        let Ok(exec) = self.world.execs.get(id) else {
            return -1;
        };
        let mut progress = exec.progress.subscribe();
        let ended = progress
            .wait_for(|progress| matches!(progress, Progress::Ended { .. }))
            .await;
        match ended.map(|progress| *progress) {
            Ok(Progress::Ended { code }) => code,
            Ok(Progress::Created | Progress::Starting | Progress::Running { .. }) | Err(_) => -1,
        }
    }

    /// Kills it.
    pub(crate) async fn kill(&self, id: &str) {
        let Ok(exec) = self.world.execs.get(id) else {
            return;
        };
        if let Some(shim) = &exec.container.view().shim {
            let signal = rustix::process::Signal::KILL.as_raw();
            let _ = shim
                .command(Do::Signal {
                    exec: Some(exec.id.clone()),
                    signal,
                    all: false,
                })
                .await;
        }
    }

    /// Everything about one exec.
    pub async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        let exec = self.world.execs.get(id)?;
        exec.settle().await;
        let (running, exit_code, pid) = match exec.progress() {
            Progress::Created => (false, None, 0),
            Progress::Starting => (true, None, 0),
            Progress::Running { pid } => (true, None, pid),
            Progress::Ended { code } => (false, Some(code), 0),
        };
        let config = &exec.config;
        Ok(ExecInspect {
            id: exec.id.clone(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: config.tty,
                entrypoint: config.cmd.first().cloned().unwrap_or_default(),
                arguments: config.cmd.iter().skip(1).cloned().collect(),
                privileged: Some(config.privileged),
                user: config.user.clone(),
            },
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            can_remove: exit_code.is_some(),
            container_id: exec.container.id.clone(),
            detach_keys: config.detach_keys.clone(),
            pid: i64::from(pid),
        })
    }

    /// Sets the terminal's size, in characters.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.world.execs.get(id)?;
        if !matches!(
            exec.progress(),
            Progress::Running { .. } | Progress::Starting
        ) {
            return Err(Error::conflict(format!("exec {id} is not running")));
        }
        let view = exec.container.view();
        let shim = view.shim.as_ref().ok_or_else(|| {
            Error::conflict(format!("container {} is not running", exec.container.id))
        })?;
        shim.command(Do::Resize {
            exec: Some(exec.id.clone()),
            width,
            height,
        })
        .await
        .map_err(|error| Error::failed(format!("resize exec {id}"), error))
    }
}

/// A stream that says why there is none, as Docker writes it after it has switched protocols.
fn told(error: &Error, terminal: bool) -> AttachStream {
    let line = format!("{}\r\n", error.message);
    let bytes = if terminal {
        line.into_bytes()
    } else {
        encode(StreamKind::Stdout, line.as_bytes()).to_vec()
    };
    AttachStream {
        reader: Box::new(std::io::Cursor::new(bytes)),
        writer: Box::new(tokio::io::sink()),
        terminal,
    }
}
