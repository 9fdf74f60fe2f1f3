//! The values that go in and out of [`Images`](crate::Images).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Policy;
use hull_oci::image::ContainerConfig;
use hull_oci::{Descriptor, Digest, ImageConfig, Platform, Reference};
use hull_state::Db;
use hull_store::content::Content;
use hull_store::snapshot::Snapshotter;

/// Called at named points of pull and prune; an error ends the sequence there. For tests, which also end the process there.
pub type Failpoint = Arc<dyn Fn(&'static str) -> std::result::Result<(), String> + Send + Sync>;

/// What the service is made of.
pub struct ImagesOptions {
    /// The database.
    pub db: Db,
    /// The blobs.
    pub content: Content,
    /// The storage driver.
    pub snapshotter: Arc<dyn Snapshotter>,
    /// Where and how to reach registries.
    pub registries: RegistryConfig,
    /// Layers fetched at once, over all pulls (`--max-concurrent-downloads`, Docker's 3).
    pub max_concurrent_downloads: usize,
    /// Layers sent at once, over all pushes (Docker's 5).
    pub max_concurrent_uploads: usize,
    /// Tries per layer (`--max-download-attempts`, Docker's 5).
    pub max_download_attempts: usize,
    /// Most bytes that one layer may unpack to.
    pub max_layer_bytes: u64,
    /// Which images may be pulled; any when `None`.
    pub policy: Option<Policy>,
    /// Owners on disk (`--userns-remap`).
    pub ids: hull_store::layer::IdMaps,
    /// None in ordinary use.
    pub failpoint: Option<Failpoint>,
}

impl ImagesOptions {
    /// Docker's defaults for the rest.
    pub fn new(db: Db, content: Content, snapshotter: Arc<dyn Snapshotter>) -> Self {
        ImagesOptions {
            db,
            content,
            snapshotter,
            registries: RegistryConfig::default(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            max_layer_bytes: 256 << 30,
            policy: None,
            ids: hull_store::layer::IdMaps::default(),
            failpoint: None,
        }
    }
}

/// What of [`ImagesOptions`] can be changed while the service runs.
#[derive(Debug, Clone)]
pub struct Transfers {
    /// [`RegistryConfig::mirrors`].
    pub mirrors: Vec<String>,
    /// [`RegistryConfig::insecure`].
    pub insecure: Vec<String>,
    /// [`ImagesOptions::max_concurrent_downloads`].
    pub max_concurrent_downloads: usize,
    /// [`ImagesOptions::max_concurrent_uploads`].
    pub max_concurrent_uploads: usize,
    /// [`ImagesOptions::max_download_attempts`].
    pub max_download_attempts: usize,
}

/// Where and how to reach registries.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Mirrors of docker.io, as URLs, tried in order before it (`--registry-mirror`).
    pub mirrors: Vec<String>,
    /// Hosts (`name[:port]`) and networks (CIDR) that may be spoken to over plain HTTP or with unknown certificates
    /// (`--insecure-registry`). 127.0.0.0/8 and ::1 always are.
    pub insecure: Vec<String>,
    /// Directory of `<host[:port]>/{*.crt,*.cert,*.key}` or `<host[:port]>/hosts.toml` (`/etc/docker/certs.d`).
    pub certs_dir: Option<PathBuf>,
    /// Proxies; what is empty here is taken from the environment.
    pub proxies: Proxies,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a registry in the middle of an answer.
    pub stall_timeout: Duration,
    /// Wait before the second try of a layer; doubled for each further one.
    pub retry_delay: Duration,
}

/// Proxies, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` addresses.
    pub http: String,
    /// For `https://` addresses.
    pub https: String,
    /// Hosts, domains and networks that are reached directly, separated by commas.
    pub no_proxy: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            certs_dir: None,
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            retry_delay: Duration::from_secs(1),
        }
    }
}

/// Credentials for one registry, as in the API's `X-Registry-Auth`. An identity token is preferred to the password, a
/// registry token is sent as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token that buys access tokens.
    pub identity_token: Option<String>,
    /// A bearer token.
    pub registry_token: Option<String>,
}

