//! The images service: `hull_image` in the API's shapes, with events and with the containers that use an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use hull_api::auth::{AuthConfig, AuthResponse};
use hull_api::container::ContainerConfig;
use hull_api::filters::Filters;
use hull_api::image::{
    Descriptor, DistributionInspect, HistoryItem, ImageDeleteItem, ImageInspect, ImageMetadata,
    ImageSummary, ImagesPruneReport, RootFs, SearchResult,
};
use hull_api::inspect::DriverData;
use hull_api::progress::{ProgressDetail, ProgressMessage};
use hull_image::{Auth, Image, ImageUser, Progress, ProgressSink, Removed};
use hull_oci::{Digest, Platform, Reference};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result, chain, failed};
use crate::image_filter::names;
use crate::streams::{ByteStream, ProgressStream};
use crate::world::{World, blocking};

/// Lines of progress that wait for a slow client.
const PROGRESS_QUEUED_MAX: usize = 64;

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

/// Where an import comes from.
pub enum ImportSource {
    /// The request's body.
    Tar(Box<dyn AsyncRead + Send + Unpin>),
    /// An address to fetch.
    Url(String),
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
    /// The manifests of each, too.
    pub manifests: bool,
    /// Docker's filters.
    pub filters: Filters,
}

/// The images service. A cheap clone.
#[derive(Clone)]
pub struct Images {
    pub(crate) world: Arc<World>,
}

impl From<hull_image::Error> for Error {
    fn from(error: hull_image::Error) -> Error {
        use hull_image::Kind as K;
        let kind = match error.kind() {
            K::NotFound => Kind::NotFound,
            K::Unauthorized => Kind::Unauthorized,
            K::InvalidParameter => Kind::InvalidParameter,
            K::Unavailable => Kind::Unavailable,
            K::Conflict => Kind::Conflict,
            K::Forbidden => Kind::Forbidden,
            K::Internal => Kind::Internal,
        };
        Error::new(kind, chain(&error))
    }
}

fn auth(config: AuthConfig) -> Auth {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Auth {
        username: config.username,
        password: config.password,
        identity_token: given(config.identitytoken),
        registry_token: given(config.registrytoken),
    }
}

fn platform(text: &str) -> Result<Option<Platform>> {
    match text {
        "" => Ok(None),
        text => Platform::parse(text)
            .map(Some)
            .map_err(|error| Error::invalid(error.to_string())),
    }
}

/// `name` with `tag`, which may be a digest; neither: `default_tag` decides.
pub(crate) fn reference(name: &str, tag: &str) -> Result<Reference> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    Reference::parse_normalized(&text).map_err(|error| Error::invalid(error.to_string()))
}

fn message(progress: Progress) -> ProgressMessage {
    let counts = progress.current.is_some() || progress.total.is_some();
    ProgressMessage {
        status: progress.status,
        id: progress.id.unwrap_or_default(),
        progress_detail: Some(match counts {
            true => ProgressDetail {
                current: progress
                    .current
                    .and_then(|count| i64::try_from(count).ok())
                    .unwrap_or(0),
                total: progress
                    .total
                    .and_then(|count| i64::try_from(count).ok())
                    .unwrap_or(0),
                ..ProgressDetail::default()
            },
            false => ProgressDetail::default(),
        }),
        ..ProgressMessage::default()
    }
}

