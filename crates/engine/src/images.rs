//! The images service: `hull_image` in the API's shapes, with events and with the containers that use an image.

use std::collections::BTreeMap;

use hull_api::auth::{AuthConfig, AuthResponse};
use hull_api::container::ContainerConfig;
use hull_api::filters::Filters;
use hull_api::image::{
    DistributionInspect, HistoryItem, ImageDeleteItem, ImageInspect, ImageSummary,
    ImagesPruneReport, SearchResult,
};
use tokio::io::AsyncRead;

use crate::error::{Error, Result};
use crate::streams::{ByteStream, ProgressStream};

/// `POST /images/create` from a registry.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `fromImage`.
    pub image: String,
    /// `tag`: a tag or a digest; empty with no tag in `image`: all tags, as in Docker's API.
    pub tag: String,
    /// `os/arch/variant`; empty: the host's.
    pub platform: String,
    /// Credentials.
    pub auth: Option<AuthConfig>,
}

/// `POST /images/create` from a tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Repository; empty: no name.
    pub repo: String,
    /// Tag; empty: `latest`.
    pub tag: String,
    /// Commit message.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os/arch/variant`; empty: the host's.
    pub platform: String,
}

/// `POST /commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Id or name.
    pub container: String,
    /// Repository; empty: no name.
    pub repo: String,
    /// Tag; empty: `latest`.
    pub tag: String,
    /// Commit message.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Replaces the container's configuration.
    pub config: Option<ContainerConfig>,
}

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Intermediate images too.
    pub all: bool,
    /// Compute the shared size.
    pub shared_size: bool,
    /// Docker's filters.
    pub filters: Filters,
}

/// The images service. A cheap clone.
#[derive(Clone)]
pub struct Images {}

impl Images {
    /// Pulls. An error before any progress is this call's error; a later one is the stream's last item.
    pub async fn pull(&self, options: PullOptions) -> Result<ProgressStream> {
        let _ = options;
        Err(Error::missing("image pull"))
    }

    /// Pushes `name` (all its tags when `tag` is empty).
    pub async fn push(
        &self,
        name: &str,
        tag: &str,
        auth: Option<AuthConfig>,
    ) -> Result<ProgressStream> {
        let _ = (name, tag, auth);
        Err(Error::missing("image push"))
    }

    /// Makes an image of a tar.
    pub async fn import(
        &self,
        options: ImportOptions,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ProgressStream> {
        let _ = (options, tar);
        Err(Error::missing("image import"))
    }

    /// Loads a docker archive or an OCI layout.
    pub async fn load(
        &self,
        quiet: bool,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ProgressStream> {
        let _ = (quiet, tar);
        Err(Error::missing("image load"))
    }

    /// The images as a docker archive that is an OCI layout too.
    pub async fn save(&self, names: Vec<String>) -> Result<ByteStream> {
        let _ = names;
        Err(Error::missing("image save"))
    }

    /// The images, newest first.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        let _ = options;
        Err(Error::missing("image list"))
    }

    /// Everything about one image.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let _ = name;
        Err(Error::missing("image inspect"))
    }

    /// Its layers and how they were made, newest first.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let _ = name;
        Err(Error::missing("image history"))
    }

    /// Gives an image a further name.
    pub async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let _ = (name, repo, tag);
        Err(Error::missing("image tag"))
    }

    /// Removes a name, or an image.
    pub async fn remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        let _ = (name, force, no_prune);
        Err(Error::missing("image remove"))
    }

    /// Removes unused images.
    pub async fn prune(&self, filters: Filters) -> Result<ImagesPruneReport> {
        let _ = filters;
        Err(Error::missing("image prune"))
    }

    /// Makes an image of a container; returns its id.
    pub async fn commit(&self, options: CommitOptions) -> Result<String> {
        let _ = options;
        Err(Error::missing("commit"))
    }

    /// What a registry has under a name.
    pub async fn distribution(
        &self,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        let _ = (name, auth);
        Err(Error::missing("distribution inspect"))
    }

    /// Searches a registry.
    pub async fn search(
        &self,
        term: &str,
        limit: usize,
        filters: Filters,
        auth: Option<AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        let _ = (term, limit, filters, auth);
        Err(Error::missing("image search"))
    }

    /// Checks credentials.
    pub async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        let _ = auth;
        Err(Error::missing("registry login"))
    }

    /// Labels of an image, for whoever only needs those.
    pub async fn labels(&self, name: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.inspect(name).await?.config.labels)
    }
}
