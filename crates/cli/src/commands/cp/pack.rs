//! Packs local files into the archive that is sent to a container.

use super::plan::{Source, base, keep_ending, renamed};
use crate::opts::volume::absolute;
use bytes::Bytes;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// A local thing to be packed.
#[derive(Debug)]
pub struct Packed {
    /// How its archive looks from outside.
    pub source: Source,
    path: PathBuf,
}

impl Packed {
    /// Looks at `path`; `follow`: a link's target is meant, under the link's name.
    pub fn of(path: &str, follow: bool) -> Result<Packed, String> {
        let full = keep_ending(&absolute(path), path);
        let fail = |error: io::Error| {
            format!(
                "lstat {}: {}",
                full.trim_end_matches('/'),
                crate::failure_text(&error)
            )
        };
        let plain = Path::new(full.trim_end_matches('/'));
        let plain = if plain.as_os_str().is_empty() {
            Path::new("/")
        } else {
            plain
        };
        let mut found = std::fs::symlink_metadata(plain).map_err(fail)?;
        let mut real = plain.to_owned();
        let mut name = base(&full);
        // `link/` and `link/.` mean what it points to.
        if found.is_symlink() && (follow || full.ends_with('/') || full.ends_with("/.")) {
            real = std::fs::canonicalize(plain).map_err(fail)?;
            found = std::fs::metadata(&real).map_err(fail)?;
            name = name.or_else(|| base(&full));
        }
        if !found.is_dir() && (full.ends_with('/') || full.ends_with("/.")) {
            return Err("not a directory".into());
        }
        Ok(Packed {
            source: Source {
                base: name,
                rename: None,
                is_dir: found.is_dir(),
            },
            path: real,
        })
    }

    /// The archive's bytes, made on a thread of its own.
    pub fn stream(self, rename: Option<(String, String)>) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let first = self.source.base.as_deref().unwrap_or(".");
            let first = renamed(first, rename.as_ref());
            let mut tar = tar::Builder::new(io::BufWriter::with_capacity(
                256 * 1024,
                Sender(sender.clone()),
            ));
            tar.follow_symlinks(false);
            let packed = append(&mut tar, &self.path, Path::new(&first))
                .and_then(|()| tar.into_inner()?.flush());
            if let Err(error) = packed {
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }
}

/// Adds `path` and what is below it as `name`; sockets cannot be archived and are left out.
fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    if found.file_type().is_socket() {
        return Ok(());
    }
    if !found.is_dir() {
        return tar.append_path_with_name(path, name);
    }
    tar.append_dir(name, path)?;
    let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        append(tar, &entry.path(), &name.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes pieces to a request body.
struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts the bytes that go through.
pub fn count(
    mut body: mpsc::Receiver<io::Result<Bytes>>,
) -> (mpsc::Receiver<io::Result<Bytes>>, Arc<AtomicU64>) {
    let total = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = mpsc::channel(1);
    let counted = total.clone();
    tokio::spawn(async move {
        while let Some(piece) = body.recv().await {
            counted.fetch_add(
                piece.as_ref().map_or(0, Bytes::len) as u64,
                Ordering::Relaxed,
            );
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    (receiver, total)
}
