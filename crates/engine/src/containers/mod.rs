//! The containers service: one method per route. Requests that depend on a container's phase go to its task; what only
//! reads uses the view that the task publishes.

mod archive;
mod checkpoints;
mod create;
mod discard;
mod inspect;
pub(crate) mod logs;
mod merge;
mod mounts;
mod observe;
pub(crate) mod validate;

use std::sync::Arc;

use hull_api::container::{
    ContainerCreateRequest, ContainerCreateResponse, ContainersPruneReport, FilesystemChange,
    PathStat, TopResponse, UpdateConfig, UpdateResponse, WaitCondition,
};
use hull_api::filters::Filters;
use hull_api::inspect::{ContainerInspect, ContainerSummary};
use hull_api::stats::ContainerStats;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::admit::{Request, admit};
use crate::error::{Error, Result};
use crate::streams::{AttachStream, ByteStream, ItemStream, LogStream, WaitFuture};
use crate::task::{Message, View};
use crate::world::World;
pub use checkpoints::CheckpointName;

/// `GET /containers/json`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Not only those that run.
    pub all: bool,
    /// The newest so many, running or not; 0: no limit.
    pub limit: usize,
    /// Compute sizes.
    pub size: bool,
    /// Docker's filters.
    pub filters: Filters,
}

/// `DELETE /containers/{id}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Only the link of that name.
    pub link: bool,
    /// End it first.
    pub force: bool,
}

/// `POST /containers/{id}/attach`.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// First what was logged.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// Bring input.
    pub stdin: bool,
    /// Take standard output.
    pub stdout: bool,
    /// Take standard error.
    pub stderr: bool,
    /// `ctrl-p,ctrl-q` and the like; none: Docker's default.
    pub detach_keys: Option<String>,
}

/// `GET /containers/{id}/logs`.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Not before.
    pub since: Option<jiff::Timestamp>,
    /// Not after.
    pub until: Option<jiff::Timestamp>,
    /// The time before each line.
    pub timestamps: bool,
    /// Go on with what comes, until the container ends.
    pub follow: bool,
    /// The last so many lines; none: all.
    pub tail: Option<usize>,
    /// The entries' attributes before each line.
    pub details: bool,
}

/// `PUT /containers/{id}/archive`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchivePutOptions {
    /// A directory is not replaced by something else, nor the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners.
    pub copy_uid_gid: bool,
}

/// The containers service. A cheap clone.
#[derive(Clone)]
pub struct Containers {
    pub(crate) world: Arc<World>,
}

