//! The standard streams of one process, and the clients attached to them.
//!
//! Output goes to the log and to every attached client. A client that does not read fills its own bounded buffer, and then the
//! process's pipe is no longer read, so nothing is lost; that is Docker's behaviour too. Once the process has ended, its output is
//! read to the end whatever the clients do.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::logfile::Stream;

/// Output waiting for one client, in bytes; beyond this the process waits.
pub const CLIENT_BUFFER_BYTES_MAX: usize = 1 << 20;
/// Input waiting for the process, in bytes; beyond this its clients are not read.
pub const INPUT_BUFFER_BYTES_MAX: usize = 64 << 10;

/// One output of a process: a pipe's end, or the terminal.
#[derive(Debug)]
pub struct Output {
    /// Which.
    pub stream: Stream,
    fd: OwnedFd,
}

impl Output {
    /// Takes over `fd`, which no longer blocks from now on.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be set.
    pub fn new(stream: Stream, fd: OwnedFd) -> io::Result<Self> {
        nonblocking(&fd)?;
        Ok(Self { stream, fd })
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// None that matters: a terminal whose processes have gone (EIO) has ended.
    pub fn read(&self, buffer: &mut [u8]) -> Reading {
        match rustix::io::read(&self.fd, buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => Reading::Ended,
            Ok(count) => Reading::Bytes(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Reading::Nothing,
            Err(_) => Reading::Ended,
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    Ended,
}

/// The standard input of a process.
#[derive(Debug)]
pub struct Input {
    fd: OwnedFd,
    waiting: VecDeque<u8>,
    /// Close when `waiting` is written.
    closing: bool,
    terminal: bool,
}

impl Input {
    /// Takes over `fd`, which no longer blocks from now on.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be set.
    pub fn new(fd: OwnedFd, terminal: bool) -> io::Result<Self> {
        nonblocking(&fd)?;
        Ok(Self {
            fd,
            waiting: VecDeque::new(),
            closing: false,
            terminal,
        })
    }

    /// Is there room for more?
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.closing && self.waiting.len() < INPUT_BUFFER_BYTES_MAX
    }

    /// Is something waiting to be written?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds input; [`Input::flush`] writes it.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.closing {
            self.waiting.extend(bytes);
        }
    }

    /// The end of the input: closed once all before it is written. A terminal has no end of input.
    pub fn close(&mut self) {
        self.closing = !self.terminal;
    }

    /// Writes what the process takes now. False: the input is over, drop this.
    pub fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.fd, self.waiting.as_slices().0) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return true,
                // The process has closed its input, or gone: what it did not want is dropped, as by a closed pipe.
                Err(_) => return false,
            }
        }
        !self.closing
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The standard streams of one process.
#[derive(Debug, Default)]
pub struct Streams {
    /// Open outputs.
    pub outputs: Vec<Output>,
    /// Open input.
    pub input: Option<Input>,
    /// The terminal's master, for its size.
    pub console: Option<OwnedFd>,
}

