//! Moves archives between files and the daemon: `export`, `save`, `load`, `import`.

use super::inspect::platform_json;
use crate::app::{Cli, stdin_is_terminal, stdout_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::progress::{self, Target};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, header};
use hull_client::{Answer, Query};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// `hull export`: Export a container's filesystem as a tar archive.
#[derive(Args, Debug)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short = 'o', long, value_name = "string")]
    output: Option<String>,
    args: Vec<String>,
}

impl Run for Export {
    async fn run(self, cli: &Cli) -> Outcome {
        let out = Output::open(self.output.as_deref(), "export", "export container")?;
        let answer = cli
            .client()?
            .get_stream(Query::segments(&["containers", &self.args[0], "export"]))
            .await?;
        out.receive(cli, answer).await?;
        Ok(0)
    }
}

/// `hull save`: Save one or more images to a tar archive (streamed to STDOUT by default).
#[derive(Args, Debug)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short = 'o', long, value_name = "string")]
    output: Option<String>,
    /// Save only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    args: Vec<String>,
}

impl Run for Save {
    async fn run(self, cli: &Cli) -> Outcome {
        let platforms = platforms(&self.platform)?;
        let out = Output::open(self.output.as_deref(), "save", "save image")?;
        let mut query = Query::new("/images/get");
        for name in &self.args {
            query = query.set("names", name);
        }
        for platform in &platforms {
            query = query.set("platform", platform);
        }
        let answer = cli.client()?.get_stream(query).await?;
        out.receive(cli, answer).await?;
        Ok(0)
    }
}

fn platforms(texts: &[String]) -> Result<Vec<String>, Failure> {
    texts.iter().map(|text| platform_json(text)).collect()
}

/// Where an archive is written: stdout, or a file that appears whole or not at all.
struct Output(Option<(PathBuf, PathBuf, File)>);

impl Output {
    fn open(path: Option<&str>, verb: &str, doing: &str) -> Result<Output, Failure> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            if stdout_is_terminal() {
                return Err(Failure::new(format!(
                    "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
                )));
            }
            return Ok(Output(None));
        };
        stat_parent(path)
            .and_then(|()| check_output(path))
            .map_err(|error| Failure::new(format!("failed to {doing}: {error}")))?;
        let target = PathBuf::from(path);
        let temporary = target.with_file_name(format!(".tmp-hull-{}", rand::random::<u64>()));
        let file = File::create(&temporary).map_err(|error| {
            Failure::new(format!(
                "failed to {doing}: open {path}: {}",
                crate::failure_text(&error)
            ))
        })?;
        Ok(Output(Some((target, temporary, file))))
    }

    async fn receive(mut self, cli: &Cli, mut answer: Answer) -> Result<(), Failure> {
        while let Some(chunk) = answer.chunk().await? {
            match &mut self.0 {
                Some((_, _, file)) => file.write_all(&chunk)?,
                None => cli.out_bytes(&chunk)?,
            }
        }
        if let Some((target, temporary, file)) = &self.0 {
            file.sync_all()?;
            std::fs::rename(temporary, target)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((_, temporary, _)) = &self.0 {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

fn stat_parent(path: &str) -> Result<(), String> {
    let parent = Path::new(path)
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Some(parent) = parent else { return Ok(()) };
    let found = std::fs::metadata(parent).map(|_| ());
    found.map_err(|error| {
        format!(
            "invalid output path: stat {}: {}",
            parent.display(),
            crate::failure_text(&error)
        )
    })
}

/// Docker's check of a path that is to be written: its folder exists, and it is no device.
pub fn check_output(path: &str) -> Result<(), String> {
    let parent = Path::new(path)
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent
        && !parent.exists()
    {
        return Err(format!(
            "invalid output path: directory \"{}\" does not exist",
            parent.display()
        ));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !(found.is_file() || found.is_dir() || found.is_symlink()) => Err(format!(
            "invalid output path: \"{path}\" must be a directory or a regular file: got a device"
        )),
        _ => Ok(()),
    }
}

/// `hull load`: Load an image from a tar archive or STDIN.
#[derive(Args, Debug)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short = 'i', long, value_name = "string")]
    input: Option<String>,
    /// Load only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for Load {
    async fn run(self, cli: &Cli) -> Outcome {
        let source: Box<dyn Read + Send> =
            match self.input.as_deref().filter(|path| !path.is_empty()) {
                Some(path) => Box::new(open(path)?),
                None if stdin_is_terminal() => {
                    return Err(Failure::new(
                        "requested load from stdin, but stdin is empty",
                    ));
                }
                None => Box::new(std::io::stdin()),
            };
        let platforms = platforms(&self.platform)?;
        let quiet = self.quiet || !stdout_is_terminal();
        let mut query = Query::new("/images/load").set("quiet", if quiet { "1" } else { "0" });
        for platform in &platforms {
            query = query.set("platform", platform);
        }
        let answer = cli
            .client()?
            .upload(Method::POST, &query, tar_header(), feed(source))
            .await?;
        progress::show(answer, Target::Stdout, |_| {}).await?;
        Ok(0)
    }
}

/// `hull import`: Import the contents from a tarball to create a filesystem image.
#[derive(Args, Debug)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short = 'c', long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short = 'm', long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    args: Vec<String>,
}

impl Run for Import {
    async fn run(self, cli: &Cli) -> Outcome {
        let source = self.args[0].as_str();
        let remote = source.starts_with("http://") || source.starts_with("https://");
        let mut query =
            Query::new("/images/create").set("fromSrc", if remote { source } else { "-" });
        if let Some(name) = self.args.get(1).filter(|name| !name.is_empty()) {
            super::pull::parse(name)?;
            query = query.set("repo", name);
        }
        query = query
            .set_some("message", self.message.as_deref())
            .set_some("platform", self.platform.as_deref());
        for change in &self.change {
            query = query.set("changes", change);
        }
        let client = cli.client()?;
        let answer = if remote {
            client
                .request(Method::POST, &query, None, HeaderMap::new())
                .await?
        } else {
            let input: Box<dyn Read + Send> = if source == "-" {
                Box::new(std::io::stdin())
            } else {
                Box::new(open(source)?)
            };
            client
                .upload(Method::POST, &query, tar_header(), feed(input))
                .await?
        };
        progress::show(answer, Target::Stdout, |_| {}).await?;
        Ok(0)
    }
}

fn open(path: &str) -> Result<File, Failure> {
    File::open(path)
        .map_err(|error| Failure::new(format!("open {path}: {}", crate::failure_text(&error))))
}

/// `Content-Type: application/x-tar`.
pub fn tar_header() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-tar"),
    );
    headers
}

/// Reads `source` on a thread of its own into a request body.
pub fn feed(mut source: Box<dyn Read + Send>) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            // The daemon may answer, and stop reading, before the end.
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
