//! What the daemon and a shim say to each other: types, and the line codec. Pure.
//!
//! A connection is a stream of lines, each one JSON value. The first line from the daemon is a [`Hello`];
//! after it a control connection carries [`Request`]s one way and [`FromShim`] the other, and an attach
//! connection, once answered with an empty `ok`, stops being lines (see docs/interfaces.md).

use std::path::PathBuf;

use hull_oci::runtime::{Mount, Process, Resources};
use serde::{Deserialize, Serialize};

/// Longest line that either side accepts, in bytes: a process with a large environment fits, an endless line does not.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// The descriptor at which a new shim finds its first control connection: its standard input, because that is the one
/// descriptor besides 1 and 2 that `std::process::Command` puts in place in the child without unsafe code and without a
/// moment in which another child could inherit it. The shim moves it away and puts /dev/null there. Standard error is a
/// file in the shim's folder; the shim calls setsid(2) itself.
pub const CONTROL_FD: i32 = 0;

/// What a shim reads from `shim.json` in its folder: all it needs before the first request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The container's id, 64 hex digits.
    pub id: String,
    /// The OCI bundle (`config.json` lies in it).
    pub bundle: PathBuf,
    /// Where the runtime keeps its records: `<exec-root>/runtime`.
    pub state_root: PathBuf,
    /// The root file system, to be mounted by the shim without a mount point; empty: the spec's `root.path` as it is.
    pub rootfs: Vec<Mount>,
    /// The process gets a pseudo-terminal instead of pipes.
    pub terminal: bool,
    /// Keep the process's standard input open for attached clients.
    pub open_stdin: bool,
    /// Close it when the first attached client that brought input leaves.
    pub stdin_once: bool,
    /// Which program makes the container.
    pub runtime: Runtime,
    /// Who makes the cgroup.
    pub cgroup_manager: CgroupManager,
    /// Where the output goes.
    pub log: LogConfig,
}

/// Which OCI runtime the shim uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// `hull_runtime`, called as a library.
    #[default]
    Internal,
    /// Another program with runc's command line (`--add-runtime`).
    External {
        /// The program.
        path: PathBuf,
        /// Its global arguments, before the command.
        args: Vec<String>,
    },
}

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupManager {
    /// The runtime, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, as a transient scope.
    Systemd,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, `syslog`, `journald`, `gelf` or `fluentd`.
    pub driver: String,
    /// The log file; for a driver that forwards, the copy that is kept here for reading (none: `cache-disabled`).
    pub path: Option<PathBuf>,
    /// The driver's options as given (`max-size`, `max-file`, `compress`, `labels`, `env`, `tag`, ...), already validated.
    pub options: std::collections::BTreeMap<String, String>,
    /// The container as the log shows it.
    pub info: crate::forward::Info,
    /// The journal's socket, for `journald`.
    #[serde(default = "journal")]
    pub journal: PathBuf,
}

/// Where systemd's journal listens.
pub fn journal() -> PathBuf {
    PathBuf::from("/run/systemd/journal/socket")
}

/// The first line of a connection: what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hello {
    /// Requests, answers and events.
    Control {},
    /// The streams of the container's first process, or of an exec.
    Attach(Attach),
}

/// Which streams an attach connection carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attach {
    /// The exec; none: the container's first process.
    #[serde(default)]
    pub exec: Option<String>,
    /// The client brings input.
    #[serde(default)]
    pub stdin: bool,
    /// The client wants standard output.
    #[serde(default)]
    pub stdout: bool,
    /// The client wants standard error.
    #[serde(default)]
    pub stderr: bool,
    /// The keys that detach, as bytes; empty: none.
    #[serde(default)]
    pub detach_keys: Vec<u8>,
}

/// A request on a control connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon, comes back in the answer.
    pub n: u64,
    /// What to do.
    #[serde(rename = "do")]
    pub action: Do,
}

