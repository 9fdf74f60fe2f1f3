//! Where a container's output goes: a file, a log server, both or neither.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::forward::feed::Feed;
use crate::logfile::{self, Format, Rotation, Stream, Writer};
use crate::protocol::{Failure, InitFailure, LogConfig};

/// Without options a log grows to this and keeps so many generations, so that no container fills the disk.
const DEFAULT_ROTATION: Rotation = Rotation {
    size_bytes_max: Some(1 << 30),
    files_max: 2,
    compress: false,
};

/// What `local`, and the copy of a log that goes to a server, do without options: Docker's numbers.
const LOCAL_ROTATION: Rotation = Rotation {
    size_bytes_max: Some(20 << 20),
    files_max: 5,
    compress: true,
};

/// Why a log cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] logfile::Error),
    /// The server.
    #[error("failed to initialize logging driver")]
    Server(#[source] std::io::Error),
    /// The configuration.
    #[error("the log configuration of driver {0:?} cannot be used")]
    Config(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self {
            message: crate::chain(&e),
            init: Some(InitFailure {
                step: "log".to_owned(),
                path: None,
                errno: 0,
            }),
        }
    }
}

/// One container's log.
#[derive(Debug, Default)]
pub struct Log {
    writer: Option<Writer>,
    feed: Option<Feed>,
}

impl Log {
    /// Opens the file, and reaches the server.
    ///
    /// # Errors
    /// The file's, or what the driver says about its server.
    pub fn open(config: &LogConfig) -> Result<Self, Error> {
        let file = |format, default| -> Result<Option<Writer>, Error> {
            let unusable = || Error::Config(config.driver.clone());
            let path = config.path.as_deref().ok_or_else(unusable)?;
            writer(config, path, format, default).map(Some)
        };
        match config.driver.as_str() {
            "none" => Ok(Self::default()),
            "json-file" => Ok(Self {
                writer: file(Format::JsonFile, DEFAULT_ROTATION)?,
                feed: None,
            }),
            "local" => Ok(Self {
                writer: file(Format::Local, LOCAL_ROTATION)?,
                feed: None,
            }),
            // The server first: a start that fails leaves no file.
            "syslog" | "journald" | "gelf" | "fluentd" => Ok(Self {
                feed: Some(Feed::start().map_err(Error::Server)?),
                writer: match &config.path {
                    Some(_) => file(Format::Local, LOCAL_ROTATION)?,
                    None => None,
                },
            }),
            other => Err(Error::Config(other.to_owned())),
        }
    }

    /// Takes bytes as they were read from the process. A full disk must not stop the container: the log has a gap then, and
    /// the shim's own log says so.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer
            && let Err(e) = writer.write(stream, bytes)
        {
            eprintln!("shim: {}", crate::chain(&e));
        }
        if let Some(feed) = &mut self.feed {
            feed.write(stream, bytes);
        }
    }

    /// The stream has ended.
    pub fn end(&mut self, stream: Stream) {
        if let Some(writer) = &mut self.writer
            && let Err(e) = writer.end(stream)
        {
            eprintln!("shim: {}", crate::chain(&e));
        }
        if let Some(feed) = &mut self.feed {
            feed.write(stream, &[]);
        }
    }

    /// What is to be polled for room, while something waits for it; the container's output waits too.
    pub fn behind(&self) -> Option<BorrowedFd<'_>> {
        let feed = self.feed.as_ref().filter(|feed| feed.is_behind())?;
        feed.pipe()
    }

    /// Hands on what can be handed on now.
    pub fn flush(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.flush();
        }
    }

    /// Nothing more is written. True once all is handed on and the log process has ended.
    pub fn finish(&mut self) -> bool {
        self.feed.as_mut().is_none_or(Feed::finish)
    }
}

fn writer(
    config: &LogConfig,
    path: &Path,
    format: Format,
    default: Rotation,
) -> Result<Writer, Error> {
    let rotation = if config.driver == "json-file" || config.driver == "local" {
        Rotation::from_options(&config.options, default)?
    } else {
        let cache = config.options.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix("cache-")?.to_owned(), value.clone()))
        });
        Rotation::from_options(&cache.collect(), default)?
    };
    let attributes = (!config.info.attributes.is_empty())
        .then(|| serde_json::to_string(&config.info.attributes))
        .transpose()
        .map_err(|_| Error::Config(config.driver.clone()))?;
    Ok(Writer::open(path, format, rotation, attributes)?)
}
