//! A daemon on another machine: `ssh HOST hull system dial-stdio` carries the connection on its stdin and stdout.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The stdio of the ssh program, which ends with it.
#[derive(Debug)]
pub struct SshStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _child: Child,
}

/// Runs Hull's `dial-stdio` there, or Docker's where there is no Hull.
pub fn start(
    user: Option<&str>,
    host: &str,
    port: Option<&str>,
    path: &str,
) -> io::Result<SshStream> {
    let mut command = Command::new("ssh");
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", port]);
    }
    command.args(["-o", "ConnectTimeout=30", "-T", "--", host]);
    let socket = if path.is_empty() {
        String::new()
    } else {
        format!(" --host {}", quote(&format!("unix://{path}")))
    };
    command.arg(format!(
        "if command -v hull >/dev/null 2>&1; then exec hull{socket} system dial-stdio; else exec docker{socket} system dial-stdio; fi"
    ));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("ssh has no stdio");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    Ok(SshStream {
        stdin: Some(stdin),
        stdout,
        _child: child,
    })
}

/// Quotes for the remote shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl AsyncRead for SshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is the half-close that dial-stdio passes on.
        self.get_mut().stdin = None;
        Poll::Ready(Ok(()))
    }
}
