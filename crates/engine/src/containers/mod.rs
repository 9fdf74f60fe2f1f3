//! The containers service: one method per route. Requests that depend on a container's phase go to its task; what only
//! reads uses the view that the task publishes.

use hull_api::container::{
    ContainerCreateRequest, ContainerCreateResponse, ContainersPruneReport, FilesystemChange,
    PathStat, TopResponse, UpdateConfig, UpdateResponse, WaitCondition,
};
use hull_api::filters::Filters;
use hull_api::inspect::{ContainerInspect, ContainerSummary};
use hull_api::stats::ContainerStats;
use tokio::io::AsyncRead;

use crate::error::{Error, Result};
use crate::streams::{AttachStream, ByteStream, ItemStream, LogStream, WaitFuture};

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
pub struct Containers {}

impl Containers {
    /// Makes a container. `platform` is the query parameter; empty or none: the host's.
    pub async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let _ = (name, platform, request);
        Err(Error::missing("container create"))
    }

    /// Everything about one container; `size` computes the sizes too.
    pub async fn inspect(&self, id: &str, size: bool) -> Result<ContainerInspect> {
        let _ = (id, size);
        Err(Error::missing("container inspect"))
    }

    /// The containers, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        let _ = options;
        Err(Error::missing("container list"))
    }

    /// Starts it; `NotModified` when it runs.
    pub async fn start(&self, id: &str) -> Result<()> {
        Err(Error::missing(&format!("container start {id}")))
    }

    /// Asks it to end with `signal` (none: its own, or SIGTERM) and kills it after `timeout_s` seconds (none: its own, or 10; -1: never).
    pub async fn stop(&self, id: &str, signal: Option<&str>, timeout_s: Option<i64>) -> Result<()> {
        let _ = (signal, timeout_s);
        Err(Error::missing(&format!("container stop {id}")))
    }

    /// Stops it if it runs, then starts it.
    pub async fn restart(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let _ = (signal, timeout_s);
        Err(Error::missing(&format!("container restart {id}")))
    }

    /// Sends a signal, by name or number; none: SIGKILL.
    pub async fn kill(&self, id: &str, signal: Option<&str>) -> Result<()> {
        let _ = signal;
        Err(Error::missing(&format!("container kill {id}")))
    }

    /// Freezes it.
    pub async fn pause(&self, id: &str) -> Result<()> {
        Err(Error::missing(&format!("container pause {id}")))
    }

    /// Thaws it.
    pub async fn unpause(&self, id: &str) -> Result<()> {
        Err(Error::missing(&format!("container unpause {id}")))
    }

    /// Gives it another name.
    pub async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let _ = name;
        Err(Error::missing(&format!("container rename {id}")))
    }

    /// Removes it.
    pub async fn remove(&self, id: &str, options: RemoveOptions) -> Result<()> {
        let _ = options;
        Err(Error::missing(&format!("container remove {id}")))
    }

    /// Changes limits and restart policy.
    pub async fn update(&self, id: &str, update: UpdateConfig) -> Result<UpdateResponse> {
        let _ = (id, update);
        Err(Error::missing("container update"))
    }

    /// Sets the terminal's size, in characters.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let _ = (height, width);
        Err(Error::missing(&format!("container resize {id}")))
    }

    /// The output of `ps` for its processes; `ps_args` empty: `-ef`.
    pub async fn top(&self, id: &str, ps_args: &str) -> Result<TopResponse> {
        let _ = (id, ps_args);
        Err(Error::missing("container top"))
    }

    /// What differs from the image.
    pub async fn changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        let _ = id;
        Err(Error::missing("container changes"))
    }

    /// Returns once the wait is registered; the future answers when the condition holds.
    pub async fn wait(&self, id: &str, condition: WaitCondition) -> Result<WaitFuture> {
        let _ = (id, condition);
        Err(Error::missing("container wait"))
    }

    /// Reads the log.
    pub async fn logs(&self, id: &str, options: LogsOptions) -> Result<LogStream> {
        let _ = (id, options);
        Err(Error::missing("container logs"))
    }

    /// Attaches; before the start too: then the streams begin with the process.
    pub async fn attach(&self, id: &str, options: AttachOptions) -> Result<AttachStream> {
        let _ = (id, options);
        Err(Error::missing("container attach"))
    }

    /// Resource use: one sample, or one a second. `one_shot` does not wait for a second reading.
    pub async fn stats(
        &self,
        id: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<ItemStream<ContainerStats>> {
        let _ = (id, stream, one_shot);
        Err(Error::missing("container stats"))
    }

    /// What a path is.
    pub async fn archive_stat(&self, id: &str, path: &str) -> Result<PathStat> {
        let _ = (id, path);
        Err(Error::missing("container archive stat"))
    }

    /// A path as a tar.
    pub async fn archive_get(&self, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let _ = (id, path);
        Err(Error::missing("container archive get"))
    }

    /// Unpacks a tar (plain or compressed) into a directory.
    pub async fn archive_put(
        &self,
        id: &str,
        path: &str,
        options: ArchivePutOptions,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        let _ = (id, path, options, tar);
        Err(Error::missing("container archive put"))
    }

    /// The whole file system as a tar.
    pub async fn export(&self, id: &str) -> Result<ByteStream> {
        let _ = id;
        Err(Error::missing("container export"))
    }

    /// Removes those that do not run.
    pub async fn prune(&self, filters: Filters) -> Result<ContainersPruneReport> {
        let _ = filters;
        Err(Error::missing("container prune"))
    }
}
