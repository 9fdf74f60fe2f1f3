//! Online collection: mark what manifests refer to, sweep the rest, while pushes go on (see [`super::Gate`]).

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hull_oci::Digest;
use hull_oci::image::Document;

use super::manifests::{MANIFEST_LEN_MAX, Needs, subject};
use super::{Storage, files, list};
use crate::error::{Error, Result};
use crate::name::{Name, UploadId};

/// What may be collected.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Blobs that no manifest refers to stay this long: somebody may be about to push the manifest.
    pub grace: Duration,
    /// Uploads that got nothing for this long are removed.
    pub upload_age_max: Duration,
    /// Also removes manifests that have no tag, are in no index and refer to no manifest that is kept.
    pub untagged: bool,
    /// Also removes manifests that nobody asked for in this long (see [`Storage::use_manifest`]): for a cache.
    pub unused: Option<Duration>,
    /// Also removes those manifests that were asked for longest ago, until the rest and its blobs have at most so many bytes.
    pub size_max: Option<u64>,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions {
            grace: Duration::from_secs(24 * 3600),
            upload_age_max: Duration::from_secs(7 * 24 * 3600),
            untagged: false,
            unused: None,
            size_max: None,
        }
    }
}

/// What was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Manifests without a tag, or that nobody used.
    pub manifests: u64,
    /// Blobs taken from a repository.
    pub links: u64,
    /// Blobs removed from the disk.
    pub blobs: u64,
    /// Bytes freed, uploads included.
    pub bytes: u64,
    /// Uploads that nobody went on with.
    pub uploads: u64,
}

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes freed: {} blobs, {} uploads; {} manifests and {} links removed",
            self.bytes, self.blobs, self.uploads, self.manifests, self.links
        )
    }
}

impl Storage {
    /// Collects garbage. One at a time: the caller sees to it.
    pub fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport> {
        self.gate.start_pinning();
        let result = self.collect(options);
        self.gate.stop_pinning();
        result
    }

    fn collect(&self, options: &GcOptions) -> Result<GcReport> {
        let mut report = GcReport::default();
        let mut kept = HashSet::new();
        if let Some(size_max) = options.size_max {
            report.manifests += self.shrink(size_max)?;
        }
        for name in self.repositories()? {
            self.collect_repository(&name, options, &mut kept, &mut report)?;
        }
        for blob in self.content.walk()? {
            if kept.contains(&blob.digest) || !is_older(blob.modified, options.grace) {
                continue;
            }
            let removed = self
                .gate
                .unless_pinned(&blob.digest, || Ok(self.content.remove(&blob.digest)?))?;
            if removed == Some(true) {
                report.blobs += 1;
                report.bytes += blob.size;
            }
        }
        Ok(report)
    }

    /// Collects in one repository, and adds to `kept` whatever it still needs.
    fn collect_repository(
        &self,
        name: &Name,
        options: &GcOptions,
        kept: &mut HashSet<Digest>,
        report: &mut GcReport,
    ) -> Result<()> {
        let dir = self.repository(name);
        let mut manifests = Vec::new();
        for digest in list::digests(&dir.join("_manifests"))? {
            if self.remove_unused(name, &digest, options)? {
                report.manifests += 1;
                continue;
            }
            let needs = self.read_needs(&digest)?;
            manifests.push((digest, needs));
        }
        if options.untagged {
            self.remove_untagged(name, &mut manifests, options, report)?;
        }
        let mut referred = HashSet::new();
        for (digest, known) in &manifests {
            kept.insert(digest.clone());
            if let Some((needs, _)) = known {
                referred.extend(needs.all().cloned());
            }
        }
        for digest in list::digests(&dir.join("_blobs"))? {
            let link = self.blob_link(name, &digest);
            if referred.contains(&digest) || !is_old(&link, options.grace) {
                kept.insert(digest);
                continue;
            }
            match self.gate.unless_pinned(&digest, || files::remove(&link))? {
                Some(_) => report.links += 1,
                None => _ = kept.insert(digest),
            }
        }
        kept.extend(referred);
        self.sweep_referrers(&dir, name)?;
        self.sweep_uploads(&dir, options, report)?;
        sweep_partials(&dir, options)
    }

    /// Removes the manifests that a cache of `size_max` bytes has no place for; returns how many.
    fn shrink(&self, size_max: u64) -> Result<u64> {
        let mut known = Vec::new();
        for name in self.repositories()? {
            for digest in list::digests(&self.repository(&name).join("_manifests"))? {
                let link = fs::metadata(self.manifest_link(&name, &digest));
                // One that is being removed elsewhere takes no place.
                if let Ok(used) = link.and_then(|link| link.modified()) {
                    known.push((used, name.clone(), digest));
                }
            }
        }
        known.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut held = HashSet::new();
        let mut bytes = 0u64;
        let mut removed = 0;
        for (_, name, digest) in known {
            if bytes <= size_max {
                let needs = self.read_needs(&digest)?;
                let blobs = needs.iter().flat_map(|(needs, _)| needs.all());
                for blob in blobs.chain([&digest]) {
                    if held.insert(blob.clone()) {
                        // What was never fetched takes no place.
                        bytes += self.content.size(blob).unwrap_or(0);
                    }
                }
            }
            if bytes > size_max {
                let gone = self
                    .gate
                    .unless_pinned(&digest, || self.remove_manifest(&name, &digest))?;
                removed += u64::from(gone.is_some());
            }
        }
        Ok(removed)
    }

