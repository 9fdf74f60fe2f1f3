//! What init and its caller say to each other: one datagram per message over a socket pair.
//!
//! Init to caller: `E` an error (step index, errno, path, detail), `H` run the host hooks of a step, `C` the
//! terminal's master, `N` the number of the seccomp listener's descriptor, `R` ready. Caller to init: `G` go on,
//! with the pid that the caller sees. End of file without an error after `R` means that execve happened: the
//! socket is close-on-exec.
//!
//! Where no descriptor crosses, init speaks by write(2) and listens by read(2): what every filter allows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_sys::{Errno, fdpass};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Longest message.
const MESSAGE_MAX: usize = 8192;
/// Longest path or detail that crosses.
const TEXT_MAX: usize = 2048;

/// A message of init.
#[derive(Debug)]
pub(crate) enum FromInit {
    /// A step failed.
    Error(Fault),
    /// Run the hooks of this step and answer.
    Hooks {
        /// Index of the step.
        step: usize,
    },
    /// The terminal's master.
    Console(OwnedFd),
    /// Its seccomp listener is this descriptor of its own.
    Listener(i32),
    /// Everything is prepared.
    Ready,
    /// The socket closed.
    Closed,
}

/// A failing step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Index of the step.
    pub step: usize,
    /// The kernel's answer.
    pub errno: i32,
    /// The object.
    pub path: String,
    /// More.
    pub detail: String,
}

/// The pair: the caller's end and init's.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Tells init to go on.
pub(crate) fn go(socket: BorrowedFd<'_>, pid: i32) -> Result<(), Errno> {
    let mut message = [b'G', 0, 0, 0, 0];
    message[1..].copy_from_slice(&pid.to_ne_bytes());
    fdpass::send(socket, &message, &[]).map(|_| ())
}

/// Waits for [`go`]; the pid that the caller sees.
///
/// # Errors
/// `ECONNRESET` when the caller is gone.
pub(crate) fn await_go(socket: BorrowedFd<'_>) -> Result<i32, Errno> {
    let mut buffer = [0; 16];
    let n = loop {
        match rustix::io::read(socket, &mut buffer) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    match n {
        5 if buffer[0] == b'G' => Ok(i32::from_ne_bytes([
            buffer[1], buffer[2], buffer[3], buffer[4],
        ])),
        _ => Err(Errno::CONNRESET),
    }
}

/// Sends a message of one letter with a number: a step's index, or nothing.
pub(crate) fn send(socket: BorrowedFd<'_>, letter: u8, number: usize) -> Result<(), Errno> {
    let mut message = [letter, 0, 0];
    message[1..].copy_from_slice(&(number as u16).to_ne_bytes());
    write(socket, &message)
}

/// Sends the terminal's master.
pub(crate) fn send_console(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Errno> {
    fdpass::send(socket, b"C", &[master]).map(|_| ())
}

/// Tells which of init's descriptors is its seccomp listener.
pub(crate) fn send_listener(socket: BorrowedFd<'_>, fd: i32) -> Result<(), Errno> {
    let mut message = [b'N', 0, 0, 0, 0];
    message[1..].copy_from_slice(&fd.to_ne_bytes());
    write(socket, &message)
}

/// One datagram. SIGPIPE is ignored, as in every Rust program, until just before execve.
fn write(socket: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(socket, message) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// Sends a failure.
pub(crate) fn send_fault(socket: BorrowedFd<'_>, fault: &Fault) -> Result<(), Errno> {
    let mut message = vec![b'E'];
    message.extend_from_slice(&(fault.step as u16).to_ne_bytes());
    message.extend_from_slice(&fault.errno.to_ne_bytes());
    let path = clip(&fault.path);
    message.extend_from_slice(&(path.len() as u16).to_ne_bytes());
    message.extend_from_slice(path);
    message.extend_from_slice(clip(&fault.detail));
    write(socket, &message)
}

fn clip(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(TEXT_MAX)]
}

/// Receives the next message of init.
///
/// # Errors
/// Those of recvmsg(2); `EPROTO` for nonsense (the other side is the container's init before its exec: it is
/// ours, but nothing is taken on trust).
pub(crate) fn receive(socket: impl AsFd) -> Result<FromInit, Errno> {
    let mut buffer = [0; MESSAGE_MAX];
    let mut received = fdpass::recv(socket.as_fd(), &mut buffer);
    if received.as_ref().err() == Some(&Errno::CONNRESET) {
        // Init closed with a word of ours unread. That is told once, before what it said last.
        received = fdpass::recv(socket.as_fd(), &mut buffer);
    }
    let (n, mut fds) = match received {
        Err(Errno::CONNRESET) => return Ok(FromInit::Closed),
        other => other?,
    };
    let message = &buffer[..n];
    let step = || match message {
        [_, a, b, ..] => Ok(u16::from_ne_bytes([*a, *b]) as usize),
        _ => Err(Errno::PROTO),
    };
    match message.first() {
        None => Ok(FromInit::Closed),
        Some(b'R') => Ok(FromInit::Ready),
        Some(b'H') => Ok(FromInit::Hooks { step: step()? }),
        Some(b'C') => Ok(FromInit::Console(fds.pop().ok_or(Errno::PROTO)?)),
        Some(b'N') => match message {
            [_, a, b, c, d] => Ok(FromInit::Listener(i32::from_ne_bytes([*a, *b, *c, *d]))),
            _ => Err(Errno::PROTO),
        },
        Some(b'E') => fault(step()?, message.get(3..).unwrap_or(&[])),
        Some(_) => Err(Errno::PROTO),
    }
}

fn fault(step: usize, rest: &[u8]) -> Result<FromInit, Errno> {
    let [a, b, c, d, e, f, texts @ ..] = rest else {
        return Err(Errno::PROTO);
    };
    let length = u16::from_ne_bytes([*e, *f]) as usize;
    let (path, detail) = texts.split_at_checked(length).ok_or(Errno::PROTO)?;
    Ok(FromInit::Error(Fault {
        step,
        errno: i32::from_ne_bytes([*a, *b, *c, *d]),
        path: String::from_utf8_lossy(path).into_owned(),
        detail: String::from_utf8_lossy(detail).into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_crosses_whole_and_the_end_is_seen() {
        let (a, b) = pair().unwrap();
        let sent = Fault {
            step: 7,
            errno: 2,
            path: "/x/ü".into(),
            detail: "why".into(),
        };
        go(a.as_fd(), 1).unwrap();
        send_fault(b.as_fd(), &sent).unwrap();
        // With a word unread.
        drop(b);
        match receive(&a).unwrap() {
            FromInit::Error(got) => assert_eq!(got, sent),
            other => panic!("{other:?}"),
        }
        assert!(matches!(receive(&a).unwrap(), FromInit::Closed));
    }

    #[test]
    fn go_carries_the_pid() {
        let (a, b) = pair().unwrap();
        go(a.as_fd(), 4711).unwrap();
        assert_eq!(await_go(b.as_fd()), Ok(4711));
        drop(a);
        assert_eq!(await_go(b.as_fd()), Err(Errno::CONNRESET));
    }
}
