//! The shim's event loop: one thread, poll(2), everything that can happen to one container.
//!
//! Interest is derived from state before each poll and never registered, so there is nothing to keep in step.
//! The order at the end of a container is: init ends; its output is read to the end; the log is flushed; `exit.json` is on disk;
//! the daemon is told; cgroup and runtime state are removed; attached clients get what is left; the shim ends.

mod checkpoint;
mod oom;
mod output;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hull_runtime::cgroup::OomWatch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus};

use crate::log::Log;

use crate::protocol::{
    Attach, Decoder, Do, Done, Event, ExecCreate, Exit, Failure, FromShim, Hello, LogConfig,
    Request, State, Status, encode,
};
use crate::streams::{CLIENT_BUFFER_BYTES_MAX, DetachKeys, Peer, Reading, Streams};
use crate::task::Task;
use crate::{exit, now};

/// How long clients that do not read may keep an ended shim alive.
const LINGER: Duration = Duration::from_secs(10);
/// How long after a start or an exec free memory is given back: short runs are spared the time.
const QUIET: Duration = Duration::from_millis(200);
/// Connections at once: the daemon's and its clients'. More wait in the socket's backlog.
const CLIENTS_MAX: usize = 1024;
/// Read at once from a pipe or socket, in bytes: more than a pipe holds. From this size on the allocator maps the buffer by itself, and what
/// was never read into costs no memory.
const BUFFER_BYTES: usize = 128 << 10;

/// One container's monitor.
pub struct Monitor {
    folder: PathBuf,
    id: String,
    listener: UnixListener,
    signals: OwnedFd,
    task: Task,
    log_config: LogConfig,
    log: Log,
    status: Status,
    started_at: Option<String>,
    main: Process,
    execs: BTreeMap<String, Process>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// Set when there is nothing left but to let clients read.
    linger_until: Option<Instant>,
    /// When to give free memory back: after a start or an exec, once it is quiet.
    trim_at: Option<Instant>,
    oom: oom::Oom,
}

/// What [`Monitor::new`] takes over.
pub struct Parts {
    /// The shim's folder.
    pub folder: PathBuf,
    /// The container's id.
    pub id: String,
    /// Where later connections arrive.
    pub listener: UnixListener,
    /// A signalfd for SIGCHLD.
    pub signals: OwnedFd,
    /// The container itself.
    pub task: Task,
    /// Its log.
    pub log: LogConfig,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Close its input when the first client that brought input leaves.
    pub stdin_once: bool,
}

/// One process of the container that was started from outside: the first, or an exec.
#[derive(Default)]
struct Process {
    terminal: bool,
    stdin_once: bool,
    pid: Option<i32>,
    streams: Streams,
    /// Its exit code, once reaped.
    ended: Option<Ended>,
    /// What is to be run, for an exec not started yet.
    pending: Option<ExecCreate>,
}

#[derive(Clone, Copy)]
struct Ended {
    code: i32,
    signal: Option<i32>,
}

struct Client {
    peer: Peer,
    role: Role,
}

enum Role {
    /// Has not said yet what it is for.
    New(Decoder),
    Control(Decoder),
    Attached {
        attach: Attach,
        detach: DetachKeys,
    },
}

/// What a poll found ready.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(usize),
    Output(usize),
    Input,
    Log,
    Oom,
}

