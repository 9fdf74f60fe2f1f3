//! `process.terminal` and `--console-socket`.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use crate::subject::Case;

/// The descriptor that a runtime sends over its console socket.
fn receive(stream: &UnixStream) -> OwnedFd {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("set a deadline");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    rustix::net::recvmsg(
        stream,
        &mut [std::io::IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("receive the terminal");
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .expect("a descriptor in the message")
}

/// Creates and starts the container with a terminal; what comes out of it until it closes.
fn session(case: &Case, input: &str) -> String {
    let path = case.root.join("console.sock");
    let listener = UnixListener::bind(&path).expect("bind the console socket");
    let create = case.call([
        "create",
        "--console-socket",
        &path.to_string_lossy(),
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ]);
    create.ok();
    let (stream, _) = listener.accept().expect("the runtime connects");
    let mut terminal = std::fs::File::from(receive(&stream));
    terminal.write_all(input.as_bytes()).expect("type");
    case.start();
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    // The end of a terminal whose other side is gone is EIO.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        output.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&output).replace("\r\n", "\n")
}

fn with_terminal(script: &str) -> Case {
    Case::script(script).edit(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    })
}

#[test]
fn a_terminal_is_handed_over() {
    let case = with_terminal(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo yes; stty size; ls -l /dev/console | cut -c1",
    );
    let output = session(&case, "");
    let lines: Vec<&str> = output.lines().collect();
    assert!(
        lines[0].starts_with("/dev/pts/") || lines[0] == "/dev/console",
        "{output}"
    );
    assert_eq!(lines[1..], ["yes", "33 99", "c"], "{output}");
}

#[test]
fn what_is_typed_arrives() {
    let case = with_terminal("stty -echo; read line; echo \"<$line>\"");
    assert!(session(&case, "hello\n").contains("<hello>"));
}

#[test]
fn the_terminal_is_the_controlling_one() {
    // Field 7 of proc_pid_stat(5) is the controlling terminal; /dev/tty opens only when there is one.
    let case = with_terminal("cut -d' ' -f7 /proc/self/stat; echo written > /dev/tty");
    let output = session(&case, "");
    let lines: Vec<&str> = output.lines().collect();
    assert_ne!(lines[0], "0", "{output}");
    assert_eq!(lines[1], "written", "{output}");
}
