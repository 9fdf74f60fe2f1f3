//! What the services and the containers' tasks share, and the register of tasks.
//!
//! A plain bundle of collaborators: it has no rules of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use hull_state::Db;
use hull_store::snapshot::Snapshotter;
use tokio::sync::{mpsc, watch};

use crate::error::{Error, Result};
use crate::events::Events;
use crate::files::ContainerDir;
use crate::networks::plane::Plane;
use crate::options::EngineOptions;
use crate::reload::Reloadable;
use crate::shim::Launcher;
use crate::spec::HostFacts;
use crate::task::{Message, View};
use crate::volumes::VolumeStore;

pub(crate) struct World {
    pub(crate) options: EngineOptions,
    /// In force since the start or the last reload.
    pub(crate) reloadable: RwLock<Arc<Reloadable>>,
    pub(crate) db: Db,
    pub(crate) events: Events,
    pub(crate) snapshots: Arc<dyn Snapshotter>,
    pub(crate) images: hull_image::Images,
    pub(crate) plane: Plane,
    pub(crate) plugins: Arc<hull_plugin::Plugins>,
    pub(crate) volumes: VolumeStore,
    pub(crate) launcher: Launcher,
    pub(crate) host: HostFacts,
    /// The daemon's `--seccomp-profile` file's contents.
    pub(crate) seccomp_profile: Option<String>,
    pub(crate) registry: Registry,
    pub(crate) execs: crate::execs::ExecTable,
}

impl World {
    pub(crate) fn reloadable(&self) -> Arc<Reloadable> {
        self.reloadable
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_reloadable(&self, new: Reloadable) {
        *self
            .reloadable
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    pub(crate) fn container_dir(&self, id: &str) -> ContainerDir {
        ContainerDir(self.containers_root().join(id))
    }

    pub(crate) fn containers_root(&self) -> PathBuf {
        self.options.data_root.join("containers")
    }
}

/// Runs blocking work on the shared world, away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    world: &Arc<World>,
    work: impl FnOnce(&World) -> Result<T> + Send + 'static,
) -> Result<T> {
    let world = world.clone();
    match tokio::task::spawn_blocking(move || work(&world)).await {
        Ok(done) => done,
        Err(error) => Err(Error::failed("a worker thread", error)),
    }
}

/// A container's task, from outside. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) id: String,
    pub(crate) queue: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<Arc<View>>,
}

impl Handle {
    /// What the task last published.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}

/// All containers' tasks, by id and by name. Derived from the database; names are unique there.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    handles: BTreeMap<String, Handle>,
    names: BTreeMap<String, String>,
}

impl Registry {
    fn read<T>(&self, body: impl FnOnce(&Index) -> T) -> T {
        body(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, body: impl FnOnce(&mut Index) -> T) -> T {
        body(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn insert(&self, handle: Handle, name: &str) {
        self.write(|index| {
            index.names.insert(name.to_owned(), handle.id.clone());
            index.handles.insert(handle.id.clone(), handle);
        });
    }

    pub(crate) fn rename(&self, old: &str, new: &str) {
        self.write(|index| {
            if let Some(id) = index.names.remove(old) {
                index.names.insert(new.to_owned(), id);
            }
        });
    }

    pub(crate) fn remove(&self, id: &str) {
        self.write(|index| {
            index.handles.remove(id);
            index.names.retain(|_, holder| holder != id);
        });
    }

    /// For what a user wrote, in Docker's order: full id, name (with or without the slash), id prefix.
    pub(crate) fn find(&self, wanted: &str) -> Result<Handle> {
        let missing = || Error::not_found(format!("No such container: {wanted}"));
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        self.read(|index| {
            if let Some(handle) = index.handles.get(wanted) {
                return Ok(handle.clone());
            }
            if let Some(handle) = index.names.get(name).and_then(|id| index.handles.get(id)) {
                return Ok(handle.clone());
            }
            if wanted.is_empty() {
                return Err(missing());
            }
            let mut matching = index
                .handles
                .range(wanted.to_owned()..)
                .take_while(|(id, _)| id.starts_with(wanted));
            match (matching.next(), matching.next()) {
                (Some((_, handle)), None) => Ok(handle.clone()),
                (Some(_), Some(_)) => Err(Error::invalid(format!(
                    "multiple IDs found with provided prefix: {wanted}"
                ))),
                (None, _) => Err(missing()),
            }
        })
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        self.read(|index| index.handles.values().cloned().collect())
    }

    /// Views of all containers.
    pub(crate) fn views(&self) -> Vec<Arc<View>> {
        self.read(|index| index.handles.values().map(Handle::view).collect())
    }
}