/// Asks a container's task and waits for the answer.
pub(crate) async fn ask<T>(
    world: &World,
    id: &str,
    message: impl FnOnce(oneshot::Sender<Result<T>>) -> Message,
) -> Result<T> {
    let handle = world.registry.find(id)?;
    let (reply, answer) = oneshot::channel();
    let gone = || Error::not_found(format!("No such container: {id}"));
    handle
        .queue
        .send(message(reply))
        .await
        .map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// The `until` filter of prunes: seconds since 1970, and nothing younger goes.
pub(crate) fn until(filters: &Filters) -> Result<Option<i64>> {
    let parse = |text: &str| {
        hull_api::time::parse_timestamp(text, jiff::Timestamp::now())
            .map(jiff::Timestamp::as_second)
            .map_err(Error::invalid)
    };
    filters.get("until").map(parse).next().transpose()
}

/// A container that waits for its restart counts as running, one that was just made as not.
fn ended(view: &View) -> bool {
    view.removed || !view.state.phase.is_running()
}

impl Containers {
    fn view(&self, id: &str) -> Result<Arc<View>> {
        Ok(self.world.registry.find(id)?.view())
    }

    fn admitted(&self, id: &str, request: Request) -> Result<Arc<View>> {
        let view = self.view(id)?;
        match admit(&view.state.phase, request) {
            Ok(_) => Ok(view),
            Err(refusal) => Err(refusal.error(
                request,
                &view.record.id,
                &view.record.name,
                view.state.phase.status(),
            )),
        }
    }

    /// Makes a container. `platform` is the query parameter; empty or none: the host's.
    pub async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        create::create(&self.world, name, platform, request).await
    }

    /// Everything about one container; `size` computes the sizes too.
    pub async fn inspect(&self, id: &str, size: bool) -> Result<ContainerInspect> {
        inspect::inspect(&self.world, &self.view(id)?, size).await
    }

    /// The containers, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        inspect::list(&self.world, options).await
    }

    /// Starts it; `NotModified` when it runs.
    pub async fn start(&self, id: &str) -> Result<()> {
        let checkpoint = None;
        ask(&self.world, id, |reply| Message::Start {
            checkpoint,
            reply,
        })
        .await
    }

    /// Starts it from a checkpoint: its processes go on where they were. `NotModified` when it runs.
    pub async fn start_from(&self, id: &str, from: CheckpointName<'_>) -> Result<()> {
        let checkpoint = Some(checkpoints::existing(&self.world, id, from)?);
        ask(&self.world, id, |reply| Message::Start {
            checkpoint,
            reply,
        })
        .await
    }

    /// Asks it to end with `signal` (none: its own, or SIGTERM) and kills it after `timeout_s` seconds (none: its own, or 10; -1: never).
    pub async fn stop(&self, id: &str, signal: Option<&str>, timeout_s: Option<i64>) -> Result<()> {
        let signal = signal
            .filter(|signal| !signal.is_empty())
            .map(crate::signal::parse)
            .transpose()?;
        ask(&self.world, id, |reply| Message::Stop {
            signal,
            timeout_s,
            reply,
        })
        .await
    }

    /// Stops it if it runs, then starts it.
    pub async fn restart(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let signal = signal
            .filter(|signal| !signal.is_empty())
            .map(crate::signal::parse)
            .transpose()?;
        ask(&self.world, id, |reply| Message::Restart {
            signal,
            timeout_s,
            reply,
        })
        .await
    }

    /// Sends a signal, by name or number; none: SIGKILL.
    pub async fn kill(&self, id: &str, signal: Option<&str>) -> Result<()> {
        let signal =
            crate::signal::parse(signal.filter(|signal| !signal.is_empty()).unwrap_or("KILL"))?;
        ask(&self.world, id, |reply| Message::Kill { signal, reply })
            .await
            .map_err(|error| {
                if error.kind == crate::Kind::NotFound {
                    error
                } else {
                    error.context(format!("cannot kill container: {id}"))
                }
            })
    }

    /// Freezes it.
    pub async fn pause(&self, id: &str) -> Result<()> {
        ask(&self.world, id, Message::Pause).await
    }

    /// Thaws it.
    pub async fn unpause(&self, id: &str) -> Result<()> {
        ask(&self.world, id, Message::Unpause).await
    }

    /// Gives it another name.
    pub async fn rename(&self, id: &str, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        ask(&self.world, id, |reply| Message::Rename {
            name: name.to_owned(),
            reply,
        })
        .await
    }

    /// Removes it.
    pub async fn remove(&self, id: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.remove_link(id).await;
        }
        ask(&self.world, id, |reply| Message::Remove { options, reply }).await
    }

    /// `parent/alias`: the parent calls nobody by that name any more.
    async fn remove_link(&self, name: &str) -> Result<()> {
        let Some((parent, alias)) = name.trim_start_matches('/').rsplit_once('/') else {
            self.view(name)?;
            return Err(Error::conflict(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        ask(&self.world, parent, |reply| Message::RemoveLink {
            alias: alias.to_owned(),
            reply,
        })
        .await
    }

    /// Changes limits and restart policy.
    pub async fn update(&self, id: &str, update: UpdateConfig) -> Result<UpdateResponse> {
        ask(&self.world, id, |reply| Message::Update {
            update: Box::new(update),
            reply,
        })
        .await?;
        Ok(UpdateResponse::default())
    }

    /// Sets the terminal's size, in characters.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let view = self.admitted(id, Request::Resize)?;
        let shim = view.shim.as_ref().ok_or_else(|| {
            Error::conflict(format!("container {} is not running", view.record.id))
        })?;
        let resize = hull_shim::protocol::Do::Resize {
            exec: None,
            width,
            height,
        };
        shim.command(resize)
            .await
            .map_err(|error| Error::failed(format!("resize container {id}"), error))
    }

    /// The output of `ps` for its processes; `ps_args` empty: `-ef`.
    pub async fn top(&self, id: &str, ps_args: &str) -> Result<TopResponse> {
        let view = self.admitted(id, Request::Observe)?;
        let top = observe::top(&self.world, &view, ps_args).await?;
        self.world.events.publish(
            "container",
            "top",
            &view.record.id,
            view.record.event_attributes(),
        );
        Ok(top)
    }

    /// What differs from the image.
    pub async fn changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        archive::changes(&self.world, &self.view(id)?.record.id).await
    }

    /// Returns once the wait is registered; the future answers when the condition holds.
    pub async fn wait(&self, id: &str, condition: WaitCondition) -> Result<WaitFuture> {
        let handle = self.world.registry.find(id)?;
        let mut view = handle.view.clone();
        let exits = view.borrow_and_update().exits;
        let done = move |view: &View| match condition {
            // An exit counts even when the restart policy has it running again before anyone looks.
            WaitCondition::NotRunning => ended(view) || view.exits > exits,
            WaitCondition::NextExit => view.exits > exits || view.removed,
            WaitCondition::Removed => view.removed,
        };
        Ok(Box::pin(async move {
            loop {
                let seen = view.borrow_and_update().clone();
                if done(&seen) {
                    let mut answer = answer(&seen);
                    if condition == WaitCondition::Removed {
                        // moby forgets the error of a failed start when it removes the container: its client would print it twice.
                        answer.error = None;
                    }
                    return Ok(answer);
                }
                if view.changed().await.is_err() {
                    // The task is gone: what it last said is final.
                    let last = view.borrow().clone();
                    return Ok(answer(&last));
                }
            }
        }))
    }

    /// Reads the log.
    pub async fn logs(&self, id: &str, options: LogsOptions) -> Result<LogStream> {
        let handle = self.world.registry.find(id)?;
        logs::read(&self.world, &handle, options)
    }

    /// Attaches; before the start too: then the streams begin with the process.
    pub async fn attach(&self, id: &str, options: AttachOptions) -> Result<AttachStream> {
        let handle = self.world.registry.find(id)?;
        let view = handle.view();
        let record = view.record.clone();
        let terminal = record.config.tty;
        let past = match options.logs {
            true => Some(logs::past(
                &self.world,
                &handle,
                options.stdout,
                options.stderr,
            )?),
            false => None,
        };
        let (reader, writer): (
            Box<dyn AsyncRead + Send + Unpin>,
            Box<dyn AsyncWrite + Send + Unpin>,
        ) = match options.stream {
            false => (Box::new(tokio::io::empty()), Box::new(tokio::io::sink())),
            true => {
                let attach = hull_shim::protocol::Attach {
                    exec: None,
                    stdin: options.stdin && record.config.open_stdin,
                    stdout: options.stdout,
                    stderr: options.stderr,
                    detach_keys: crate::detach::parse(options.detach_keys.as_deref())?,
                };
                let (pending, reader, writer) = crate::shim::pending(attach);
                ask(&self.world, id, |reply| Message::Attach { pending, reply }).await?;
                (Box::new(reader), Box::new(writer))
            }
        };
        self.world
            .events
            .publish("container", "attach", &record.id, record.event_attributes());
        let reader: Box<dyn AsyncRead + Send + Unpin> = match past {
            Some(past) => Box::new(tokio::io::AsyncReadExt::chain(
                tokio_util::io::StreamReader::new(past),
                reader,
            )),
            None => reader,
        };
        Ok(AttachStream {
            reader,
            writer,
            terminal,
        })
    }

    /// Resource use: one sample, or one a second. `one_shot` does not wait for a second reading.
    pub async fn stats(
        &self,
        id: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<ItemStream<ContainerStats>> {
        let handle = self.world.registry.find(id)?;
        Ok(observe::stats(&self.world, &handle, stream, one_shot))
    }

    /// What a path is.
    pub async fn archive_stat(&self, id: &str, path: &str) -> Result<PathStat> {
        let view = self.view(id)?;
        archive::stat(&self.world, &view, path).await
    }

    /// A path as a tar.
    pub async fn archive_get(&self, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let view = self.view(id)?;
        let answer = archive::get(&self.world, &view, path).await?;
        self.world.events.publish(
            "container",
            "archive-path",
            &view.record.id,
            view.record.event_attributes(),
        );
        Ok(answer)
    }

    /// Unpacks a tar (plain or compressed) into a directory.
    pub async fn archive_put(
        &self,
        id: &str,
        path: &str,
        options: ArchivePutOptions,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        let view = self.view(id)?;
        archive::put(&self.world, &view, path, options, tar).await?;
        self.world.events.publish(
            "container",
            "extract-to-dir",
            &view.record.id,
            view.record.event_attributes(),
        );
        Ok(())
    }

    /// The whole file system as a tar.
    pub async fn export(&self, id: &str) -> Result<ByteStream> {
        let view = self.view(id)?;
        let stream = archive::export(&self.world, &view).await?;
        self.world.events.publish(
            "container",
            "export",
            &view.record.id,
            view.record.event_attributes(),
        );
        Ok(stream)
    }

    /// Removes those that do not run.
    pub async fn prune(&self, filters: Filters) -> Result<ContainersPruneReport> {
        filters
            .validate(&["label", "label!", "until"])
            .map_err(Error::invalid)?;
        let until = until(&filters)?;
        let mut report = ContainersPruneReport::default();
        for view in self.world.registry.views() {
            let record = &view.record;
            let keep = view.state.phase.is_running()
                || !filters.matches_pairs("label", &record.config.labels)
                || !filters.excludes_pairs("label!", &record.config.labels)
                || until.is_some_and(|until| crate::clock::unix_seconds(&record.created) > until);
            if keep {
                continue;
            }
            let id = record.id.clone();
            let size = crate::world::blocking(&self.world, move |world| {
                Ok(world.snapshots.usage(&id).map_or(0, |usage| usage.bytes))
            })
            .await?;
            self.world.options.failpoints.pass("prune.next")?;
            match self.remove(&record.id, RemoveOptions::default()).await {
                Ok(()) => {
                    report.space_reclaimed += size;
                    report.containers_deleted.push(record.id.clone());
                }
                Err(error) if error.is_of_state() => {
                    tracing::debug!(container = %record.id, %error, "not pruned");
                }
                Err(error) => tracing::warn!(container = %record.id, %error, "prune"),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())];
        self.world
            .events
            .publish("container", "prune", "", reclaimed.into());
        Ok(report)
    }
}

fn answer(view: &View) -> hull_api::container::WaitResponse {
    let exit = view.state.exit();
    hull_api::container::WaitResponse {
        status_code: exit.map_or(0, |exit| i64::from(exit.code)),
        error: exit.filter(|exit| !exit.error.is_empty()).map(|exit| {
            hull_api::container::WaitError {
                message: exit.error.clone(),
            }
        }),
    }
}