/// What a daemon can ask of a shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Do {
    /// Make what needs none of the namespaces that the container joins, while they are made. Answer: [`Done::Empty`].
    Prepare {},
    /// Make the container: everything but the user's program. Answer: [`Done::Created`].
    Create {},
    /// Run the user's program. Answer: [`Done::Started`], once execve has happened.
    Start {},
    /// Instead of both: make the container from a checkpoint. Answer: [`Done::Restored`]; it runs.
    Restore {
        /// Directory of the images.
        images: PathBuf,
    },
    /// Save the container's processes. Answer: [`Done::Empty`]. They have ended then, unless they are left running.
    Checkpoint {
        /// Directory for the images.
        images: PathBuf,
        /// They go on.
        leave_running: bool,
    },
    /// Make an exec: a further process, whose streams can be attached before it starts. Answer: [`Done::Empty`].
    ExecCreate(Box<ExecCreate>),
    /// Start an exec made before. Answer: [`Done::ExecStarted`].
    ExecStart {
        /// The exec.
        exec: String,
    },
    /// Send a signal. Answer: [`Done::Empty`].
    Signal {
        /// The exec; none: the container's first process.
        #[serde(default)]
        exec: Option<String>,
        /// The signal's number.
        signal: i32,
        /// To every process of the container.
        #[serde(default)]
        all: bool,
    },
    /// Set a terminal's size, in characters.
    Resize {
        /// The exec; none: the container's first process.
        #[serde(default)]
        exec: Option<String>,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Freeze the container's cgroup.
    Pause {},
    /// Thaw it.
    Resume {},
    /// Set resource limits.
    Update {
        /// The whole of the new limits.
        resources: Box<Resources>,
    },
    /// Close the standard input, as if its last client had left.
    CloseStdin {
        /// The exec; none: the container's first process.
        #[serde(default)]
        exec: Option<String>,
    },
    /// What the shim holds now. Answer: [`Done::State`].
    State {},
    /// The container's processes. Answer: [`Done::Pids`].
    Pids {},
    /// Give up a container that was created and never started: kill init, remove its cgroup, leave. Answer: [`Done::Empty`].
    Discard {},
}

/// An exec to be made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ExecCreate {
    /// Its id, 64 hex digits.
    pub exec: String,
    /// What to run (`terminal` and `console_size` included).
    pub process: Process,
    /// Keep its standard input open for attached clients.
    pub open_stdin: bool,
    /// Nobody will attach: its output is dropped.
    pub detached: bool,
}

/// What a shim says on a control connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromShim {
    /// The answer to request `n`: done.
    Ok {
        /// The request's number.
        n: u64,
        /// What came of it.
        ok: Done,
    },
    /// The answer to request `n`: not done.
    Failed {
        /// The request's number.
        n: u64,
        /// Why.
        error: Failure,
    },
    /// Something happened.
    Event {
        /// What.
        event: Event,
    },
}

/// The answer to a request that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Nothing more to say.
    Empty {},
    /// The container is made and waits for `start`.
    Created {
        /// Process id of init, in the shim's pid namespace.
        pid: i32,
    },
    /// The user's program runs.
    Started {
        /// When, RFC 3339 with nanoseconds, UTC.
        started_at: String,
    },
    /// The container runs, from a checkpoint.
    Restored {
        /// Process id of init, in the shim's pid namespace.
        pid: i32,
        /// When, RFC 3339 with nanoseconds, UTC.
        started_at: String,
    },
    /// The exec's program runs.
    ExecStarted {
        /// Its process id, in the shim's pid namespace.
        pid: i32,
    },
    /// What the shim holds.
    State(State),
    /// The container's processes.
    Pids {
        /// In the shim's pid namespace.
        pids: Vec<i32>,
    },
}

/// What a shim holds: enough for a new daemon to take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far the container is.
    pub status: Status,
    /// Process id of init, once created.
    pub pid: Option<i32>,
    /// When the user's program started.
    pub started_at: Option<String>,
    /// The kernel has killed a process of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Execs that run: id and process id.
    pub execs: Vec<(String, i32)>,
}

/// How far a shim's container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing made yet.
    New,
    /// Made, not started.
    Created,
    /// The user's program runs.
    Running,
    /// Frozen.
    Paused,
    /// It ended; the record is in `exit.json`.
    Exited,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A sentence: operation, object, cause.
    pub message: String,
    /// Where init failed, when it was init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitFailure>,
}

