//! Checkpoints by name: directories of images, in the container's own folder or in one that the caller names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{Containers, ask};
use crate::error::{Error, Result};
use crate::task::Message;
use crate::world::{World, blocking};

/// Docker's characters of names, as its messages show them.
const NAME_CHARACTERS: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// A checkpoint, as requests name it.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointName<'a> {
    /// Its name.
    pub name: &'a str,
    /// The directory that it lies in; empty: the container's own.
    pub directory: &'a str,
}

/// Docker's rule: at least two characters, and not the end of a sentence. What passes is no path.
fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if first && name.len() > 1 && bytes.all(rest) && !name.ends_with('.') {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid checkpoint ID {name:?}, only {NAME_CHARACTERS} are allowed"
    )))
}

/// Where the checkpoints of a container lie.
fn root(world: &World, container: &str, directory: &str) -> Result<PathBuf> {
    if directory.is_empty() {
        let view = world.registry.find(container)?.view();
        return Ok(world.container_dir(&view.record.id).checkpoints());
    }
    if !Path::new(directory).is_absolute() {
        return Err(Error::invalid(format!(
            "checkpoint directory {directory:?} is not an absolute path"
        )));
    }
    Ok(directory.into())
}

/// The images of a checkpoint that exists.
pub(super) fn existing(
    world: &World,
    container: &str,
    wanted: CheckpointName<'_>,
) -> Result<PathBuf> {
    check_name(wanted.name)?;
    let path = root(world, container, wanted.directory)?.join(wanted.name);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(Error::internal(format!(
            "{} exists and is not a directory",
            path.display()
        ))),
        Err(_) => Err(Error::internal(format!(
            "checkpoint {} does not exist for container {container}",
            wanted.name
        ))),
    }
}

/// Makes the directory of a checkpoint that does not exist yet.
fn make(world: &World, container: &str, wanted: CheckpointName<'_>) -> Result<PathBuf> {
    let root = root(world, container, wanted.directory)?;
    let path = root.join(wanted.name);
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    let failed = |e: std::io::Error| Error::failed(format!("mkdir {}", path.display()), e);
    builder.recursive(true).create(&root).map_err(failed)?;
    match builder.recursive(false).create(&path) {
        Ok(()) => Ok(path),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            Err(Error::internal(format!(
                "checkpoint with name {} already exists for container {container}",
                wanted.name
            )))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Error::internal(format!(
            "{} exists and is not a directory",
            path.display()
        ))),
        Err(e) => Err(failed(e)),
    }
}

impl Containers {
    /// Saves a running container's processes, which end with `exit` and go on without.
    pub async fn checkpoint(&self, id: &str, wanted: CheckpointName<'_>, exit: bool) -> Result<()> {
        check_name(wanted.name)?;
        // Before anything is made for one that does not run.
        self.admitted(id, crate::admit::Request::Checkpoint)?;
        let images = make(&self.world, id, wanted)
            .map_err(|e| e.context(format!("cannot checkpoint container {id}")))?;
        let done = ask(&self.world, id, |reply| Message::Checkpoint {
            images: images.clone(),
            exit,
            reply,
        });
        let Err(error) = done.await else {
            return Ok(());
        };
        // The log is quoted in the error.
        blocking(&self.world, move |_| remove(&images)).await?;
        Err(error.context(format!("Cannot checkpoint container {id}")))
    }

    /// The names of a container's checkpoints, in order.
    pub async fn checkpoints(&self, id: &str, directory: &str) -> Result<Vec<String>> {
        let view = self.view(id)?;
        let root = root(&self.world, &view.record.id, directory)?;
        let own = directory.is_empty();
        let shown = id.to_owned();
        blocking(&self.world, move |_| list(&root, own, &shown)).await
    }

    /// Removes a checkpoint.
    pub async fn checkpoint_delete(&self, id: &str, wanted: CheckpointName<'_>) -> Result<()> {
        let path = existing(&self.world, id, wanted)?;
        blocking(&self.world, move |_| remove(&path)).await
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(|e| Error::failed(format!("remove {}", path.display()), e))
}

fn list(root: &Path, own: bool, container: &str) -> Result<Vec<String>> {
    let failed = |e: std::io::Error| {
        let operation = format!(
            "checkpoint directory {:?} cannot be read for container {container}",
            root.display()
        );
        Error::failed(operation, e)
    };
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound && own => return Ok(Vec::new()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::not_found(format!(
                "checkpoint directory {:?} does not exist for container {container}",
                root.display()
            )));
        }
        Err(e) if e.kind() == ErrorKind::NotADirectory && !own => {
            return Err(Error::invalid(format!(
                "checkpoint directory {:?} exists but is not a directory",
                root.display()
            )));
        }
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_docker_s() {
        for good in ["c1", "a.b", "A_-9"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a", "a.", "-a", "..", "a/b", "../x", "a b", "ü1"] {
            check_name(bad).unwrap_err();
        }
        let error = check_name("a/b").unwrap_err();
        assert_eq!(
            error.message,
            "invalid checkpoint ID \"a/b\", only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn directories_are_listed_and_files_are_not() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("c2")).unwrap();
        fs::create_dir(root.path().join("c1")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(list(root.path(), false, "x").unwrap(), ["c1", "c2"]);
        let missing = root.path().join("nosuch");
        assert!(list(&missing, true, "x").unwrap().is_empty());
        let error = list(&missing, false, "x").unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::NotFound);
    }
}
