//! `exit.json`: how a container ended, on disk before anybody is told.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::protocol::Exit;

/// The record's name in the shim's folder.
pub const NAME: &str = "exit.json";

/// Writes the record so that it is there whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(folder: &Path, record: &Exit) -> io::Result<()> {
    let part = folder.join("exit.json.part");
    let mut file = File::create(&part)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    std::fs::rename(&part, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

/// Reads the record of a container that has ended; `None` when there is none.
///
/// # Errors
/// When a record is there and cannot be read.
pub fn read(folder: &Path) -> io::Result<Option<Exit>> {
    match std::fs::read(folder.join(NAME)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
