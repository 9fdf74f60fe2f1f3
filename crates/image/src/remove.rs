//! Removing names and images, pruning, collecting garbage. The rules and sentences are Docker's
//! (`daemon/images/image_delete.go`).

use std::collections::BTreeSet;
use std::time::Duration;

use hull_oci::{Digest, Reference};
use hull_state::{content, images, layers, leases};
use hull_store::snapshot::Kind as SnapshotKind;

use crate::images::{Images, load, resolve_id};
use crate::types::{Image, ImageUser, PruneOutcome, Removed};
use crate::unpack::STAGE_PREFIX;
use crate::{Error, Result};

impl Images {
    /// Removes a name, or an image with all its names. `prune` also collects what only it needed; without it the layers
    /// stay until the next collection. `users` are all containers.
    ///
    /// # Errors
    /// [`Error::Conflict`] in Docker's words; those of [`Images::resolve`].
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune: bool,
        users: &[ImageUser],
    ) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        let gone = self.options().db.try_write(|tx| {
            let id = resolve_id(tx, name)?;
            let image = load(tx, &id)?.ok_or_else(|| Error::NoSuchImage(name.to_owned()))?;
            let by_id = is_id_prefix(&image.id, name);
            if by_id {
                by_image_id(tx, &image, force, users, &mut removed)
            } else {
                by_name(tx, &image, name, force, users, &mut removed)
            }
        })?;
        if gone && prune {
            removed.extend(self.collect()?.0.into_iter().map(Removed::Deleted));
        }
        Ok(removed)
    }

    /// Removes the images that no container uses and that are dangling, or, with `all`, any such image, except those for
    /// which `keep` says so; and what interrupted downloads have left.
    ///
    /// # Errors
    /// Those of the database and the store.
    pub fn prune(
        &self,
        keep: &dyn Fn(&Image) -> bool,
        all: bool,
        users: &[ImageUser],
    ) -> Result<PruneOutcome> {
        let mut outcome = PruneOutcome::default();
        for image in self.list()? {
            let used = users.iter().any(|user| user.image_id == image.id);
            if used || (!all && !image.names.is_empty()) || keep(&image) {
                continue;
            }
            self.options()
                .db
                .try_write(|tx| remove_image(tx, &image, &mut outcome.removed))?;
        }
        self.pass("image.prune.rows")?;
        let (deleted, reclaimed) = self.collect()?;
        outcome
            .removed
            .extend(deleted.into_iter().map(Removed::Deleted));
        let partial = self.options().content.sweep_partial(Duration::ZERO)?;
        outcome.reclaimed = reclaimed + partial;
        Ok(outcome)
    }

    /// Bytes of downloads that were interrupted, or are under way.
    ///
    /// # Errors
    /// Those of the store.
    pub fn partial_bytes(&self) -> Result<u64> {
        Ok(self.options().content.partial_bytes()?)
    }

    /// Removes blobs and layers that nothing refers to. May run at any time. Returns the bytes freed.
    ///
    /// # Errors
    /// Those of the database and the store.
    pub fn collect_garbage(&self) -> Result<u64> {
        self.collect().map(|(_, freed)| freed)
    }

    /// The chain ids of the layers removed, and the bytes freed.
    fn collect(&self) -> Result<(Vec<Digest>, u64)> {
        let _guard = self.collecting();
        let options = self.options();
        let mut freed = 0;
        let mut deleted = Vec::new();
        let garbage = options.db.write(layers::unreferenced)?;
        for layer in garbage {
            let usage = options
                .snapshotter
                .usage(&layer.snapshot_key)
                .unwrap_or_default();
            options.db.write(|tx| layers::remove(tx, &layer.chain_id))?;
            self.pass("image.prune.layer")?;
            match options.snapshotter.remove(&layer.snapshot_key) {
                Ok(()) => freed += usage.bytes,
                Err(hull_store::Error::SnapshotNotFound(_)) => {}
                // Somebody built upon it in the meantime; a later collection sees it again.
                Err(hull_store::Error::SnapshotState { .. }) => {
                    options.db.write(|tx| layers::put(tx, &layer))?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            deleted.extend(layer.chain_id.parse::<Digest>().ok());
        }
        let blobs = options.db.write(|tx| {
            let garbage = content::unreachable(tx)?;
            for blob in &garbage {
                content::remove(tx, &blob.digest)?;
            }
            Ok(garbage)
        })?;
        self.pass("image.prune.blobs")?;
        for blob in blobs {
            if let Ok(digest) = blob.digest.parse()
                && options.content.remove(&digest)?
            {
                freed += blob.size;
            }
        }
        Ok((deleted, freed))
    }

    /// At the start nothing is in progress: ends all leases, removes half-unpacked layers, committed layers without a
    /// row, blobs without a row, and old partial downloads.
    pub(crate) fn sweep(&self) -> Result<()> {
        let options = self.options();
        options.db.write(leases::remove_all)?;
        let known: BTreeSet<String> = options
            .db
            .read(layers::list)?
            .into_iter()
            .map(|layer| layer.snapshot_key)
            .collect();
        for snapshot in options.snapshotter.walk()?.into_iter().rev() {
            let staged =
                snapshot.kind == SnapshotKind::Active && snapshot.key.starts_with(STAGE_PREFIX);
            let orphan = snapshot.kind == SnapshotKind::Committed
                && snapshot.key.parse::<Digest>().is_ok()
                && !known.contains(&snapshot.key);
            if staged || orphan {
                match options.snapshotter.remove(&snapshot.key) {
                    Ok(()) | Err(hull_store::Error::SnapshotState { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let rows: BTreeSet<String> = options
            .db
            .read(content::list)?
            .into_iter()
            .map(|blob| blob.digest)
            .collect();
        for blob in options.content.walk()? {
            if !rows.contains(&blob.digest.to_string()) {
                options.content.remove(&blob.digest)?;
            }
        }
        options
            .content
            .sweep_partial(hull_store::content::PARTIAL_AGE_MAX)?;
        Ok(())
    }
}

/// Whether `text` is (the beginning of) the id, and not a name that happens to be here.
fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.hex()
        .starts_with(text.strip_prefix("sha256:").unwrap_or(text))
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// All names and repository digests.
fn references(image: &Image) -> Vec<Reference> {
    image
        .names
        .iter()
        .chain(&image.repo_digests)
        .cloned()
        .collect()
}

/// Whether all references are one tag, and digests of that tag's repository.
fn is_single_reference(image: &Image) -> bool {
    match image.names.as_slice() {
        [] => {
            image
                .repo_digests
                .iter()
                .map(Reference::name)
                .collect::<BTreeSet<_>>()
                .len()
                <= 1
        }
        [one] => image
            .repo_digests
            .iter()
            .all(|digest| digest.name() == one.name()),
        _ => false,
    }
}

/// Removes one name. True when the image itself went.
fn by_name(
    tx: &hull_state::Tx<'_>,
    image: &Image,
    name: &str,
    force: bool,
    users: &[ImageUser],
    removed: &mut Vec<Removed>,
) -> Result<bool> {
    let reference = Reference::parse_normalized(name)?.with_default_tag();
    let user = users.iter().find(|user| user.image_id == image.id);
    if let (false, true, Some(user)) = (force, is_single_reference(image), user) {
        return Err(Error::Conflict(format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
            reference.familiar(),
            short(&user.container_id),
            image.id.short()
        )));
    }
    untag(tx, &reference, removed)?;
    let repository = reference.name();
    if reference.digest.is_none()
        && !image
            .names
            .iter()
            .any(|other| other.name() == repository && *other != reference)
    {
        for digest in image
            .repo_digests
            .iter()
            .filter(|digest| digest.name() == repository)
        {
            untag(tx, digest, removed)?;
        }
    }
    let left =
        load(tx, &image.id.to_string())?.ok_or_else(|| Error::NoSuchImage(name.to_owned()))?;
    if !references(&left).is_empty() {
        return Ok(false);
    }
    if let Some(conflict) = conflict(&left, force, users) {
        // The name is gone and the image stays for those who use it: Docker says nothing about that.
        let silent = users.iter().any(|user| user.image_id == image.id);
        return if silent { Ok(false) } else { Err(conflict) };
    }
    remove_image(tx, &left, removed)?;
    Ok(true)
}

fn by_image_id(
    tx: &hull_state::Tx<'_>,
    image: &Image,
    force: bool,
    users: &[ImageUser],
    removed: &mut Vec<Removed>,
) -> Result<bool> {
    if let Some(conflict) = conflict(image, force, users) {
        return Err(conflict);
    }
    remove_image(tx, image, removed)?;
    Ok(true)
}

/// Why an image may not be deleted, if so.
fn conflict(image: &Image, force: bool, users: &[ImageUser]) -> Option<Error> {
    let say = |how: &str, why: String| {
        Some(Error::Conflict(format!(
            "conflict: unable to delete {} ({how}) - {why}",
            image.id.short()
        )))
    };
    let mut using = users.iter().filter(|user| user.image_id == image.id);
    if let Some(user) = using.clone().find(|user| user.running) {
        let why = format!(
            "image is being used by running container {}",
            short(&user.container_id)
        );
        return say("cannot be forced", why);
    }
    if force {
        return None;
    }
    if !is_single_reference(image) {
        return say(
            "must be forced",
            "image is referenced in multiple repositories".to_owned(),
        );
    }
    let user = using.next()?;
    say(
        "must be forced",
        format!(
            "image is being used by stopped container {}",
            short(&user.container_id)
        ),
    )
}

fn untag(tx: &hull_state::Tx<'_>, reference: &Reference, removed: &mut Vec<Removed>) -> Result<()> {
    let was_there = match &reference.digest {
        Some(digest) => images::remove_repo_digest(tx, &reference.name(), &digest.to_string())?,
        None => images::remove_name(tx, &reference.to_string())?,
    };
    if was_there {
        removed.push(Removed::Untagged(reference.familiar()));
    }
    Ok(())
}

fn remove_image(tx: &hull_state::Tx<'_>, image: &Image, removed: &mut Vec<Removed>) -> Result<()> {
    for reference in references(image) {
        untag(tx, &reference, removed)?;
    }
    images::remove_record(tx, &image.id.to_string())?;
    removed.push(Removed::Deleted(image.id.clone()));
    Ok(())
}