impl Monitor {
    /// A monitor that has made nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            folder: parts.folder,
            id: parts.id,
            listener: parts.listener,
            signals: parts.signals,
            task: parts.task,
            log_config: parts.log,
            log: Log::default(),
            status: Status::New,
            started_at: None,
            main: Process {
                terminal: parts.terminal,
                stdin_once: parts.stdin_once,
                ..Process::default()
            },
            execs: BTreeMap::new(),
            clients: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            linger_until: None,
            trim_at: None,
            oom: oom::Oom::default(),
        }
    }

    /// Adds a connection whose first line has not been read.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be set.
    pub fn connect(&mut self, socket: std::os::unix::net::UnixStream) -> io::Result<()> {
        self.clients.push(Client {
            peer: Peer::new(socket)?,
            role: Role::New(Decoder::default()),
        });
        Ok(())
    }

    /// Runs until the container has ended, or was never made and nobody asks for it any more.
    ///
    /// # Errors
    /// Only when poll(2) itself fails.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.finished() {
            self.wait()?;
            self.finish_ended();
            self.drop_clients();
        }
        if self.status == Status::New {
            // While the socket is there: a daemon that comes back and finds no shim must not find half of what it prepared.
            self.give_up();
        }
        Ok(())
    }

    fn finished(&mut self) -> bool {
        match self.linger_until {
            Some(until) => {
                let read = self.clients.iter().all(|c| c.peer.backlog() == 0);
                self.log.finish() && read || Instant::now() >= until
            }
            // Not made, and the daemon has gone: there is nobody who would ask for it.
            None => self.status == Status::New && self.clients.is_empty(),
        }
    }

    /// Waits for something to happen and handles it.
    fn wait(&mut self) -> io::Result<()> {
        let ready = self.ready()?;
        if self.trim_at.is_some_and(|at| Instant::now() >= at) {
            self.trim_at = None;
            hull_sys::process::trim_heap();
        }
        if self.oom.watch.as_ref().is_some_and(|w| w.due().is_some()) {
            self.oom_ready();
        }
        for (source, exec) in ready {
            match source {
                Source::Signals => self.reap(),
                Source::Listener => self.accept(),
                Source::Client(index) => self.client_ready(index),
                Source::Output(index) => self.output_ready(exec.as_deref(), index),
                Source::Log => self.log.flush(),
                Source::Oom => self.oom_ready(),
                Source::Input => {
                    if let Some(process) = self.process(exec.as_deref()) {
                        process.streams.flush_input();
                    }
                }
            }
        }
        Ok(())
    }

    /// Builds the interest from the state, polls, and gives what is ready: outputs from the last to the first,
    /// because an ended one is removed from its list.
    fn ready(&self) -> io::Result<Vec<(Source, Option<String>)>> {
        let mut sources = vec![(Source::Signals, None)];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if self.clients.len() < CLIENTS_MAX {
            sources.push((Source::Listener, None));
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let behind = self.log.behind();
        if let Some(pipe) = &behind {
            sources.push((Source::Log, None));
            fds.push(PollFd::new(pipe, PollFlags::OUT));
        }
        if let Some(watch) = &self.oom.watch {
            sources.push((Source::Oom, None));
            fds.push(PollFd::new(watch, watch.flags()));
        }
        let main = std::iter::once((None, &self.main));
        let execs = self.execs.iter().map(|(id, process)| (Some(id), process));
        for (exec, process) in main.chain(execs) {
            if self.may_read_output(exec.map(String::as_str), process) {
                for (index, output) in process.streams.outputs.iter().enumerate().rev() {
                    sources.push((Source::Output(index), exec.cloned()));
                    fds.push(PollFd::new(output, PollFlags::IN));
                }
            }
            if let Some(input) = process.streams.input.as_ref().filter(|i| i.is_waiting()) {
                sources.push((Source::Input, exec.cloned()));
                fds.push(PollFd::new(input, PollFlags::OUT));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.may_read_client(client));
            flags.set(PollFlags::OUT, client.peer.backlog() > 0);
            sources.push((Source::Client(index), None));
            fds.push(PollFd::new(&client.peer, flags));
        }
        let look_at = self.oom.watch.as_ref().and_then(OomWatch::due);
        let until = [self.linger_until, self.trim_at, look_at];
        let timeout = until.into_iter().flatten().min().map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(sources
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn may_read_client(&self, client: &Client) -> bool {
        if client.peer.read_ended || client.peer.closing {
            return false;
        }
        match &client.role {
            Role::New(_) | Role::Control(_) => client.peer.backlog() < CLIENT_BUFFER_BYTES_MAX,
            Role::Attached { attach, .. } if attach.stdin => {
                let process = match &attach.exec {
                    None => Some(&self.main),
                    Some(id) => self.execs.get(id),
                };
                // Before the process is there its input waits in the socket.
                process.is_some_and(|process| match &process.streams.input {
                    Some(input) => input.has_room(),
                    None => process.pid.is_some() || process.ended.is_some(),
                })
            }
            Role::Attached { .. } => true,
        }
    }

    fn process(&mut self, exec: Option<&str>) -> Option<&mut Process> {
        match exec {
            None => Some(&mut self.main),
            Some(id) => self.execs.get_mut(id),
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((socket, _)) => {
                if let Err(e) = self.connect(socket) {
                    eprintln!("shim: a connection was dropped: {e}");
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => eprintln!("shim: accept: {e}"),
        }
    }

    // --- clients ------------------------------------------------------------------------------------------

    fn client_ready(&mut self, index: usize) {
        self.clients[index].peer.flush();
        if !self.may_read_client(&self.clients[index]) {
            // Gone both ways, with input that its process has no room for: nobody waits for what would come of it.
            let peer = &mut self.clients[index].peer;
            peer.broken |= peer.hung_up();
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        match self.clients[index].peer.read(&mut buffer) {
            Reading::Bytes(count) => self.client_said(index, &buffer[..count]),
            Reading::Ended => self.client_ended(index),
            Reading::Nothing => {}
        }
        self.buffer = buffer;
    }

    fn client_said(&mut self, index: usize, bytes: &[u8]) {
        match &mut self.clients[index].role {
            Role::Attached { .. } => self.input(index, bytes),
            Role::New(decoder) => {
                let hello = decoder
                    .feed(bytes)
                    .and_then(|()| decoder.next_value::<Hello>());
                match hello {
                    Ok(None) => {}
                    Ok(Some(hello)) => {
                        let decoder = std::mem::take(decoder);
                        self.greeted(index, hello, decoder);
                    }
                    Err(e) => self.refuse(index, &e),
                }
            }
            Role::Control(decoder) => {
                if let Err(e) = decoder.feed(bytes) {
                    return self.refuse(index, &e);
                }
                self.requests(index);
            }
        }
    }

    fn greeted(&mut self, index: usize, hello: Hello, decoder: Decoder) {
        match hello {
            Hello::Control {} => {
                self.clients[index].role = Role::Control(decoder);
                self.requests(index);
            }
            Hello::Attach(attach) => {
                let exec = attach.exec.as_deref();
                if exec.is_some_and(|id| !self.execs.contains_key(id)) {
                    let failure = failure(format!("no exec {} here", exec.unwrap_or_default()));
                    let peer = &mut self.clients[index].peer;
                    peer.send(&[&encode(&serde_json::json!({ "error": failure }))]);
                    peer.closing = true;
                    return;
                }
                let input = decoder.into_rest();
                // Keys are typed at a terminal; in any other input the same bytes are data, as in Docker.
                let terminal = self.process(exec).is_some_and(|process| process.terminal);
                let keys = match terminal {
                    true => attach.detach_keys.clone(),
                    false => Vec::new(),
                };
                self.clients[index].role = Role::Attached {
                    detach: DetachKeys::new(keys),
                    attach,
                };
                self.clients[index].peer.send(&[b"{\"ok\":{}}\n"]);
                if self.status == Status::Exited {
                    self.clients[index].peer.closing = true;
                }
                if !input.is_empty() {
                    self.input(index, &input);
                }
            }
        }
    }

    fn requests(&mut self, index: usize) {
        loop {
            let Role::Control(decoder) = &mut self.clients[index].role else {
                return;
            };
            match decoder.next_value::<Request>() {
                Ok(None) => return,
                Ok(Some(request)) => {
                    let answer = match self.carry_out(request.action) {
                        Ok(ok) => FromShim::Ok { n: request.n, ok },
                        Err(error) => FromShim::Failed {
                            n: request.n,
                            error,
                        },
                    };
                    self.clients[index].peer.send(&[&encode(&answer)]);
                }
                Err(e) => return self.refuse(index, &e),
            }
        }
    }

    fn refuse(&mut self, index: usize, e: &crate::protocol::DecodeError) {
        eprintln!("shim: a client was dropped: {}", crate::chain(e));
        self.clients[index].peer.broken = true;
    }

    /// Input from an attached client to its process.
    fn input(&mut self, index: usize, bytes: &[u8]) {
        let Role::Attached { attach, detach } = &mut self.clients[index].role else {
            return;
        };
        if !attach.stdin {
            return;
        }
        let exec = attach.exec.clone();
        let (bytes, detached) = detach.filter(bytes);
        if let Some(input) = self
            .process(exec.as_deref())
            .and_then(|process| process.streams.input.as_mut())
        {
            input.push(&bytes);
        }
        if let Some(process) = self.process(exec.as_deref()) {
            process.streams.flush_input();
        }
        if detached {
            self.clients[index].peer.closing = true;
        }
    }

    /// A client sends no more. Its input's end is the process's when it was opened for one client only.
    fn client_ended(&mut self, index: usize) {
        let client = &mut self.clients[index];
        match &client.role {
            Role::New(_) | Role::Control(_) => client.peer.broken = true,
            Role::Attached { attach, .. } if attach.stdin => {
                let exec = attach.exec.clone();
                if let Some(process) = self.process(exec.as_deref())
                    && process.stdin_once
                {
                    process.close_input();
                }
            }
            Role::Attached { .. } => {}
        }
    }

    fn drop_clients(&mut self) {
        // One that neither reads nor writes any more shows only as POLLHUP, which a write would turn into EPIPE.
        self.clients.retain_mut(|client| {
            let done = client.peer.closing && client.peer.backlog() == 0;
            !(client.peer.broken || done || client.peer.read_ended && client.peer.hung_up())
        });
        let controlled = |client: &Client| matches!(client.role, Role::Control(_));
        if !self.clients.iter().any(controlled) {
            // Of an exec that was made and not started only the daemon knew that made it.
            self.execs.retain(|_, process| process.pending.is_none());
        }
    }

    fn tell(&mut self, event: Event) {
        let line = encode(&FromShim::Event { event });
        for client in &mut self.clients {
            if matches!(client.role, Role::Control(_)) {
                client.peer.send(&[&line]);
            }
        }
    }

    // --- requests -----------------------------------------------------------------------------------------

    fn carry_out(&mut self, action: Do) -> Result<Done, Failure> {
        match action {
            Do::Prepare {} => self.prepare(),
            Do::Create {} => self.create(),
            Do::Start {} => self.start(),
            Do::Restore { images } => self.restore(&images),
            Do::Checkpoint {
                images,
                leave_running,
            } => self.checkpoint(&images, leave_running),
            Do::ExecCreate(exec) => self.exec_create(*exec),
            Do::ExecStart { exec } => self.exec_start(&exec),
            Do::Signal { exec, signal, all } => self.signal(exec.as_deref(), signal, all),
            Do::Resize {
                exec,
                width,
                height,
            } => self.resize(exec.as_deref(), width, height),
            Do::Pause {} => {
                self.need(&[Status::Running], "pause")?;
                self.task.pause()?;
                self.status = Status::Paused;
                Ok(Done::Empty {})
            }
            Do::Resume {} => {
                self.need(&[Status::Paused], "resume")?;
                self.task.resume()?;
                self.status = Status::Running;
                Ok(Done::Empty {})
            }
            Do::Update { resources } => {
                self.task.update(&resources)?;
                Ok(Done::Empty {})
            }
            Do::CloseStdin { exec } => {
                self.process(exec.as_deref())
                    .ok_or_else(|| failure("no such exec".into()))?
                    .close_input();
                Ok(Done::Empty {})
            }
            Do::State {} => {
                // One that has ended a moment ago may be what the question is about.
                self.reap();
                Ok(Done::State(self.state()))
            }
            Do::Pids {} => Ok(Done::Pids {
                pids: self.task.pids()?,
            }),
            Do::Discard {} => {
                self.need(&[Status::New, Status::Created], "discard")?;
                self.give_up();
                Ok(Done::Empty {})
            }
        }
    }

    fn need(&self, statuses: &[Status], operation: &str) -> Result<(), Failure> {
        if statuses.contains(&self.status) {
            return Ok(());
        }
        Err(failure(format!(
            "cannot {operation} container {}: it is {:?}",
            self.id, self.status
        )))
    }

    fn state(&self) -> State {
        let ended = self.main.ended.is_some();
        State {
            status: if ended { Status::Exited } else { self.status },
            pid: self.main.pid,
            started_at: self.started_at.clone(),
            oom_killed: self.oom.told,
            execs: self
                .execs
                .iter()
                .filter(|(_, process)| process.ended.is_none())
                .filter_map(|(id, process)| Some((id.clone(), process.pid?)))
                .collect(),
        }
    }

    fn prepare(&mut self) -> Result<Done, Failure> {
        self.need(&[Status::New], "prepare")?;
        match self.task.prepare() {
            Ok(()) => Ok(Done::Empty {}),
            Err(e) => {
                self.give_up();
                Err(e.into())
            }
        }
    }

    fn create(&mut self) -> Result<Done, Failure> {
        self.need(&[Status::New], "create")?;
        self.open_log()?;
        match self.task.create() {
            Ok((pid, streams)) => {
                self.main.pid = Some(pid);
                self.main.streams = streams;
                self.status = Status::Created;
                self.watch_oom();
                Ok(Done::Created { pid })
            }
            Err(e) => {
                self.give_up();
                Err(e.into())
            }
        }
    }

    /// Before a process that writes to it is made.
    fn open_log(&mut self) -> Result<(), Failure> {
        match Log::open(&self.log_config) {
            Ok(log) => {
                self.log = log;
                Ok(())
            }
            Err(e) => {
                self.give_up();
                Err(e.into())
            }
        }
    }

    fn start(&mut self) -> Result<Done, Failure> {
        self.need(&[Status::Created], "start")?;
        match self.task.start() {
            Ok(()) => {
                let started_at = now();
                self.status = Status::Running;
                self.trim_at = Some(Instant::now() + QUIET);
                self.started_at = Some(started_at.clone());
                Ok(Done::Started { started_at })
            }
            Err(e) => {
                self.give_up();
                Err(e.into())
            }
        }
    }

    fn exec_create(&mut self, exec: ExecCreate) -> Result<Done, Failure> {
        self.need(&[Status::Running, Status::Paused], "exec in")?;
        if self.execs.contains_key(&exec.exec) {
            return Err(failure(format!("exec {} is there already", exec.exec)));
        }
        let process = Process {
            terminal: exec.process.terminal,
            // As Docker: an exec's input belongs to the one client that starts it.
            stdin_once: true,
            pending: Some(exec.clone()),
            ..Process::default()
        };
        self.execs.insert(exec.exec, process);
        Ok(Done::Empty {})
    }

    fn exec_start(&mut self, id: &str) -> Result<Done, Failure> {
        self.need(&[Status::Running], "exec in")?;
        let process = self
            .execs
            .get_mut(id)
            .ok_or_else(|| failure(format!("no exec {id} here")))?;
        let exec = process
            .pending
            .take()
            .ok_or_else(|| failure(format!("exec {id} has run already")))?;
        match self.task.exec(&exec) {
            Ok((pid, streams)) => {
                process.pid = Some(pid);
                process.streams = streams;
                self.trim_at = Some(Instant::now() + QUIET);
                Ok(Done::ExecStarted { pid })
            }
            Err(e) => {
                self.drain(Some(id));
                self.execs.remove(id);
                Err(e.into())
            }
        }
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32, all: bool) -> Result<Done, Failure> {
        if all {
            self.task.signal_all(signal)?;
            return Ok(Done::Empty {});
        }
        let process = match exec {
            None => Some(&self.main),
            Some(id) => self.execs.get(id),
        };
        let pid = process
            .filter(|process| process.ended.is_none())
            .and_then(|process| process.pid)
            .ok_or_else(|| failure("no such process: it has ended or was not started".into()))?;
        // The process is our unreaped child: its pid cannot be another's.
        self.task.signal(pid, signal)?;
        Ok(Done::Empty {})
    }

    /// A process without a terminal has no size, and nobody minds: so it is in containerd's shim, and clients count on it.
    fn resize(&mut self, exec: Option<&str>, width: u16, height: u16) -> Result<Done, Failure> {
        let process = self
            .process(exec)
            .ok_or_else(|| failure("no such exec".into()))?;
        if let Some(console) = &process.streams.console {
            hull_sys::pty::set_size(console.as_fd(), width, height)
                .map_err(|e| failure(format!("setting the terminal's size: {e}")))?;
        }
        Ok(Done::Empty {})
    }

    // --- ends ---------------------------------------------------------------------------------------------

    /// Reaps every child that has ended; orphans of the container come to us too, because we are their subreaper.
    fn reap(&mut self) {
        // While its cgroup may still be there.
        self.oom_ready();
        let _ = hull_sys::signal::read_signalfd(self.signals.as_fd());
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let ended = Ended::from(status);
            if self.main.pid == Some(pid) {
                self.main.ended = Some(ended);
            } else if let Some(process) = self.execs.values_mut().find(|p| p.pid == Some(pid)) {
                process.ended = Some(ended);
            }
        }
    }

    fn finish_ended(&mut self) {
        let ended: Vec<(String, i32)> = self
            .execs
            .iter()
            .filter_map(|(id, process)| Some((id.clone(), process.ended?.code)))
            .collect();
        for (exec, code) in ended {
            self.drain(Some(&exec));
            self.execs.remove(&exec);
            self.tell(Event::ExecExited { exec, code });
        }
        if let Some(ended) = self.main.ended
            && matches!(
                self.status,
                Status::Created | Status::Running | Status::Paused
            )
        {
            self.finish(ended);
        }
    }

    /// The container's end, in the order that the head of this file gives.
    fn finish(&mut self, ended: Ended) {
        self.drain(None);
        let oom_killed = self.oom_killed();
        let record = Exit {
            pid: self.main.pid.unwrap_or(0),
            code: ended.code,
            signal: ended.signal,
            oom_killed,
            finished_at: now(),
        };
        if let Err(e) = exit::write(&self.folder, &record) {
            eprintln!("shim: writing the exit record: {e}");
        }
        self.status = Status::Exited;
        self.tell(Event::Exited(record));
        if let Err(e) = self.task.remove() {
            eprintln!("shim: {}", crate::chain(&e));
        }
        // The rest of the container was killed with its cgroup: execs too.
        self.reap();
        let execs: Vec<String> = self.execs.keys().cloned().collect();
        for exec in execs {
            self.drain(Some(&exec));
            let code = self.execs.remove(&exec).and_then(|process| process.ended);
            self.tell(Event::ExecExited {
                exec,
                code: code.map_or(137, |ended| ended.code),
            });
        }
        self.linger_until = Some(Instant::now() + LINGER);
    }

    /// Undoes what was made of a container that never ran.
    fn give_up(&mut self) {
        if let Err(e) = self.task.remove() {
            eprintln!("shim: {}", crate::chain(&e));
        }
        self.drain(None);
        self.status = Status::Exited;
        self.linger_until = Some(Instant::now() + LINGER);
    }
}

impl Process {
    fn close_input(&mut self) {
        if let Some(input) = &mut self.streams.input {
            input.close();
        }
        self.streams.flush_input();
    }
}

impl Client {
    fn is_attached_to(&self, exec: Option<&str>) -> bool {
        matches!(&self.role, Role::Attached { attach, .. } if attach.exec.as_deref() == exec)
    }
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        let signal = status.terminating_signal();
        Self {
            code: status
                .exit_status()
                .or(signal.map(|signal| 128 + signal))
                .unwrap_or(255),
            signal,
        }
    }
}

fn failure(message: String) -> Failure {
    Failure {
        message,
        init: None,
    }
}