/// Leaves the secrets out.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// What kind of OCI artifact it is, if it is no image: then it cannot be run.
    pub artifact_type: Option<String>,
    /// Digest of the config: the image id; of the manifest for an artifact.
    pub id: Digest,
    /// Its names with tags, sorted; empty for a dangling image.
    pub names: Vec<Reference>,
    /// `name@digest` under which registries know it, sorted.
    pub repo_digests: Vec<Reference>,
    /// The parsed config.
    pub config: ImageConfig,
    /// The config's bytes as hashed.
    pub raw_config: String,
    /// Chain id of the uppermost layer, which is the key of its snapshot; `None` for an image without layers.
    pub chain_id: Option<Digest>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// The manifest.
    pub target: Descriptor,
    /// When it was last tagged, RFC 3339; `None` when it never was.
    pub last_tagged: Option<String>,
    /// The image that it was committed from, while that is there.
    pub parent: Option<Digest>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Digest over it and all below.
    pub chain_id: Digest,
    /// Bytes unpacked, of this layer alone.
    pub size: u64,
}

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The platform wanted; the host's when `None`.
    pub platform: Option<Platform>,
    /// Credentials for the reference's registry.
    pub auth: Option<Auth>,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    /// The image.
    pub image_id: Digest,
    /// The digest that the reference had in the registry (an index's, where there is one).
    pub digest: Digest,
    /// Whether nothing had to be changed.
    pub up_to_date: bool,
}

/// How to push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Credentials for the reference's registry.
    pub auth: Option<Auth>,
}

/// What a push left in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOutcome {
    /// The tag.
    pub tag: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
}

/// What `GET /distribution/{name}/json` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributionInspect {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The platforms it serves.
    pub platforms: Vec<Platform>,
}

/// What a login brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `Login Succeeded`.
    pub status: String,
    /// A refresh token to keep in place of the password, where the registry gives one.
    pub identity_token: Option<String>,
}

/// A container that uses an image; the engine's knowledge, given to [`remove`](crate::Images::remove) and
/// [`prune`](crate::Images::prune).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container_id: String,
    /// The image's id.
    pub image_id: Digest,
    /// Whether it runs (or is paused): then even force does not delete the image.
    pub running: bool,
}

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name went, in familiar form (`busybox:latest`, `busybox@sha256:..`).
    Untagged(String),
    /// An image or a layer went, by id.
    Deleted(Digest),
}

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneOutcome {
    /// In the order done.
    pub removed: Vec<Removed>,
    /// Bytes freed on disk.
    pub reclaimed: u64,
}

/// One line of `docker history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image's id for the newest entry, for those below it their own where they are here; else `None` (`<missing>`).
    pub id: Option<Digest>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// Bytes of the layer, 0 for none.
    pub size: u64,
    /// The message.
    pub comment: String,
    /// Names of that image.
    pub tags: Vec<Reference>,
}

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Which platforms to load; of an index the host's when empty. Names go to the first that is there.
    pub platforms: Vec<Platform>,
}

/// One image of a loaded archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub image_id: Digest,
    /// The names it was given.
    pub names: Vec<Reference>,
}

/// How to import a root file system as an image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name for it.
    pub reference: Option<Reference>,
    /// The history's comment; Docker writes `Imported from -`.
    pub message: String,
    /// The image's config (`--change`s are applied by the caller).
    pub config: ContainerConfig,
    /// The platform recorded; the host's when `None`.
    pub platform: Option<Platform>,
}

/// How to make an image of a container's snapshot.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Key of the container's snapshot.
    pub snapshot_key: String,
    /// Paths, without a leading slash, that are no changes when they were added: see [`hull_store::layer::diff`].
    pub hidden: &'static [&'static str],
    /// The image that the container was made of.
    pub parent: Option<Digest>,
    /// The name for the new image.
    pub reference: Option<Reference>,
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
    /// The new image's config.
    pub config: ContainerConfig,
    /// The container's id, recorded in the config.
    pub container: Option<String>,
    /// The history's command line.
    pub created_by: String,
}
