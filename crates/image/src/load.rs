//! Loading archives: Docker's (`docker save`, old and new) and OCI layouts, plain or compressed, one or several images.
//!
//! The archive is read once, front to back: every file goes into the content store by its digest, and the documents are
//! read from there. So the order of members does not matter, and nothing is kept in memory but names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use hull_oci::image::{
    Compression, DOCUMENT_LEN_MAX, Document, chain_ids, is_index, media_type, sniff,
};
use hull_oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use hull_store::layer::tar::{Entry, Kind, Reader};
use hull_store::layer::{decompress, decompress_detect};
use serde::Deserialize;

use crate::compress::local_manifest;
use crate::images::{CONFIG_LEN_MAX, Images};
use crate::lease::Lease;
use crate::progress::ProgressSink;
use crate::pull::invalid;
use crate::types::{LoadOptions, Loaded};
use crate::unpack::{Documents, NewImage, Staged, is_image_config, parse_config};
use crate::{Error, Result};

/// Most members of an archive.
const MEMBERS_MAX: usize = 65_536;
/// Deepest nesting of indexes.
pub(crate) const INDEX_DEPTH_MAX: usize = 4;
/// Layers unpacked at once.
const WORKERS_MAX: usize = 4;
const BUFFER_LEN: usize = 128 * 1024;

/// One image in `manifest.json` of Docker's archives.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The files of an archive, by path.
pub(crate) struct Archive {
    files: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
    /// Keeps blobs and layers while the images are being recorded.
    pub lease: Lease,
    /// Layers that were unpacked while the rest was being read.
    staged: Mutex<HashMap<Digest, Staged>>,
}

impl Archive {
    fn find(&self, path: &str) -> Option<&(Digest, u64)> {
        let mut path = path;
        for _ in 0..8 {
            if let Some(found) = self.files.get(path) {
                return Some(found);
            }
            path = self.links.get(path)?;
        }
        None
    }
}

