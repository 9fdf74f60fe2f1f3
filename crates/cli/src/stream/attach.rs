//! A hijacked connection between the terminal and a container's process.

use super::detach::{self, Seen, Watch};
use super::terminal::Raw;
use crate::failure::Failure;
use hull_api::frames::{Decoder, StreamKind};
use hull_client::Hijacked;
use std::io::{Write, stderr, stdout};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is carried.
#[derive(Clone, Debug)]
pub struct Session {
    /// Our stdin goes in.
    pub stdin: bool,
    /// The process has a terminal: bytes are not framed, and ours is made raw.
    pub tty: bool,
    /// Its stdout comes here.
    pub stdout: bool,
    /// Its stderr comes here.
    pub stderr: bool,
    /// Detach keys, empty for the default.
    pub detach_keys: String,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process closed its output.
    Finished,
    /// The user typed the detach keys.
    Detached,
}

/// Carries bytes until the process closes its output or the user detaches.
pub async fn run(hijacked: Hijacked, session: &Session) -> Result<End, Failure> {
    let raw = if session.stdin && session.tty {
        Some(Raw::stdin())
    } else {
        None
    };
    let (reader, writer) = tokio::io::split(hijacked.io);
    let has_output = session.stdout || session.stderr;
    let output = output(reader, session.tty);
    let input = input(writer, session);
    tokio::pin!(output, input);
    let end = tokio::select! {
        done = &mut output, if has_output => done.map(|()| End::Finished),
        done = &mut input => match done {
            Ok(End::Finished) if has_output => output.await.map(|()| End::Finished),
            other => other,
        },
    };
    drop(raw);
    end
}

/// Copies the daemon's stream to stdout and stderr.
pub async fn output(mut reader: impl AsyncRead + Unpin, tty: bool) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 * 1024];
    let mut demux = Demux::new(tty);
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(count) => count,
            // The daemon may cut the connection instead of ending it.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            return Ok(());
        }
        demux.write(&buffer[..count])?;
    }
}

/// Sorts a container's output to stdout and stderr.
#[derive(Debug)]
pub struct Demux {
    decoder: Option<Decoder>,
}

impl Demux {
    /// `tty`: the bytes are not framed.
    pub fn new(tty: bool) -> Demux {
        Demux {
            decoder: (!tty).then(Decoder::default),
        }
    }

    /// Writes a piece of the stream.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(decoder) = &mut self.decoder else {
            let mut out = stdout().lock();
            out.write_all(bytes)?;
            return Ok(out.flush()?);
        };
        decoder.push(bytes);
        let mut wrote = false;
        while let Some(frame) = decoder
            .next_frame()
            .map_err(|error| Failure::new(error.to_string()))?
        {
            match frame.kind {
                StreamKind::Stdin | StreamKind::Stdout => {
                    stdout().lock().write_all(&frame.payload)?;
                    wrote = true;
                }
                StreamKind::Stderr => stderr().lock().write_all(&frame.payload)?,
                StreamKind::SystemError => {
                    let text = String::from_utf8_lossy(&frame.payload).into_owned();
                    return Err(Failure::new(format!("error from daemon in stream: {text}")));
                }
            }
        }
        if wrote {
            stdout().lock().flush()?;
        }
        Ok(())
    }
}

/// Copies stdin to the daemon, then closes our half.
async fn input(mut writer: impl AsyncWrite + Unpin, session: &Session) -> Result<End, Failure> {
    if session.stdin {
        let mut watch = session.tty.then(|| Watch::new(keys(&session.detach_keys)));
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = stdin.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                break;
            }
            let (bytes, detached) = match watch.as_mut().map(|watch| watch.feed(&buffer[..count])) {
                None => (buffer[..count].to_vec(), false),
                Some(Seen::Pass(bytes)) => (bytes, false),
                Some(Seen::Detach(bytes)) => (bytes, true),
            };
            // A process that has ended reads no more: its output tells the end.
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return Ok(End::Finished);
            }
            if detached {
                return Ok(End::Detached);
            }
        }
    }
    let _ = writer.shutdown().await;
    Ok(End::Finished)
}

fn keys(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return detach::DEFAULT.into();
    }
    detach::parse(text).unwrap_or_else(|error| {
        eprintln!("WARNING: invalid detach escape keys, using default: {error}");
        detach::DEFAULT.into()
    })
}

/// Docker's refusal of `-t` with input that is no terminal.
pub fn check_tty(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !crate::app::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}
