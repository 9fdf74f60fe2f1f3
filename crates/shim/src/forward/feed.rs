//! The pipe from a shim to its log process: chunks as they were read from the container.
//!
//! A chunk is stream (1 byte), nanoseconds since 1970 (i64), length (u32, both little-endian) and the bytes; without bytes it is the
//! stream's end. The shim never waits: what the pipe does not take is kept here, and the container's output is not read while
//! it is ([`Feed::is_behind`]), so that a server which is slow slows the container, unless `mode=non-blocking`.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::logfile::Stream;

/// Stream, time and length.
const HEAD_BYTES: usize = 13;
/// Longest chunk taken from the pipe: the shim reads less at once.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// How long the log process may take to reach its server.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A log process that ended is started again, this often at most.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which.
    pub stream: Stream,
    /// When they were read.
    pub time: Timestamp,
    /// None: the stream has ended.
    pub bytes: Vec<u8>,
}

/// The next chunk; none at the end, and when what comes is no chunk.
pub fn read_chunk(input: &mut impl Read) -> Option<Chunk> {
    let mut head = [0; HEAD_BYTES];
    input.read_exact(&mut head).ok()?;
    let stream = match head[0] {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    let nanos = i64::from_le_bytes(head[1..9].try_into().ok()?);
    let length = u32::from_le_bytes(head[9..].try_into().ok()?) as usize;
    if length > CHUNK_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).ok()?;
    Some(Chunk {
        stream,
        time: Timestamp::from_nanosecond(i128::from(nanos)).ok()?,
        bytes,
    })
}

/// The shim's end.
#[derive(Debug)]
pub struct Feed {
    /// None: the log process has ended.
    pipe: Option<ChildStdin>,
    pid: i32,
    started: Instant,
    waiting: Vec<u8>,
    written: usize,
}

impl Feed {
    /// Starts the log process of the shim whose folder is the working directory, and waits until it has reached its server.
    ///
    /// # Errors
    /// What the driver says.
    pub fn start() -> io::Result<Self> {
        let (mut feed, mut said) = Self::spawn(Stdio::piped())?;
        let answer = match &mut said {
            Some(said) => answer(said)?,
            None => String::new(),
        };
        if answer != "ok" {
            feed.pipe = None;
            let why = if answer.is_empty() {
                "the log process ended at once"
            } else {
                &answer
            };
            return Err(io::Error::other(why.to_owned()));
        }
        Ok(feed)
    }

    fn spawn(stdout: Stdio) -> io::Result<(Self, Option<std::process::ChildStdout>)> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("hull-shim")
            .args(["shim", "log"])
            .stdin(Stdio::piped())
            .stdout(stdout)
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
        let feed = Self {
            pipe: Some(pipe),
            pid: i32::try_from(child.id()).unwrap_or(0),
            started: Instant::now(),
            waiting: Vec::new(),
            written: 0,
        };
        Ok((feed, child.stdout.take()))
    }

    /// Takes bytes as they were read from the process, or with none the stream's end.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.pipe.is_none() && self.started.elapsed() >= RESTART_PAUSE {
            match Self::spawn(Stdio::null()) {
                Ok((again, _)) => *self = again,
                Err(e) => eprintln!("shim: starting the log process again: {e}"),
            }
        }
        if self.pipe.is_none() {
            return;
        }
        let nanos = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.waiting.push(stream.number());
        self.waiting.extend(nanos.to_le_bytes());
        self.waiting.extend(length.to_le_bytes());
        self.waiting.extend_from_slice(bytes);
        self.flush();
    }

    /// Writes what the pipe takes now.
    pub fn flush(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        while self.written < self.waiting.len() {
            match pipe.write(&self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    eprintln!("shim: the log process has ended: {e}");
                    self.pipe = None;
                    break;
                }
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
    }

    /// Does something wait for the pipe?
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The pipe, to be polled for room.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// No more will be written: once all is out the pipe is closed, and the log process ends when it has sent the rest.
    /// True: it has ended, or will without us.
    pub fn finish(&mut self) -> bool {
        self.flush();
        if !self.is_behind() {
            self.pipe = None;
        }
        // Reaped by the monitor, which waits for every child; until then the number is this process's.
        self.pipe.is_none() && !is_running(self.pid)
    }
}

fn is_running(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// All that `said` says until its end, within the time.
fn answer(said: &mut std::process::ChildStdout) -> io::Result<String> {
    const ANSWER_BYTES_MAX: u64 = 4 << 10;
    let until = Instant::now() + START_TIMEOUT;
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&*said, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the log server does not answer",
            ));
        }
        match said.read(&mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend_from_slice(&buffer[..count]),
        }
        if text.len() as u64 > ANSWER_BYTES_MAX {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}