/// What a long operation says: progress, and at the end further lines or the error.
async fn told(
    mut progress: mpsc::Receiver<Progress>,
    outcome: impl Future<Output = Result<Vec<ProgressMessage>>> + Send + 'static,
) -> Result<ProgressStream> {
    let (sender, mut lines) = mpsc::channel::<Result<ProgressMessage>>(PROGRESS_QUEUED_MAX);
    // When the client goes away the stream is dropped, the send fails, and with it the operation is given up.
    tokio::spawn(async move {
        tokio::pin!(outcome);
        let mut open = true;
        let done = loop {
            tokio::select! {
                biased;
                line = progress.recv(), if open => match line {
                    Some(line) => if sender.send(Ok(message(line))).await.is_err() { return },
                    None => open = false,
                },
                done = &mut outcome => break done,
            }
        };
        while let Ok(line) = progress.try_recv() {
            let _ = sender.send(Ok(message(line))).await;
        }
        match done {
            Ok(more) => {
                for line in more {
                    let _ = sender.send(Ok(line)).await;
                }
            }
            Err(error) => {
                let _ = sender.send(Err(error)).await;
            }
        }
    });
    // An error before any progress is the call's own, with its status.
    let first = match lines.recv().await {
        None => return Ok(Box::pin(futures_util::stream::empty())),
        Some(Err(error)) => return Err(error),
        Some(Ok(first)) => first,
    };
    let rest = futures_util::stream::poll_fn(move |cx| lines.poll_recv(cx));
    Ok(Box::pin(
        futures_util::stream::iter([Ok(first)]).chain(rest),
    ))
}

fn status_line(text: String) -> ProgressMessage {
    ProgressMessage {
        status: text,
        ..ProgressMessage::default()
    }
}

impl Images {
    fn emit(&self, action: &str, id: &str, name: &str) {
        let mut attributes: BTreeMap<String, String> = self
            .world
            .images
            .resolve(id)
            .map(|image| labels_of(&image))
            .unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        self.world.events.publish("image", action, id, attributes);
    }

    /// Who uses which image.
    fn users(&self) -> Vec<ImageUser> {
        let one = |view: Arc<crate::task::View>| {
            Some(ImageUser {
                container_id: view.record.id.clone(),
                image_id: view.record.image_id.parse::<Digest>().ok()?,
                running: view.state.phase.is_running(),
            })
        };
        self.world
            .registry
            .views()
            .into_iter()
            .filter_map(one)
            .collect()
    }

    /// Pulls. An error before any progress is this call's error; a later one is the stream's last item.
    pub async fn pull(&self, options: PullOptions) -> Result<ProgressStream> {
        let wanted = reference(&options.image, &options.tag)?;
        let all_tags = options.tag.is_empty() && wanted.tag.is_none() && wanted.digest.is_none();
        let pull = hull_image::PullOptions {
            platform: platform(&options.platform)?,
            auth: options.auth.map(auth),
        };
        let (sink, progress) = ProgressSink::channel(PROGRESS_QUEUED_MAX);
        let service = self.clone();
        told(progress, async move {
            let images = service.world.images.clone();
            match all_tags {
                true => {
                    images.pull_all_tags(&wanted, &pull, &sink).await?;
                }
                false => {
                    images.pull(&wanted, &pull, &sink).await?;
                }
            }
            let name = wanted.familiar();
            service.emit("pull", &name, &name);
            Ok(Vec::new())
        })
        .await
    }

    /// Pushes `name` (all its tags when `tag` is empty).
    pub async fn push(
        &self,
        name: &str,
        tag: &str,
        credentials: Option<AuthConfig>,
    ) -> Result<ProgressStream> {
        let wanted = reference(name, tag)?;
        let options = hull_image::PushOptions {
            auth: credentials.map(auth),
        };
        let (sink, progress) = ProgressSink::channel(PROGRESS_QUEUED_MAX);
        let service = self.clone();
        told(progress, async move {
            let images = service.world.images.clone();
            let outcomes = images.push(&wanted, &options, &sink).await?;
            let name = wanted.familiar();
            service.emit("push", &name, &name);
            let aux = |one: hull_image::PushOutcome| ProgressMessage {
                aux: Some(serde_json::json!({ "Tag": one.tag, "Digest": one.digest.to_string(), "Size": one.size })),
                ..ProgressMessage::default()
            };
            Ok(outcomes.into_iter().map(aux).collect())
        })
        .await
    }