    fn remove_unused(&self, name: &Name, digest: &Digest, options: &GcOptions) -> Result<bool> {
        let Some(unused) = options.unused else {
            return Ok(false);
        };
        if !is_old(&self.manifest_link(name, digest), unused) {
            return Ok(false);
        }
        let removed = self
            .gate
            .unless_pinned(digest, || self.remove_manifest(name, digest))?;
        Ok(removed.is_some())
    }

    /// What a manifest needs and its subject; nothing when its bytes are gone. Any other failure ends the collection:
    /// to go on would be to take the content of a manifest that merely could not be read.
    fn read_needs(&self, digest: &Digest) -> Result<Option<(Needs, Option<Digest>)>> {
        let bytes = match self.content.read(digest, MANIFEST_LEN_MAX as u64) {
            Ok(bytes) => bytes,
            Err(hull_store::Error::BlobNotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let document = Document::parse(&bytes, None).map_err(Error::ManifestInvalid)?;
        Ok(Some((
            Needs::of(&document),
            subject(&document).map(|subject| subject.digest.clone()),
        )))
    }

    #[expect(clippy::type_complexity, reason = "one caller, taken apart at once")]
    fn remove_untagged(
        &self,
        name: &Name,
        manifests: &mut Vec<(Digest, Option<(Needs, Option<Digest>)>)>,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<()> {
        let mut live: HashSet<Digest> = self.tag_targets(name)?.into_values().collect();
        for (digest, _) in manifests.iter() {
            if !is_old(&self.manifest_link(name, digest), options.grace) {
                live.insert(digest.clone());
            }
        }
        // Children of what lives live, and what refers to something that lives; each round adds one or ends it.
        loop {
            let before = live.len();
            for (digest, known) in manifests.iter() {
                let Some((needs, subject)) = known else {
                    continue;
                };
                if subject
                    .as_ref()
                    .is_some_and(|subject| live.contains(subject))
                {
                    live.insert(digest.clone());
                }
                if live.contains(digest) {
                    live.extend(needs.manifests.iter().cloned());
                }
            }
            if live.len() == before {
                break;
            }
        }
        let mut result = Ok(());
        manifests.retain(|(digest, _)| {
            if live.contains(digest) || result.is_err() {
                return true;
            }
            match self
                .gate
                .unless_pinned(digest, || self.remove_manifest(name, digest))
            {
                Ok(Some(())) => {
                    report.manifests += 1;
                    false
                }
                Ok(None) => true,
                Err(error) => {
                    result = Err(error);
                    true
                }
            }
        });
        result
    }

    /// Removes entries whose manifest is gone.
    fn sweep_referrers(&self, dir: &Path, name: &Name) -> Result<()> {
        for subject in list::digests(&dir.join("_referrers"))? {
            let subject_dir = self.referrers_dir(name, &subject);
            for entry in files::entries(&subject_dir)? {
                let digest = entry.replacen('-', ":", 1).parse::<Digest>();
                let Ok(digest) = digest else { continue };
                if !self.manifest_link(name, &digest).exists() {
                    self.gate
                        .unless_pinned(&digest, || files::remove(&subject_dir.join(&entry)))?;
                }
            }
        }
        Ok(())
    }

    fn sweep_uploads(&self, dir: &Path, options: &GcOptions, report: &mut GcReport) -> Result<()> {
        let dir = dir.join("_uploads");
        for entry in files::entries(&dir)? {
            let Ok(id) = UploadId::new(&entry) else {
                continue;
            };
            let path = dir.join(&entry);
            if self.upload_is_busy(&id) || !is_old(&path, options.upload_age_max) {
                continue;
            }
            let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if files::remove(&path)? {
                self.forget_upload(&id);
                report.uploads += 1;
                report.bytes += len;
            }
        }
        Ok(())
    }
}

/// Removes what crashes left between creating and renaming.
fn sweep_partials(dir: &Path, options: &GcOptions) -> Result<()> {
    let folders = [
        "_tags",
        "_blobs/sha256",
        "_blobs/sha512",
        "_manifests/sha256",
        "_manifests/sha512",
    ];
    for folder in folders {
        let folder = dir.join(folder);
        for entry in files::entries(&folder)? {
            // At least an hour, whatever the grace: nobody takes that long between creating and renaming.
            let path = folder.join(&entry);
            let age = options.grace.max(Duration::from_secs(3600));
            if entry.starts_with(files::PARTIAL_PREFIX) && is_old(&path, age) {
                files::remove(&path)?;
            }
        }
    }
    Ok(())
}

fn is_old(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| is_older(modified, age))
}

/// A time in the future is not old: the clock was set back.
fn is_older(time: SystemTime, age: Duration) -> bool {
    time.elapsed().is_ok_and(|past| past >= age)
}