/// A failed step of init, as data: exit codes 126 and 127 come from here and not from matching text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFailure {
    /// The step's name, for instance `exec` or `mount`; `log` when it was the log and not init.
    pub step: String,
    /// The path that it was about.
    pub path: Option<String>,
    /// The system call's error number.
    pub errno: i32,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first process ended. `exit.json` holds the same, and was on disk before this was sent.
    Exited(Exit),
    /// An exec ended.
    ExecExited {
        /// The exec.
        exec: String,
        /// 0-255; 128+n for a signal.
        code: i32,
    },
    /// The kernel killed a process of the container for want of memory.
    Oom {},
}

/// How a container ended; the content of `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Process id that it had.
    pub pid: i32,
    /// 0-255; 128+n for a signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// When, RFC 3339 with nanoseconds, UTC.
    pub finished_at: String,
}

/// One value as a line.
///
/// # Panics
/// Never: the types of this module always serialize.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("protocol types have string keys only");
    line.push(b'\n');
    line
}

/// Why bytes are not a line of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The line does not end.
    #[error("a line of the shim protocol is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The line is not the JSON that was expected.
    #[error("a line of the shim protocol is malformed")]
    Malformed(#[from] serde_json::Error),
}

/// Collects bytes and gives back whole lines.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    searched: usize,
}

impl Decoder {
    /// Adds bytes that have arrived.
    ///
    /// # Errors
    /// When more than [`LINE_BYTES_MAX`] bytes have come without a line's end.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() - self.searched > LINE_BYTES_MAX && !self.buffer.contains(&b'\n') {
            return Err(DecodeError::TooLong);
        }
        Ok(())
    }

    /// The next whole line as a value, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the line is not the JSON of a `T`.
    pub fn next_value<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, DecodeError> {
        let Some(at) = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
        self.searched = 0;
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// Bytes that came after the last line: on an attach connection they are already input.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_wire_in_pieces() {
        let said = [
            FromShim::Ok {
                n: 1,
                ok: Done::Created { pid: 7 },
            },
            FromShim::Event {
                event: Event::Exited(Exit {
                    pid: 7,
                    code: 137,
                    signal: Some(9),
                    oom_killed: true,
                    finished_at: "2026-01-01T00:00:00Z".into(),
                }),
            },
            FromShim::Failed {
                n: 2,
                error: Failure {
                    message: "no".into(),
                    init: Some(InitFailure {
                        step: "exec".into(),
                        path: Some("/nope".into()),
                        errno: 2,
                    }),
                },
            },
        ];
        let wire: Vec<u8> = said.iter().flat_map(encode).collect();
        for size in 1..wire.len() {
            let mut decoder = Decoder::default();
            let mut heard = Vec::new();
            for piece in wire.chunks(size) {
                decoder.feed(piece).unwrap();
                while let Some(value) = decoder.next_value::<FromShim>().unwrap() {
                    heard.push(value);
                }
            }
            assert_eq!(heard, said);
        }
    }

    #[test]
    fn input_behind_the_first_line_is_kept() {
        let mut decoder = Decoder::default();
        decoder
            .feed(b"{\"attach\":{\"stdin\":true}}\nraw input")
            .unwrap();
        let hello: Hello = decoder.next_value().unwrap().unwrap();
        assert!(matches!(hello, Hello::Attach(attach) if attach.stdin && !attach.stdout));
        assert_eq!(decoder.into_rest(), b"raw input");
    }

    proptest::proptest! {
        /// Whatever a client sends, in whatever pieces: values, or a refusal; and no line is read twice.
        #[test]
        fn any_bytes_are_read_or_refused(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..8),
        ) {
            let mut decoder = Decoder::default();
            let lines = pieces.concat().iter().filter(|byte| **byte == b'\n').count();
            let mut taken = 0;
            for piece in &pieces {
                decoder.feed(piece).unwrap();
                while !matches!(decoder.next_value::<Hello>(), Ok(None)) {
                    taken += 1;
                }
            }
            proptest::prop_assert_eq!(taken, lines);
        }
    }
}
