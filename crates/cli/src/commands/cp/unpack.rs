//! Unpacks the archive of a container onto the local disk. The container is not trusted: nothing lands outside the destination.

use super::plan::{Landing, renamed};
use crate::failure::Failure;
use bytes::{Buf, Bytes};
use hull_client::Answer;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;

/// Receives the answer's archive; gives its size in bytes.
pub async fn receive(mut answer: Answer, landing: Landing) -> Result<u64, Failure> {
    let (sender, receiver) = mpsc::sync_channel(4);
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut reader = Pieces {
            receiver,
            piece: Bytes::new(),
        };
        let done = unpack(&mut reader, &landing);
        // The daemon's zeros after the end are read, too: it must not see a broken connection.
        io::copy(&mut reader, &mut io::sink()).and(done)
    });
    let mut size = 0;
    while let Some(chunk) = answer.chunk().await? {
        size += chunk.len() as u64;
        if sender.send(chunk).is_err() {
            break;
        }
    }
    drop(sender);
    unpacking
        .await
        .map_err(|error| Failure::new(error.to_string()))??;
    Ok(size)
}

struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = out.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

fn unpack(reader: &mut impl Read, landing: &Landing) -> io::Result<()> {
    let root = std::fs::canonicalize(&landing.dir)?;
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    let mut folders: Vec<(PathBuf, u32)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = renamed(&entry.path()?.to_string_lossy(), landing.rename.as_ref());
        let Some(target) = place(&root, &name)? else {
            continue;
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make_dir(&target)?;
            folders.push((target, entry.header().mode()?));
            continue;
        }
        if target.is_dir() {
            return Err(io::Error::other(format!(
                "cannot overwrite directory \"{}\" with non-directory",
                target.display()
            )));
        }
        if kind.is_hard_link() {
            let link = entry
                .link_name()?
                .ok_or_else(|| io::Error::other("hard link without a target"))?;
            let existing = place(
                &root,
                &renamed(&link.to_string_lossy(), landing.rename.as_ref()),
            )?;
            let existing = existing.ok_or_else(|| io::Error::other("hard link to the root"))?;
            remove(&target)?;
            std::fs::hard_link(existing, &target)?;
            continue;
        }
        remove(&target)?;
        entry.unpack(&target)?;
    }
    // A folder without write permission takes its mode when its content is there.
    for (path, mode) in folders.into_iter().rev() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
        std::fs::set_permissions(path, mode)?;
    }
    Ok(())
}

fn make_dir(target: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other(format!(
            "cannot overwrite non-directory \"{}\" with directory",
            target.display()
        ))),
        Err(_) => std::fs::create_dir(target),
    }
}

fn remove(target: &Path) -> io::Result<()> {
    match std::fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The path of an archive's name below `root`; `None` for the root itself. A name that leaves the root, or goes through a link
/// that does, is refused.
fn place(root: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let outside = || {
        io::Error::other(format!(
            "the archive's path {name:?} leaves the destination"
        ))
    };
    let mut path = root.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(outside());
            }
        }
    }
    let Ok(below) = path.strip_prefix(root) else {
        return Err(outside());
    };
    let Some(parents) = below.parent() else {
        return Ok(None);
    };
    let mut parent = root.to_owned();
    for part in parents.components() {
        parent.push(part);
        match std::fs::symlink_metadata(&parent) {
            Ok(found) if found.is_dir() => {}
            // A link that was there before, or came with the archive: followed only where it stays inside.
            Ok(_) if std::fs::canonicalize(&parent)?.starts_with(root) => {}
            Ok(_) => return Err(outside()),
            Err(_) => std::fs::create_dir(&parent)?,
        }
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut head = tar::Header::new_gnu();
            head.set_entry_type(*kind);
            head.set_mode(0o755);
            // `set_path` refuses `..`, which is what is tested.
            head.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let bytes = match kind {
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    head.set_link_name(content).unwrap();
                    ""
                }
                _ => content,
            };
            head.set_size(bytes.len() as u64);
            head.set_cksum();
            tar.append(&head, bytes.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn land(dir: &Path, rename: Option<(&str, &str)>) -> Landing {
        Landing {
            dir: dir.to_string_lossy().into_owned(),
            rename: rename.map(|(from, to)| (from.into(), to.into())),
        }
    }

    #[test]
    fn renames_and_links() {
        let dir = tempfile::tempdir().unwrap();
        use tar::EntryType as T;
        let bytes = archive(&[
            ("s/", T::Directory, ""),
            ("s/f", T::Regular, "x"),
            ("s/h", T::Link, "s/f"),
            ("s/l", T::Symlink, "f"),
        ]);
        unpack(&mut bytes.as_slice(), &land(dir.path(), Some(("s", "d")))).unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join("d/h")).unwrap(),
            "x"
        );
        assert_eq!(
            std::fs::read_link(dir.path().join("d/l")).unwrap(),
            Path::new("f")
        );
    }

    #[test]
    fn nothing_lands_outside() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        use tar::EntryType as T;
        for bytes in [
            archive(&[("../evil", T::Regular, "x")]),
            archive(&[("l", T::Symlink, ".."), ("l/evil", T::Regular, "x")]),
            archive(&[("l", T::Symlink, ".."), ("l/made/evil", T::Regular, "x")]),
            archive(&[("h", T::Link, "../secret")]),
        ] {
            assert!(unpack(&mut bytes.as_slice(), &land(&inside, None)).is_err());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
