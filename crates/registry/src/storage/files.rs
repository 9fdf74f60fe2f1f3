//! Small files, written so that a crash leaves either the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Longest link file read, in bytes: a descriptor with annotations can be as long as a manifest.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Prefix of a file that is not yet in its place. Neither tag nor digest begins with a dot.
pub const PARTIAL_PREFIX: &str = ".new-";

/// Writes a file and its directory durably; directories are made.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let partial = dir.join(format!("{PARTIAL_PREFIX}{:016x}", rand::random::<u64>()));
    let result = write_partial(dir, &partial, bytes)
        .and_then(|()| fs::rename(&partial, path).map_err(Error::io("rename", &partial)))
        .and_then(|()| sync_dir(dir));
    if result.is_err() {
        // What cannot be removed now is removed by the collection.
        let _ = fs::remove_file(&partial);
    }
    result
}

fn write_partial(dir: &Path, partial: &Path, bytes: &[u8]) -> Result<()> {
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(partial)
    };
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dirs(dir)?;
            create()
        }
        other => other,
    }
    .map_err(Error::io("create", partial))?;
    file.write_all(bytes).map_err(Error::io("write", partial))?;
    file.sync_data().map_err(Error::io("sync", partial))
}

/// Makes directories, each of them durable in its parent.
pub fn make_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(parent)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(dir.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create", dir)(error)),
    }
}

/// Makes a directory's entries durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("sync", dir))
}

/// Reads a small file; nothing when it is not there.
pub fn read(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    let result =
        File::open(path).and_then(|file| file.take(FILE_LEN_MAX).read_to_string(&mut text));
    match result {
        Ok(_) => Ok(Some(text)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Removes a file durably; whether it was there.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => {
            sync_dir(path.parent().unwrap_or(Path::new("/")))?;
            Ok(true)
        }
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// Whether an error says that the file is not there; a tag may be asked for in a repository that has no tags.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The entries of a directory; none when it is not there. Names that are no UTF-8 are not ours and passed over.
pub fn entries(dir: &Path) -> Result<Vec<String>> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in list {
        let entry = entry.map_err(Error::io("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