    /// Makes an image of a tar.
    pub async fn import(
        &self,
        options: ImportOptions,
        source: ImportSource,
    ) -> Result<ProgressStream> {
        let name = match options.repo.as_str() {
            "" => None,
            repo => Some(reference(repo, &options.tag)?.with_default_tag()),
        };
        let mut config = ContainerConfig::default();
        crate::changes::apply(&mut config, &options.changes)?;
        let import = hull_image::ImportOptions {
            reference: name.clone(),
            message: match (options.message.as_str(), &source) {
                ("", ImportSource::Tar(_)) => "Imported from -".to_owned(),
                ("", ImportSource::Url(address)) => format!("Imported from {address}"),
                (message, _) => message.to_owned(),
            },
            config: crate::changes::to_oci(&config),
            platform: platform(&options.platform)?,
        };
        // As Docker, an import from a stream says only what came of it.
        let (sink, progress) = ProgressSink::channel(PROGRESS_QUEUED_MAX);
        let service = self.clone();
        let reader: Box<dyn std::io::Read + Send> = match source {
            ImportSource::Tar(tar) => Box::new(tokio_util::io::SyncIoBridge::new(tar)),
            ImportSource::Url(address) => {
                let download = self.world.images.open_url(&address).await?;
                sink.state(None, format!("Downloading from {}", download.url))
                    .await;
                Box::new(download)
            }
        };
        drop(sink);
        told(progress, async move {
            let id = blocking(&service.world, move |world| {
                Ok(world.images.import(reader, &import)?)
            })
            .await?;
            let shown = name.map_or_else(|| id.to_string(), |name| name.familiar());
            service.emit("import", &id.to_string(), &shown);
            Ok(vec![status_line(id.to_string())])
        })
        .await
    }