impl Images {
    /// Loads the images of an archive. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no archive of images; [`Error::Store`] for damaged layers.
    pub fn load(
        &self,
        input: impl Read + Send + 'static,
        options: &LoadOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<Loaded>> {
        let mut archive = Archive {
            lease: Lease::new(self)?,
            files: HashMap::new(),
            links: HashMap::new(),
            staged: Mutex::default(),
        };
        let taken = self.take_in(input, &mut archive);
        let outcome = taken.and_then(|()| self.load_archive(&archive, options, progress));
        let Archive { files, lease, .. } = archive;
        drop(lease);
        // What no image took has no row: no collection would find it.
        self.forget(files.values().map(|(digest, _)| digest))?;
        outcome.map_err(lacking)
    }

    fn load_archive(
        &self,
        archive: &Archive,
        options: &LoadOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<Loaded>> {
        if archive.find("index.json").is_some() && archive.find("oci-layout").is_some() {
            return self.load_layout(archive, options, progress);
        }
        match archive.find("manifest.json") {
            Some((digest, _)) => self.load_docker(archive, digest, options, progress),
            None => Err(Error::Invalid(
                "open manifest.json: no such file or directory: the archive holds no image (a root file system is taken by import)"
                    .to_owned(),
            )),
        }
    }

    /// Stores every file of the archive as content, and unpacks what looks like a layer beside that.
    fn take_in(&self, input: impl Read + Send + 'static, archive: &mut Archive) -> Result<()> {
        let known: BTreeSet<String> = self
            .options()
            .db
            .read(hull_state::layers::list)?
            .into_iter()
            .flat_map(|layer| [Some(layer.diff_id), layer.blob_digest])
            .flatten()
            .collect();
        let staged = Mutex::new(HashMap::new());
        let (sender, receiver) = mpsc::sync_channel::<Digest>(WORKERS_MAX);
        let receiver = Mutex::new(receiver);
        let next = || {
            receiver
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv()
                .ok()
        };
        let outcome = std::thread::scope(|scope| {
            for _ in 0..workers() {
                scope.spawn(|| {
                    while let Some(digest) = next() {
                        // What is no layer after all, or a damaged one, is met again when an image names it.
                        if let Ok(layer) = self.stage_blob(&digest, true) {
                            staged
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .insert(digest, layer);
                        }
                    }
                });
            }
            let found = move |digest: &Digest| {
                if !known.contains(&digest.to_string()) && self.looks_like_a_layer(digest) {
                    // The workers live as long as this sender.
                    let _ = sender.send(digest.clone());
                }
            };
            self.take_in_members(input, archive, found)
        });
        archive.staged = staged;
        outcome
    }

    /// Compressed, or with tar's magic.
    fn looks_like_a_layer(&self, digest: &Digest) -> bool {
        let mut head = Vec::with_capacity(262);
        let read = self
            .options()
            .content
            .get(digest)
            .map(|file| file.take(262).read_to_end(&mut head));
        matches!(read, Ok(Ok(_)))
            && (sniff(&head) != Compression::None || head.get(257..262) == Some(b"ustar"))
    }

    fn take_in_members(
        &self,
        input: impl Read + Send + 'static,
        archive: &mut Archive,
        found: impl Fn(&Digest),
    ) -> Result<()> {
        let stream = |source| Error::Stream {
            operation: "read the archive",
            source,
        };
        let (_, plain) = decompress_detect(input).map_err(stream)?;
        let mut reader = Reader::new(BufReader::with_capacity(BUFFER_LEN, plain));
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            let path = clean(&entry.path)?;
            if archive.files.len() + archive.links.len() >= MEMBERS_MAX {
                return Err(Error::Invalid(format!(
                    "the archive has more than {MEMBERS_MAX} members"
                )));
            }
            match entry.kind {
                Kind::File => {
                    let size = entry.size;
                    let digest = self.take_in_file(&mut reader, size, &archive.lease)?;
                    found(&digest);
                    archive.files.insert(path, (digest, size));
                }
                Kind::Symlink => {
                    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = [dir.as_bytes(), b"/", entry.link.as_slice()].concat();
                    archive.links.insert(path, clean(&target)?);
                }
                Kind::HardLink => {
                    archive.links.insert(path, clean(&entry.link)?);
                }
                Kind::Directory | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {}
            }
        }
        Ok(())
    }

    fn take_in_file<R: std::io::BufRead>(
        &self,
        reader: &mut Reader<R>,
        size: u64,
        lease: &Lease,
    ) -> Result<Digest> {
        let mut writer = self.options().content.writer(None, Some(size))?;
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                return lease.store(writer);
            }
            let count = chunk.len();
            writer.write_all(chunk).map_err(|source| Error::Stream {
                operation: "store the archive",
                source,
            })?;
            reader.consume(count);
        }
    }

    /// Removes files of content that have no row.
    fn forget<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> Result<()> {
        let _guard = self.collecting();
        for digest in digests {
            let row = self
                .options()
                .db
                .read(|tx| hull_state::content::get(tx, &digest.to_string()))?;
            if row.is_none() {
                self.options().content.remove(digest)?;
            }
        }
        Ok(())
    }

    fn load_docker(
        &self,
        archive: &Archive,
        list: &Digest,
        options: &LoadOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<Loaded>> {
        let bytes = self.options().content.read(list, DOCUMENT_LEN_MAX as u64)?;
        let images: Vec<ArchiveImage> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("invalid manifest.json: {error}")))?;
        let mut loaded = Vec::new();
        for image in images {
            let missing =
                |path: &str| Error::Invalid(format!("open {path}: no such file or directory"));
            let (config, config_size) = archive
                .find(&image.config)
                .ok_or_else(|| missing(&image.config))?;
            let mut layers = Vec::new();
            for path in image.layers.unwrap_or_default() {
                let (digest, size) = archive.find(&path).ok_or_else(|| missing(&path))?;
                let kind = match self.compression(digest)? {
                    Compression::None => media_type::OCI_LAYER,
                    Compression::Gzip => media_type::OCI_LAYER_GZIP,
                    Compression::Zstd => media_type::OCI_LAYER_ZSTD,
                    Compression::Xz | Compression::Bzip2 => {
                        return Err(Error::Invalid(format!(
                            "{path}: unsupported compression of a layer"
                        )));
                    }
                };
                layers.push(Descriptor::new(kind, digest.clone(), *size));
            }
            let config = Descriptor::new(media_type::OCI_CONFIG, config.clone(), *config_size);
            if !self.is_of(&config, &options.platforms)? {
                continue;
            }
            let manifest = local_manifest(config, layers);
            let bytes =
                serde_json::to_vec(&manifest).map_err(|error| Error::Invalid(error.to_string()))?;
            let mut names = Vec::new();
            for name in image.repo_tags.unwrap_or_default() {
                names.push(Reference::parse_normalized(&name)?.with_default_tag());
            }
            loaded.push(self.load_manifest(
                archive,
                &bytes,
                &manifest,
                media_type::OCI_MANIFEST,
                names,
                progress,
            )?);
        }
        none_of(&loaded, &options.platforms)?;
        Ok(loaded)
    }

    /// Whether an image is of one of the platforms; of any when none are given.
    fn is_of(&self, config: &Descriptor, platforms: &[Platform]) -> Result<bool> {
        if platforms.is_empty() {
            return Ok(true);
        }
        let bytes = self
            .options()
            .content
            .read(&config.digest, CONFIG_LEN_MAX)?;
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("invalid image config: {error}")))?;
        let own = config.platform();
        Ok(platforms.iter().any(|wanted| own.matches(wanted)))
    }

    fn load_layout(
        &self,
        archive: &Archive,
        options: &LoadOptions,
        progress: &ProgressSink,
    ) -> Result<Vec<Loaded>> {
        let Some((digest, _)) = archive.find("index.json") else {
            return Ok(Vec::new());
        };
        let bytes = self
            .options()
            .content
            .read(digest, DOCUMENT_LEN_MAX as u64)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("invalid index.json: {error}")))?;
        let host = [Platform::host()];
        let wanted = match options.platforms.as_slice() {
            [] => &host[..],
            wanted => wanted,
        };
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in &index.manifests {
            let mut names = names_of(descriptor)?;
            let mut seen = BTreeSet::new();
            for platform in wanted {
                let Some((bytes, kind, manifest)) = self.find_manifest(descriptor, platform, 0)?
                else {
                    continue;
                };
                if !is_image_config(&manifest.config.media_type) {
                    if seen.insert(descriptor.digest.clone()) {
                        let names = std::mem::take(&mut names);
                        loaded.push(self.load_artifact(archive, &bytes, &manifest, &kind, names)?);
                    }
                } else if self.is_of(&manifest.config, &options.platforms)?
                    && seen.insert(manifest.config.digest.clone())
                {
                    let names = std::mem::take(&mut names);
                    loaded.push(
                        self.load_manifest(archive, &bytes, &manifest, &kind, names, progress)?,
                    );
                }
            }
        }
        none_of(&loaded, wanted)?;
        Ok(loaded)
    }

    /// The manifest that a descriptor of the layout leads to, for the platform.
    fn find_manifest(
        &self,
        descriptor: &Descriptor,
        wanted: &Platform,
        depth: usize,
    ) -> Result<Option<(Vec<u8>, String, Manifest)>> {
        if depth > INDEX_DEPTH_MAX {
            return Err(Error::Invalid(
                "indexes are nested too deeply, or in a circle".to_owned(),
            ));
        }
        let bytes = self
            .options()
            .content
            .read(&descriptor.digest, DOCUMENT_LEN_MAX as u64)?;
        let document = Document::parse(&bytes, Some(&descriptor.media_type)).map_err(invalid)?;
        match document {
            Document::Manifest(manifest) => {
                let kind = manifest
                    .media_type
                    .clone()
                    .unwrap_or_else(|| descriptor.media_type.clone());
                Ok(Some((bytes, kind, manifest)))
            }
            Document::Index(index) => match index.select(wanted) {
                Some(next)
                    if is_index(&next.media_type) || self.options().content.has(&next.digest) =>
                {
                    self.find_manifest(next, wanted, depth + 1)
                }
                Some(_) | None => Ok(None),
            },
        }
    }

    fn load_manifest(
        &self,
        archive: &Archive,
        manifest_bytes: &[u8],
        manifest: &Manifest,
        manifest_type: &str,
        names: Vec<Reference>,
        progress: &ProgressSink,
    ) -> Result<Loaded> {
        let config_bytes = self
            .options()
            .content
            .read(&manifest.config.digest, CONFIG_LEN_MAX)?;
        let config = parse_config(&config_bytes, manifest.layers.len())?;
        self.unpack_blobs(archive, &config, &manifest.layers, progress)?;
        let new = NewImage {
            documents: Documents {
                manifest_bytes,
                manifest,
                manifest_type,
                index: None,
                names: &names,
                repo_digest: None,
            },
            config_bytes: &config_bytes,
            config: &config,
        };
        Ok(Loaded {
            image_id: self.record(&new)?,
            names,
        })
    }

    pub(crate) fn compression(&self, digest: &Digest) -> Result<Compression> {
        let mut head = Vec::with_capacity(8);
        let read = self
            .options()
            .content
            .get(digest)?
            .take(8)
            .read_to_end(&mut head);
        read.map_err(|source| Error::Stream {
            operation: "read a layer",
            source,
        })?;
        Ok(sniff(&head))
    }

    /// Unpacks a stored blob, whatever its compression. `fresh`: it was verified just now, when it was written.
    pub(crate) fn stage_blob(&self, blob: &Digest, fresh: bool) -> Result<Staged> {
        let compression = self.compression(blob)?;
        let file = self.options().content.get(blob)?;
        let plain = decompress(file, compression).map_err(|source| Error::Stream {
            operation: "decompress a layer",
            source,
        })?;
        let known = (fresh && compression == Compression::None).then(|| blob.clone());
        self.stage(plain, known)
            .map_err(|error| Error::Layer(format!("layer {}", blob.short()), error))
    }

    fn staged_or_stage(&self, archive: &Archive, blob: &Digest) -> Result<Staged> {
        let staged = archive
            .staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(blob);
        match staged {
            Some(staged) => Ok(staged),
            None => self.stage_blob(blob, false),
        }
    }

    /// Unpacks the layers that are missing, several at once, and commits them in order.
    fn unpack_blobs(
        &self,
        archive: &Archive,
        config: &ImageConfig,
        blobs: &[Descriptor],
        progress: &ProgressSink,
    ) -> Result<()> {
        let diff_ids = &config.rootfs.diff_ids;
        let chains = chain_ids(diff_ids);
        archive.lease.hold(&[], &chains)?;
        let mut missing = Vec::new();
        for (index, chain) in chains.iter().enumerate() {
            if !self.has_layer(chain)? {
                missing.push(index);
            }
        }
        let workers = workers().min(missing.len());
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let sender = sender.clone();
                scope.spawn(|| {
                    let sender = sender;
                    while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // The receiver is gone after an error: so is the need for more.
                        if sender
                            .send((*index, self.staged_or_stage(archive, &blobs[*index].digest)))
                            .is_err()
                        {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut ready = BTreeMap::new();
            let mut waiting = missing.iter().copied().peekable();
            for (index, staged) in receiver {
                ready.insert(index, staged?);
                while let Some(index) = waiting.next_if(|index| ready.contains_key(index)) {
                    let Some(staged) = ready.remove(&index) else {
                        continue;
                    };
                    let parent = index.checked_sub(1).map(|below| &chains[below]);
                    let size = blobs[index].size;
                    progress.count(diff_ids[index].short(), "Loading layer", size, Some(size));
                    self.commit_staged(
                        staged,
                        &diff_ids[index],
                        &chains[index],
                        parent,
                        Some(&blobs[index]),
                    )
                    .map_err(|error| named_layer(error, index))?;
                }
            }
            Ok(())
        })
    }
}

