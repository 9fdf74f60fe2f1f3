//! `hull cp`: the rules of where things land (`plan`), packing (`pack`) and unpacking (`unpack`).

mod pack;
mod plan;
mod unpack;

use super::transfer::{check_output, feed, tar_header};
use crate::app::{Cli, stdout_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::go::units::human_size_precision;
use crate::registry::Run;
use base64::Engine as _;
use clap::Args;
use http::{HeaderMap, Method};
use hull_client::{Answer, Query};
use plan::{Landing, Source, Target};
use serde_json::Value;

/// `hull cp`: Copy files/folders between a container and the local filesystem.
#[derive(Args, Debug)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short = 'a', long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short = 'q', long, value_name = "BOOL")]
    quiet: Option<bool>,
    args: Vec<String>,
}

impl Run for Cp {
    async fn run(self, cli: &Cli) -> Outcome {
        let [source, target] = self.args.as_slice() else {
            return Ok(1);
        };
        if source.is_empty() {
            return Err(Failure::new("source can not be empty"));
        }
        if target.is_empty() {
            return Err(Failure::new("destination can not be empty"));
        }
        match (split(source), split(target)) {
            (Some((container, path)), None) => self.fetch(cli, container, path, target).await,
            (None, Some((container, path))) => self.send(cli, source, container, path).await,
            (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
            (None, None) => Err(Failure::new("must specify at least one container source")),
        }
    }
}

/// `container:path`; an absolute path or one that begins with `.` is local.
fn split(text: &str) -> Option<(&str, &str)> {
    let (container, path) = text.split_once(':')?;
    (!text.starts_with('/') && !container.starts_with('.') && !container.is_empty())
        .then_some((container, path))
}

/// What the daemon says about a path.
struct Stat {
    mode: u64,
    link: String,
}

impl Stat {
    fn of(answer: &Answer) -> Option<Stat> {
        let header = answer.header("X-Docker-Container-Path-Stat")?;
        let json: Value = serde_json::from_slice(
            &base64::engine::general_purpose::STANDARD
                .decode(header)
                .ok()?,
        )
        .ok()?;
        Some(Stat {
            mode: json["mode"].as_u64()?,
            link: json["linkTarget"].as_str().unwrap_or("").to_owned(),
        })
    }

    // Bits of Go's os.FileMode.
    fn is_dir(&self) -> bool {
        self.mode >> 31 & 1 == 1
    }

    fn is_link(&self) -> bool {
        self.mode >> 27 & 1 == 1
    }
}

async fn stat(cli: &Cli, container: &str, path: &str) -> Result<Stat, Failure> {
    let query = archive(container, path);
    let answer = cli
        .client()?
        .request(Method::HEAD, &query, None, HeaderMap::new())
        .await?;
    Stat::of(&answer).ok_or_else(|| Failure::new("the daemon did not describe the path"))
}

fn archive(container: &str, path: &str) -> Query {
    Query::segments(&["containers", container, "archive"]).set("path", path)
}

/// Where a link at `path` points to, as a path of its own.
fn resolve(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let parent = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent);
    crate::opts::volume::clean(&format!("{parent}/{link}"))
}

impl Cp {
    fn tell(&self, size: u64, target: &str) {
        if !self.quiet.unwrap_or_else(|| !stdout_is_terminal()) {
            eprintln!(
                "Successfully copied {} to {target}",
                human_size_precision(size as f64, 3)
            );
        }
    }

    async fn fetch(&self, cli: &Cli, container: &str, path: &str, target: &str) -> Outcome {
        let mut path = path.to_owned();
        let mut name = None;
        if target != "-" {
            check_output(target)?;
        }
        if self.follow_link
            && let Ok(found) = stat(cli, container, &path).await
            && found.is_link()
        {
            name = plan::base(&path);
            path = resolve(&path, &found.link);
        }
        let mut answer = cli.client()?.get_stream(archive(container, &path)).await?;
        if target == "-" {
            while let Some(chunk) = answer.chunk().await? {
                cli.out_bytes(&chunk)?;
            }
            return Ok(0);
        }
        let found = Stat::of(&answer)
            .ok_or_else(|| Failure::new("the daemon did not describe the path"))?;
        let source = Source {
            base: plan::base(&path),
            rename: name,
            is_dir: found.is_dir(),
        };
        let landing = plan::land(&source, &local(target))?;
        let size = unpack::receive(answer, landing).await?;
        self.tell(size, &crate::opts::volume::absolute(target));
        Ok(0)
    }

    async fn send(&self, cli: &Cli, source: &str, container: &str, path: &str) -> Outcome {
        let mut target = Target {
            path: path.to_owned(),
            exists: false,
            is_dir: false,
        };
        let mut found = stat(cli, container, path).await;
        if let Ok(link) = &found
            && link.is_link()
        {
            target.path = resolve(path, &link.link);
            found = stat(cli, container, &target.path).await;
        }
        if let Ok(found) = &found {
            (target.exists, target.is_dir) = (true, found.is_dir());
        }
        let (landing, body) = if source == "-" {
            if !target.is_dir {
                return Err(Failure::new(format!(
                    "destination \"{container}:{path}\" must be a directory"
                )));
            }
            (
                Landing {
                    dir: target.path.clone(),
                    rename: None,
                },
                feed(Box::new(std::io::stdin())),
            )
        } else {
            let packed = pack::Packed::of(source, self.follow_link)?;
            let landing = plan::land(&packed.source, &target)?;
            let body = packed.stream(landing.rename.clone());
            (landing, body)
        };
        let mut query = archive(container, &landing.dir).set("noOverwriteDirNonDir", "true");
        if self.archive {
            query = query.set("copyUIDGID", "true");
        }
        let (counted, total) = pack::count(body);
        let mut answer = cli
            .client()?
            .upload(Method::PUT, &query, tar_header(), counted)
            .await?;
        answer.bytes().await?;
        self.tell(
            total.load(std::sync::atomic::Ordering::Relaxed),
            &format!("{container}:{}", target.path),
        );
        Ok(0)
    }
}

/// A local destination; links are followed.
fn local(path: &str) -> Target {
    let absolute = plan::keep_ending(&crate::opts::volume::absolute(path), path);
    match std::fs::metadata(&absolute) {
        Ok(found) => Target {
            path: absolute,
            exists: true,
            is_dir: found.is_dir(),
        },
        Err(_) => Target {
            path: absolute,
            exists: false,
            is_dir: false,
        },
    }
}