    /// Loads a docker archive or an OCI layout.
    pub async fn load(
        &self,
        quiet: bool,
        platforms: Vec<Platform>,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<ProgressStream> {
        let options = hull_image::LoadOptions { platforms };
        let (sink, progress) = ProgressSink::channel(PROGRESS_QUEUED_MAX);
        let sink = if quiet { ProgressSink::none() } else { sink };
        let service = self.clone();
        let reader = tokio_util::io::SyncIoBridge::new(tar);
        told(progress, async move {
            let loaded = blocking(&service.world, move |world| {
                Ok(world.images.load(reader, &options, &sink)?)
            })
            .await?;
            let mut lines = Vec::new();
            for one in loaded {
                let id = one.image_id.to_string();
                let said = |text: String| ProgressMessage {
                    stream: text,
                    ..ProgressMessage::default()
                };
                for name in &one.names {
                    lines.push(said(format!("Loaded image: {}\n", name.familiar())));
                }
                if one.names.is_empty() {
                    lines.push(said(format!("Loaded image ID: {id}\n")));
                }
                let shown = one
                    .names
                    .first()
                    .map_or_else(|| id.clone(), Reference::familiar);
                service.emit("load", &id, &shown);
            }
            Ok(lines)
        })
        .await
    }

    /// The images as a docker archive that is an OCI layout too.
    pub async fn save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<ByteStream> {
        if names.is_empty() {
            return Err(Error::invalid("no images to save"));
        }
        let selected = self.world.images.select(&names, &platforms)?;
        for one in &selected {
            let id = one.image.id.to_string();
            self.emit("save", &id, &id);
        }
        let images = self.world.images.clone();
        Ok(crate::pipe::bytes(move |out| {
            let saved = images.save_selected(&selected, out);
            saved.map_err(Error::from).map(|_| ())
        }))
    }

    /// The images, newest first.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters
            .validate(&["before", "dangling", "label", "reference", "since", "until"])
            .map_err(Error::invalid)?;
        let dangling = filters.boolean("dangling").map_err(Error::invalid)?;
        let until = crate::containers::until(filters)?;
        let created = |image: &Image| image.config.created_at().map_or(0, |time| time.as_second());
        let bound = |key: &str| -> Result<Option<i64>> {
            filters
                .get(key)
                .map(|name| Ok(created(&self.world.images.resolve(name)?)))
                .next()
                .transpose()
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let users = self.users();
        let list = self.world.images.list()?;
        let shared = if options.shared_size {
            shared_sizes(&list)
        } else {
            BTreeMap::new()
        };
        let mut summaries = Vec::new();
        for image in &list {
            let labels = &labels_of(image);
            let wanted = dangling.is_none_or(|dangling| dangling == image.names.is_empty())
                && filters.matches_pairs("label", labels)
                && before.is_none_or(|before| created(image) < before)
                && since.is_none_or(|since| created(image) > since)
                && until.is_none_or(|until| created(image) < until)
                && (!filters.contains("reference")
                    || image
                        .names
                        .iter()
                        .chain(&image.repo_digests)
                        .any(|name| names(filters, name)));
            if !wanted {
                continue;
            }
            let mut summary = summary(image, &users);
            if filters.contains("reference") {
                let kept: Vec<String> = image
                    .names
                    .iter()
                    .filter(|name| names(filters, name))
                    .map(Reference::familiar)
                    .collect();
                summary.repo_tags = kept;
            }
            if let Some(size) = shared.get(&image.id.to_string()) {
                summary.shared_size = *size;
            }
            if options.manifests {
                summary.manifests = self.manifests(image, &list, &users)?;
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }

    /// Everything about one image; the manifests of its name only with `manifests`.
    pub async fn inspect(&self, name: &str, manifests: bool) -> Result<ImageInspect> {
        let image = self.world.images.resolve(name)?;
        let manifests = match manifests {
            true => self.manifests(&image, &self.world.images.list()?, &self.users())?,
            false => Vec::new(),
        };
        let data = match &image.chain_id {
            Some(chain) => {
                let key = chain.to_string();
                blocking(&self.world, move |world| {
                    world
                        .snapshots
                        .inspect_data(&key)
                        .map_err(failed("read the image's layers"))
                })
                .await?
            }
            None => Vec::new(),
        };
        Ok(ImageInspect {
            id: image.id.to_string(),
            repo_tags: image.names.iter().map(Reference::familiar).collect(),
            repo_digests: image.repo_digests.iter().map(Reference::familiar).collect(),
            parent: parent_of(&image),
            comment: comment_of(&image.config),
            created: image.config.created.clone().unwrap_or_default(),
            container: image.config.container.clone().unwrap_or_default(),
            container_config: image
                .config
                .container_config
                .clone()
                .and_then(|config| serde_json::from_value(config).ok())
                .unwrap_or_default(),
            docker_version: image.config.docker_version.clone().unwrap_or_default(),
            author: image.config.author.clone().unwrap_or_default(),
            config: config_of(&image),
            architecture: image.config.architecture.clone(),
            variant: image.config.variant.clone().unwrap_or_default(),
            os: image.config.os.clone(),
            os_version: image.config.os_version.clone().unwrap_or_default(),
            size: size_of(&image),
            graph_driver: Some(DriverData {
                data: data
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
                name: self.world.snapshots.name().to_owned(),
            }),
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers: image
                    .layers
                    .iter()
                    .map(|layer| layer.diff_id.to_string())
                    .collect(),
            },
            metadata: ImageMetadata {
                last_tag_time: image
                    .last_tagged
                    .clone()
                    .unwrap_or_else(|| hull_api::time::ZERO.to_owned()),
            },
            descriptor: Some(descriptor(&image.target)),
            manifests,
        })
    }

    /// Its layers and how they were made, newest first.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let entries = self.world.images.history(name)?;
        let item = |entry: hull_image::HistoryEntry| HistoryItem {
            comment: entry.comment,
            created: entry
                .created
                .as_deref()
                .map_or(0, crate::clock::unix_seconds),
            created_by: entry.created_by,
            id: entry
                .id
                .map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            tags: entry.tags.iter().map(Reference::familiar).collect(),
        };
        Ok(entries.into_iter().map(item).collect())
    }

    /// Gives an image a further name.
    pub async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let target = reference(repo, tag)?;
        let image = self.world.images.tag(name, &target)?;
        self.emit(
            "tag",
            &image.id.to_string(),
            &target.with_default_tag().familiar(),
        );
        Ok(())
    }