/// A layer that is not what the configuration says, in Docker's words.
fn named_layer(error: Error, index: usize) -> Error {
    match error {
        Error::Store(hull_store::Error::DigestMismatch { expected, actual }) => Error::Invalid(
            format!("invalid diffID for layer {index}: expected \"{expected}\", got \"{actual}\""),
        ),
        other => other,
    }
}

/// What is not found while an archive is loaded is not in it.
fn lacking(error: Error) -> Error {
    use hull_store::Error::BlobNotFound;
    match error {
        Error::Store(BlobNotFound(digest)) | Error::Layer(_, BlobNotFound(digest)) => {
            Error::Invalid(format!("the archive lacks {digest}, which it names"))
        }
        error => error,
    }
}

/// Nothing loaded is an error.
fn none_of(loaded: &[Loaded], wanted: &[Platform]) -> Result<()> {
    if !loaded.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<String> = wanted.iter().map(Platform::to_string).collect();
    Err(Error::Invalid(format!(
        "requested platform ({}) not found: the archive has no image for it",
        wanted.join(", ")
    )))
}

/// How many layers are unpacked at once.
fn workers() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS_MAX)
}

/// The names that an entry of a layout's index gives.
fn names_of(descriptor: &Descriptor) -> Result<Vec<Reference>> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    let name = annotation("io.containerd.image.name").or_else(|| {
        // Podman writes whole names here, the specification means a tag only.
        annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']))
    });
    match name {
        Some(name) => {
            let reference = Reference::parse_normalized(name)?.with_default_tag();
            Ok(if reference.tag.is_some() {
                vec![Reference {
                    digest: None,
                    ..reference
                }]
            } else {
                Vec::new()
            })
        }
        None => Ok(Vec::new()),
    }
}

/// A member's path without `./`, `..` and doubled slashes.
fn clean(path: &[u8]) -> Result<String> {
    let path = std::str::from_utf8(path)
        .map_err(|_| Error::Invalid("the archive has a path that is no text".to_owned()))?;
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Ok(parts.join("/"))
}
