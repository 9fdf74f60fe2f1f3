//! Logs: what the shim has written, read again in Docker's frames, and followed until the container ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hull_api::frames::{HEADER_LEN, StreamKind, header};
use hull_shim::logfile::{Entry, Format, ReadOptions, Reader, Stream};
use tokio::sync::{mpsc, watch};

use super::LogsOptions;
use crate::error::{Error, Result};
use crate::streams::{ByteStream, LogStream};
use crate::task::View;
use crate::world::{Handle, World};

/// Frames that wait for a slow reader.
const QUEUED_MAX: usize = 16;
/// Bytes collected before they are handed on.
const BATCH_BYTES: usize = 64 << 10;
/// How often a followed log is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(20);

/// `GET /containers/{id}/logs`.
pub(super) fn read(world: &Arc<World>, handle: &Handle, options: LogsOptions) -> Result<LogStream> {
    if !options.stdout && !options.stderr {
        return Err(Error::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let view = handle.view();
    let terminal = view.record.config.tty;
    Ok(LogStream {
        terminal,
        stream: stream(world, handle, options, terminal)?,
    })
}

/// What was logged so far, for attach.
pub(super) fn past(
    world: &Arc<World>,
    handle: &Handle,
    stdout: bool,
    stderr: bool,
) -> Result<impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static> {
    use futures_util::StreamExt;
    let options = LogsOptions {
        stdout,
        stderr,
        ..LogsOptions::default()
    };
    let terminal = handle.view().record.config.tty;
    Ok(stream(world, handle, options, terminal)?.map(|item| item.map_err(std::io::Error::other)))
}

fn stream(
    world: &Arc<World>,
    handle: &Handle,
    options: LogsOptions,
    terminal: bool,
) -> Result<ByteStream> {
    let view = handle.view();
    let config = &view.record.host.log_config;
    let path = world
        .container_dir(&handle.id)
        .log(config, &handle.id)
        .ok_or_else(|| {
            Error::new(
                crate::Kind::NotImplemented,
                "configured logging driver does not support reading",
            )
        })?;
    let format = match config.kind.as_str() {
        "json-file" => Format::JsonFile,
        // `local`, and the copies of what goes to a server.
        _ => Format::Local,
    };
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes>>(QUEUED_MAX);
    let live = handle.view.clone();
    tokio::spawn(async move {
        if let Err(error) = follow(path, format, options, terminal, live, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Box::pin(futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx)
    })))
}

/// Reads on a worker thread, and waits for more without one: followers may be many.
async fn follow(
    path: PathBuf,
    format: Format,
    options: LogsOptions,
    terminal: bool,
    live: watch::Receiver<Arc<View>>,
    sender: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let (follow, until) = (options.follow, options.until);
    let failed =
        |error: hull_shim::logfile::Error| Error::failed("read the container's log", error);
    let read_options = ReadOptions {
        tail: options.tail,
        since: options.since,
        until,
    };
    let mut source = {
        let path = path.clone();
        on_worker(move || Reader::open(&path, format, read_options).map_err(failed)).await?
    };
    let mut pump = Pump {
        options,
        terminal,
        sender: sender.clone(),
        batch: BytesMut::new(),
        stamp: (jiff::Timestamp::MIN, String::new()),
    };
    let mut seen = None;
    loop {
        // Looked at before the reading: what is written before the end is read after it.
        let over = live.has_changed().is_err() || super::ended(&live.borrow());
        let length = std::fs::metadata(&path).ok().map(|metadata| {
            (
                std::os::unix::fs::MetadataExt::ino(&metadata),
                metadata.len(),
            )
        });
        if over || length.is_none() || length != seen {
            seen = length;
            let (ended, reader, back) = on_worker(move || {
                let ended = pump.drain(&mut source)?;
                Ok((ended, source, pump))
            })
            .await?;
            (source, pump) = (reader, back);
            if ended {
                return Ok(());
            }
        }
        let past_until = until.is_some_and(|until| until <= jiff::Timestamp::now());
        if !follow || over || past_until || sender.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::failed("a worker thread", error))?
}

struct Pump {
    options: LogsOptions,
    terminal: bool,
    sender: mpsc::Sender<Result<Bytes>>,
    batch: BytesMut,
    /// The last entry's time as text: the lines of one batch have the same.
    stamp: (jiff::Timestamp, String),
}

impl Pump {
    /// Sends what is there; whether nothing will follow: the end was reached, or nobody reads any more.
    fn drain(&mut self, reader: &mut Reader) -> Result<bool> {
        while let Some(entry) = reader
            .read()
            .map_err(|error| Error::failed("read the container's log", error))?
        {
            self.add(entry);
            if self.batch.len() >= BATCH_BYTES && !self.flush() {
                return Ok(true);
            }
        }
        Ok(!self.flush() || reader.ended())
    }

    fn add(&mut self, entry: &Entry) {
        let kind = match entry.stream {
            Stream::Stdout if self.options.stdout => StreamKind::Stdout,
            Stream::Stderr if self.options.stderr => StreamKind::Stderr,
            Stream::Stdout | Stream::Stderr => return,
        };
        let start = self.batch.len();
        if !self.terminal {
            self.batch.extend_from_slice(&[0; HEADER_LEN]);
        }
        let text = self.batch.len();
        if self.options.timestamps {
            if self.stamp.0 != entry.time {
                self.stamp = (entry.time, hull_api::time::rfc3339_nano_fixed(entry.time));
            }
            self.batch.extend_from_slice(self.stamp.1.as_bytes());
            self.batch.extend_from_slice(b" ");
        }
        if self.options.details {
            let details = details(entry.attributes.as_deref());
            self.batch.extend_from_slice(details.as_bytes());
            self.batch.extend_from_slice(b" ");
        }
        self.batch.extend_from_slice(&entry.line);
        if !self.terminal {
            let length = u32::try_from(self.batch.len() - text).unwrap_or(u32::MAX);
            self.batch[start..text].copy_from_slice(&header(kind, length));
        }
    }

    /// Whether somebody still reads.
    fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        self.sender
            .blocking_send(Ok(self.batch.split().freeze()))
            .is_ok()
    }
}

/// `a=1,b=2` of the attributes' JSON.
fn details(attributes: Option<&str>) -> String {
    let parsed: std::collections::BTreeMap<String, String> = attributes
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    parsed
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