    /// Removes a name, or an image.
    pub async fn remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        let image = self.world.images.resolve(name)?;
        let id = image.id.to_string();
        let (users, name) = (self.users(), name.to_owned());
        let labels = labels_of(&image);
        let removed = blocking(&self.world, move |world| {
            Ok(world.images.remove(&name, force, !no_prune, &users)?)
        })
        .await?;
        self.tell_removed(&removed, &id, &labels);
        Ok(removed.iter().map(delete_item).collect())
    }

    fn tell_removed(&self, removed: &[Removed], id: &str, labels: &BTreeMap<String, String>) {
        for one in removed {
            let mut attributes = labels.clone();
            match one {
                Removed::Untagged(name) => {
                    attributes.insert("name".to_owned(), name.clone());
                    self.world.events.publish("image", "untag", id, attributes);
                }
                Removed::Deleted(digest) if digest.to_string() == id => {
                    attributes.insert("name".to_owned(), id.to_owned());
                    self.world.events.publish("image", "delete", id, attributes);
                }
                Removed::Deleted(_) => {}
            }
        }
    }

    /// Removes unused images.
    pub async fn prune(&self, filters: Filters) -> Result<ImagesPruneReport> {
        filters
            .validate(&["dangling", "label", "label!", "until"])
            .map_err(Error::invalid)?;
        let all = !filters
            .boolean("dangling")
            .map_err(Error::invalid)?
            .unwrap_or(true);
        let until = crate::containers::until(&filters)?;
        let users = self.users();
        let outcome = blocking(&self.world, move |world| {
            let keep = |image: &Image| {
                let labels = &labels_of(image);
                !filters.matches_pairs("label", labels)
                    || !filters.excludes_pairs("label!", labels)
                    || until.is_some_and(|until| {
                        image.config.created_at().map_or(0, |time| time.as_second()) > until
                    })
            };
            Ok(world.images.prune(&keep, all, &users)?)
        })
        .await?;
        let reclaimed = [("reclaimed".to_owned(), outcome.reclaimed.to_string())];
        self.world
            .events
            .publish("image", "prune", "", reclaimed.into());
        Ok(ImagesPruneReport {
            images_deleted: outcome.removed.iter().map(delete_item).collect(),
            space_reclaimed: outcome.reclaimed,
        })
    }

    /// What a registry has under a name.
    pub async fn distribution(
        &self,
        name: &str,
        credentials: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        let wanted = reference(name, "")?;
        let found = self
            .world
            .images
            .distribution_inspect(&wanted, credentials.map(auth).as_ref())
            .await?;
        Ok(DistributionInspect {
            descriptor: descriptor(&found.descriptor),
            platforms: found.platforms.iter().map(api_platform).collect(),
        })
    }

    /// Searches a registry.
    pub async fn search(
        &self,
        term: &str,
        limit: usize,
        filters: Filters,
        credentials: Option<AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        filters
            .validate(&["is-automated", "is-official", "stars"])
            .map_err(Error::invalid)?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let wanted: u64 = text
                .parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(wanted);
        }
        let options = hull_image::SearchOptions {
            term: term.to_owned(),
            limit,
            auth: credentials.map(auth),
            official: filters.boolean("is-official").map_err(Error::invalid)?,
            automated: filters.boolean("is-automated").map_err(Error::invalid)?,
            stars,
        };
        let found = self.world.images.search(&options).await?;
        let result = |one: hull_image::Found| SearchResult {
            star_count: i64::try_from(one.star_count).unwrap_or(i64::MAX),
            is_official: one.is_official,
            name: one.name,
            is_automated: one.is_automated,
            description: one.description,
        };
        Ok(found.into_iter().map(result).collect())
    }

    /// Checks credentials.
    pub async fn login(&self, credentials: AuthConfig) -> Result<AuthResponse> {
        let host = match credentials.serveraddress.as_str() {
            "" => "https://index.docker.io/v1/".to_owned(),
            address => address.to_owned(),
        };
        let login = self.world.images.login(&host, &auth(credentials)).await?;
        Ok(AuthResponse {
            status: login.status,
            identity_token: login.identity_token.unwrap_or_default(),
        })
    }

    /// Labels of an image, for whoever only needs those.
    pub async fn labels(&self, name: &str) -> Result<BTreeMap<String, String>> {
        Ok(labels_of(&self.world.images.resolve(name)?))
    }
}

