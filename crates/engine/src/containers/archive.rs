//! Files of a container: `cp`, `export`, `diff`. Everything is looked up by descriptor beneath the container's root.

use std::sync::Arc;

use hull_api::container::{FilesystemChange, PathStat};
use tokio::io::AsyncRead;

use super::ArchivePutOptions;
use crate::error::{Error, Result};
use crate::streams::ByteStream;
use crate::task::View;
use crate::world::World;

pub(super) async fn changes(world: &Arc<World>, id: &str) -> Result<Vec<FilesystemChange>> {
    let _ = (world, id);
    Err(Error::missing("container changes"))
}

pub(super) async fn stat(world: &Arc<World>, view: &View, path: &str) -> Result<PathStat> {
    let _ = (world, view, path);
    Err(Error::missing("container archive stat"))
}

pub(super) async fn get(
    world: &Arc<World>,
    view: &View,
    path: &str,
) -> Result<(PathStat, ByteStream)> {
    let _ = (world, view, path);
    Err(Error::missing("container archive get"))
}

pub(super) async fn put(
    world: &Arc<World>,
    view: &View,
    path: &str,
    options: ArchivePutOptions,
    tar: Box<dyn AsyncRead + Send + Unpin>,
) -> Result<()> {
    let _ = (world, view, path, options, tar);
    Err(Error::missing("container archive put"))
}

pub(super) async fn export(world: &Arc<World>, view: &View) -> Result<ByteStream> {
    let _ = (world, view);
    Err(Error::missing("container export"))
}
