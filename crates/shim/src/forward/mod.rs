//! Log drivers that hand the log to a server: `syslog`, `journald`, `gelf` and `fluentd`.
//!
//! Each runs in a process of its own beside the shim (`hull shim log`), started only for a container that uses one: it may block, resolve
//! names, keep threads and TLS, while the shim stays small and never waits for a server. The shim feeds it through a pipe ([`feed`]).
//! `options` reads what the user asked, `net` connects; each driver has a file.

pub mod feed;
mod fluentd;
mod gelf;
mod journald;
mod net;
pub mod options;
mod ring;
mod syslog;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::logfile::{Lines, Stream};
use crate::protocol::{LogConfig, ShimConfig};

/// Options of every driver that Docker reads before the driver does.
pub const BUILT_IN: [&str; 6] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

/// How long what is left may take to be sent once the container has ended: Docker's time for closing a log.
const AFTERLIFE: Duration = Duration::from_secs(10);
/// Complaints that one process writes: its error file is not rotated.
const COMPLAINTS_MAX: u32 = 200;

/// What a driver says about the container with each message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The container's id, 64 hex digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its image's id, with `sha256:`.
    pub image_id: String,
    /// Its image's name, as the user gave it.
    pub image_name: String,
    /// Its entrypoint and arguments, in one line.
    pub command: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The option `tag`, rendered.
    pub tag: String,
    /// What the options `labels`, `env` and their regular expressions select.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// One line, or one piece of a long one, without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'m> {
    /// Which output it came from.
    pub stream: Stream,
    /// When it was read from the process.
    pub time: Timestamp,
    /// Its bytes.
    pub line: &'m [u8],
    /// For a piece: which.
    pub partial: Option<Partial>,
}

/// A piece of a line longer than 16 KiB, or a line without an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// The same for all pieces of one line.
    pub id: String,
    /// From 1.
    pub ordinal: u32,
    /// The line ends with this piece.
    pub last: bool,
}

/// A connection to a log server.
trait Driver {
    /// Sends one message. It may block as long as the server does not take it.
    fn send(&mut self, message: &Message<'_>) -> io::Result<()>;

    /// No message follows: what waits in the background is sent.
    fn finish(&mut self) {}
}

/// `hull shim log`: reads `shim.json` in the working directory, says on standard output whether the server can be reached
/// (`ok`, or the error's sentence), and forwards what comes on standard input until that ends. Returns the exit status.
pub fn main() -> i32 {
    let opened = read_config().and_then(|config| {
        let driver = open(&config)?;
        Ok((config, driver))
    });
    let said = match &opened {
        Ok(_) => "ok".to_owned(),
        Err(e) => e.to_string(),
    };
    // A shim that no longer asks, because it has started this process again, does not read it.
    let mut stdout = io::stdout();
    let _ = stdout
        .write_all(said.as_bytes())
        .and_then(|()| stdout.flush());
    let _ = rustix::stdio::dup2_stdout(std::io::stderr());
    let Ok((config, driver)) = opened else {
        return 1;
    };
    forward(io::stdin().lock(), &config, driver);
    0
}

fn read_config() -> io::Result<LogConfig> {
    let text = std::fs::read("shim.json")?;
    let config: ShimConfig = serde_json::from_slice(&text)?;
    Ok(config.log)
}

fn open(config: &LogConfig) -> io::Result<Box<dyn Driver + Send>> {
    let settings = options::parse(&config.driver, &config.options)
        .ok_or_else(|| io::Error::other(format!("{} forwards nothing", config.driver)))?
        .map_err(io::Error::other)?;
    let info = &config.info;
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    Ok(match settings {
        options::Settings::Syslog(settings) => {
            Box::new(syslog::Syslog::open(settings, &info.tag, &host)?)
        }
        options::Settings::Journald => {
            Box::new(journald::Journald::open(Path::new(&config.journal), info)?)
        }
        options::Settings::Gelf(settings) => Box::new(gelf::Gelf::open(settings, info, &host)?),
        options::Settings::Fluentd(settings) => Box::new(fluentd::Fluentd::open(settings, info)?),
    })
}

/// Forwards until the feed ends, and then as long as the rest takes, up to [`AFTERLIFE`].
fn forward(mut input: impl Read, config: &LogConfig, mut driver: Box<dyn Driver + Send>) {
    let mut cutter = Cutter::default();
    if config.options.get("mode").map(String::as_str) == Some("non-blocking") {
        let limit = ring::limit(&config.options);
        let ring = ring::Ring::new(limit);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(chunk) = ring.pop() {
                    cutter.feed(&chunk, &mut *driver);
                }
                driver.finish();
            });
            while let Some(chunk) = feed::read_chunk(&mut input) {
                ring.push(chunk);
            }
            ring.close();
            bound_afterlife();
        });
        return;
    }
    while let Some(chunk) = feed::read_chunk(&mut input) {
        cutter.feed(&chunk, &mut *driver);
    }
    bound_afterlife();
    driver.finish();
}