fn delete_item(removed: &Removed) -> ImageDeleteItem {
    match removed {
        Removed::Untagged(name) => ImageDeleteItem {
            untagged: name.clone(),
            ..ImageDeleteItem::default()
        },
        Removed::Deleted(digest) => ImageDeleteItem {
            deleted: digest.to_string(),
            ..ImageDeleteItem::default()
        },
    }
}

fn labels_of(image: &Image) -> BTreeMap<String, String> {
    image
        .config
        .config
        .as_ref()
        .map(|config| config.labels.clone())
        .unwrap_or_default()
}

/// The image's configuration with the members that only Docker's has: clients up to API 1.49 see them.
fn config_of(image: &Image) -> Option<ContainerConfig> {
    let mut config = crate::changes::from_oci(image.config.config.as_ref()?);
    let whole: serde_json::Value = serde_json::from_str(&image.raw_config).unwrap_or_default();
    let given = &whole["config"];
    let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
    let flag = |key: &str| given[key] == true;
    config.hostname = text("Hostname");
    config.domainname = text("Domainname");
    config.image = text("Image");
    config.attach_stdin = flag("AttachStdin");
    config.attach_stdout = flag("AttachStdout");
    config.attach_stderr = flag("AttachStderr");
    config.tty = flag("Tty");
    config.open_stdin = flag("OpenStdin");
    config.stdin_once = flag("StdinOnce");
    Some(config)
}

/// The image's own comment, else that of its newest step.
fn comment_of(config: &hull_oci::ImageConfig) -> String {
    let newest = || config.history.last().and_then(|step| step.comment.clone());
    config.comment.clone().or_else(newest).unwrap_or_default()
}

fn parent_of(image: &Image) -> String {
    image
        .parent
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn size_of(image: &Image) -> i64 {
    i64::try_from(image.size).unwrap_or(i64::MAX)
}

pub(crate) fn summary(image: &Image, users: &[ImageUser]) -> ImageSummary {
    let containers = users
        .iter()
        .filter(|user| user.image_id == image.id)
        .count();
    ImageSummary {
        containers: containers as i64,
        created: image.config.created_at().map_or(0, |time| time.as_second()),
        id: image.id.to_string(),
        labels: labels_of(image),
        parent_id: parent_of(image),
        repo_digests: image.repo_digests.iter().map(Reference::familiar).collect(),
        repo_tags: image.names.iter().map(Reference::familiar).collect(),
        shared_size: -1,
        size: size_of(image),
        descriptor: Some(descriptor(&image.target)),
        manifests: Vec::new(),
    }
}

/// Bytes of layers that another image has too.
pub(crate) fn shared_sizes(images: &[Image]) -> BTreeMap<String, i64> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        *uses.entry(layer.chain_id.to_string()).or_default() += 1;
    }
    let shared = |image: &Image| {
        let layers = image.layers.iter().filter(|layer| {
            uses.get(&layer.chain_id.to_string())
                .is_some_and(|uses| *uses > 1)
        });
        i64::try_from(layers.map(|layer| layer.size).sum::<u64>()).unwrap_or(i64::MAX)
    };
    images
        .iter()
        .map(|image| (image.id.to_string(), shared(image)))
        .collect()
}

pub(crate) fn descriptor(target: &hull_oci::Descriptor) -> Descriptor {
    Descriptor {
        media_type: target.media_type.clone(),
        digest: target.digest.to_string(),
        size: i64::try_from(target.size).unwrap_or(i64::MAX),
        platform: target.platform.as_ref().map(api_platform),
        artifact_type: target.artifact_type.clone().unwrap_or_default(),
        ..Descriptor::default()
    }
}

pub(crate) fn api_platform(platform: &Platform) -> hull_api::image::Platform {
    hull_api::image::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        ..hull_api::image::Platform::default()
    }
}