/// The process's ends, to be given to the runtime.
#[derive(Debug)]
pub struct ProcessEnds {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

impl Streams {
    /// Pipes: ours, and the process's.
    ///
    /// # Errors
    /// When the kernel has no more descriptors.
    pub fn pipes(open_stdin: bool, dropped: bool) -> io::Result<(Self, ProcessEnds)> {
        use rustix::fs::Mode;
        use rustix::pipe::{PipeFlags, pipe_with};
        let null = || {
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from)
        };
        let mut streams = Self::default();
        let stdin = if open_stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            streams.input = Some(Input::new(ours, false)?);
            theirs
        } else {
            null()?
        };
        if dropped {
            let ends = ProcessEnds {
                stdin,
                stdout: null()?,
                stderr: null()?,
            };
            return Ok((streams, ends));
        }
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        streams.outputs = vec![
            Output::new(Stream::Stdout, out)?,
            Output::new(Stream::Stderr, err)?,
        ];
        Ok((
            streams,
            ProcessEnds {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    /// A terminal's master.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn terminal(master: OwnedFd, open_stdin: bool) -> io::Result<Self> {
        let output = Output::new(Stream::Stdout, master.try_clone()?)?;
        let input = if open_stdin {
            Some(Input::new(master.try_clone()?, true)?)
        } else {
            None
        };
        Ok(Self {
            outputs: vec![output],
            input,
            console: Some(master),
        })
    }

    /// The next bytes of output `index`; an ended output is removed.
    pub fn read(&mut self, index: usize, buffer: &mut [u8]) -> (Stream, Reading) {
        let stream = self.outputs[index].stream;
        let reading = self.outputs[index].read(buffer);
        if reading == Reading::Ended {
            self.outputs.remove(index);
        }
        (stream, reading)
    }

    /// Writes waiting input; forgets an input that is over.
    pub fn flush_input(&mut self) {
        if let Some(input) = &mut self.input
            && !input.flush()
        {
            self.input = None;
        }
    }
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    Ok(())
}

/// A client's socket with what waits to be written to it.
#[derive(Debug)]
pub struct Peer {
    socket: std::os::unix::net::UnixStream,
    waiting: Vec<u8>,
    written: usize,
    /// Nothing more comes from it.
    pub read_ended: bool,
    /// It is gone, or to be let go at once.
    pub broken: bool,
    /// Let it go when all is written.
    pub closing: bool,
}

impl Peer {
    /// Has the other side closed both ways?
    pub fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().contains(PollFlags::HUP))
    }

    /// Takes over `socket`, which no longer blocks from now on.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be set.
    pub fn new(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            waiting: Vec::new(),
            written: 0,
            read_ended: false,
            broken: false,
            closing: false,
        })
    }

    /// Bytes not yet written.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Adds bytes and writes what can be written at once.
    pub fn send(&mut self, parts: &[&[u8]]) {
        if self.broken {
            return;
        }
        for part in parts {
            self.waiting.extend_from_slice(part);
        }
        self.flush();
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        while self.backlog() > 0 && !self.broken {
            match self.socket.write(&self.waiting[self.written..]) {
                Ok(0) => self.broken = true,
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        if self.backlog() == 0 {
            self.written = 0;
            if self.waiting.capacity() > 16 << 10 {
                self.waiting = Vec::new();
            } else {
                self.waiting.clear();
            }
        } else if self.written > CLIENT_BUFFER_BYTES_MAX {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> Reading {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.read_ended = true;
                Reading::Ended
            }
            Ok(count) => Reading::Bytes(count),
            Err(e)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&e.kind()) =>
            {
                Reading::Nothing
            }
            Err(_) => {
                self.broken = true;
                self.read_ended = true;
                Reading::Ended
            }
        }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Finds the detach keys in a client's input, which may come byte by byte.
#[derive(Debug, Default)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Looks for `keys`; with none, nothing detaches.
    #[must_use]
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of `bytes` is input for the process, and whether the keys were completed. Keys begun and not
    /// completed are input after all, as in Docker's escape proxy.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut input = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte != self.keys[self.matched] {
                input.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (input, true);
                }
            } else {
                input.push(*byte);
            }
        }
        (input, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads() {
        let keys = vec![16, 17];
        for pieces in [vec![&b"a\x10\x11rest"[..]], vec![b"a\x10", b"\x11rest"]] {
            let mut detach = DetachKeys::new(keys.clone());
            let mut input = Vec::new();
            let mut found = false;
            for piece in pieces {
                let (bytes, done) = detach.filter(piece);
                input.extend(bytes);
                found |= done;
                if done {
                    break;
                }
            }
            assert!(found);
            assert_eq!(input, b"a");
        }
    }

    #[test]
    fn keys_begun_and_left_are_input() {
        let mut detach = DetachKeys::new(vec![16, 17]);
        assert_eq!(detach.filter(b"x\x10y"), (b"x\x10y".to_vec(), false));
        assert_eq!(detach.filter(b"\x10"), (vec![], false));
        assert_eq!(detach.filter(b"\x10\x11"), (vec![16], true));
    }

    #[test]
    fn without_keys_all_is_input() {
        let mut detach = DetachKeys::new(Vec::new());
        assert_eq!(detach.filter(b"\x10\x11"), (vec![16, 17], false));
    }
}