/// Ends this process when the server takes no more.
fn bound_afterlife() {
    std::thread::spawn(|| {
        std::thread::sleep(AFTERLIFE);
        complain(&"Logger didn't exit in time: logs may be truncated");
        std::process::exit(1);
    });
}

/// Says on standard error, which is the shim's, what went wrong; only so often.
fn complain(what: &dyn std::fmt::Display) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    if SAID.fetch_add(1, Ordering::Relaxed) < COMPLAINTS_MAX {
        eprintln!("log: {what}");
    }
}

/// Makes messages of chunks: lines of both streams, and the numbers of pieces.
#[derive(Default)]
struct Cutter {
    streams: [Cut; 2],
    lines_cut: u64,
}

#[derive(Default)]
struct Cut {
    lines: Lines,
    partial: Option<(Partial, Timestamp)>,
}

impl Cutter {
    /// A message that cannot be sent is lost, as Docker loses it, and said on standard error.
    fn feed(&mut self, chunk: &feed::Chunk, driver: &mut (dyn Driver + Send)) {
        let cut = &mut self.streams[usize::from(chunk.stream.number() - 1)];
        let Cut { lines, partial } = cut;
        let mut each = |line: &[u8]| -> Result<(), std::convert::Infallible> {
            let message = message(chunk, line, partial, &mut self.lines_cut);
            if let Err(e) = driver.send(&message) {
                complain(&e);
            }
            Ok(())
        };
        let Ok(()) = lines.split(&chunk.bytes, &mut each);
        if chunk.bytes.is_empty() {
            let rest = lines.end();
            if !rest.is_empty() {
                let Ok(()) = each(&rest);
            }
        }
    }
}

/// All pieces of a line have the id and the time of its first.
fn message<'l>(
    chunk: &feed::Chunk,
    line: &'l [u8],
    begun: &mut Option<(Partial, Timestamp)>,
    lines_cut: &mut u64,
) -> Message<'l> {
    let ended = line.strip_suffix(b"\n");
    let (partial, time) = match (begun.take(), ended) {
        (None, Some(_)) => (None, chunk.time),
        (None, None) => {
            *lines_cut += 1;
            let partial = Partial {
                id: format!("{:016x}{lines_cut:016x}", chunk.time.as_nanosecond() as u64),
                ordinal: 1,
                last: false,
            };
            (Some(partial), chunk.time)
        }
        (Some((before, time)), _) => {
            let partial = Partial {
                ordinal: before.ordinal + 1,
                last: ended.is_some(),
                ..before
            };
            (Some(partial), time)
        }
    };
    *begun = partial
        .clone()
        .filter(|partial| !partial.last)
        .map(|partial| (partial, time));
    Message {
        stream: chunk.stream,
        time,
        line: ended.unwrap_or(line),
        partial,
    }
}
