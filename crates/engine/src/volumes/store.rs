//! What volumes are on this host: directories and file systems of the `local` driver; the plugins' are in `plugged`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hull_api::volume::VolumeCreateRequest;
use hull_plugin::Plugins;
use hull_state::{Db, volumes as rows};
use rustix::fs::{Mode, OFlags};

use super::plugged::{LOCAL, Plugged, taken};
use super::{mounts, options};
use crate::clock;
use crate::error::{Error, Result, failed};
use crate::id::{new_id, volume_name};

/// Label of volumes that were made without a name.
pub(super) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Beginning of the name of a directory whose volume is gone and that is about to be deleted: no volume is called so.
const ASIDE_PREFIX: &str = ".removed-";

/// A new volume's labels, as its row has them.
pub(super) fn labels(request: &VolumeCreateRequest, anonymous: bool) -> Result<String> {
    let mut labels = request.labels.clone();
    if anonymous {
        labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    serde_json::to_string(&labels).map_err(failed("encode a volume's labels"))
}

fn delete(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(format!("remove {}", dir.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Waits for a plugin on a thread that may block.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(answer)
}

/// The volumes. Of the `local` driver: `<root>/<name>/_data`, and what its options say is mounted there while somebody uses it.
pub(crate) struct VolumeStore {
    db: Db,
    root: PathBuf,
    mounts: mounts::Mounts,
    naming: Mutex<()>,
    pub(super) plugged: Plugged,
    /// Owner and group of new volumes: the containers' root.
    owner: (u32, u32),
}

impl VolumeStore {
    pub(crate) fn open(
        db: Db,
        data_root: &Path,
        owner: (u32, u32),
        plugins: Arc<Plugins>,
    ) -> Result<VolumeStore> {
        let root = data_root.join("volumes");
        std::fs::create_dir_all(&root).map_err(failed(format!("make {}", root.display())))?;
        // As the kernel's table of mounts names it.
        let root = root
            .canonicalize()
            .map_err(failed(format!("resolve {}", root.display())))?;
        Ok(VolumeStore {
            plugged: Plugged::new(db.clone(), plugins),
            db,
            root,
            mounts: mounts::Mounts::default(),
            naming: Mutex::default(),
            owner,
        })
    }

    /// Makes a volume, or returns the one of that name. `true`: it is new. Without a name: an anonymous one.
    pub(crate) fn ensure(
        &self,
        request: &VolumeCreateRequest,
        failpoints: &crate::failpoint::Failpoints,
    ) -> Result<(rows::Volume, bool)> {
        let anonymous = request.name.is_empty();
        let name = if anonymous {
            new_id()
        } else {
            request.name.clone()
        };
        volume_name(&name)?;
        self.ensure_named(&name, anonymous, request, failpoints)
            .map_err(|error| error.context(format!("create {name}")))
    }

    fn ensure_named(
        &self,
        name: &str,
        anonymous: bool,
        request: &VolumeCreateRequest,
        failpoints: &crate::failpoint::Failpoints,
    ) -> Result<(rows::Volume, bool)> {
        if let Some(known) = self.db.read(|tx| rows::find(tx, name))?
            && let Some(known) = self.still_there(known, request)?
        {
            return Ok((known, false));
        }
        match request.driver.as_str() {
            // Whoever has it.
            "" if !anonymous => {
                if let Some((driver, found)) = wait(self.plugged.probe(name)) {
                    return Ok((self.plugged.adopt(&driver, found, request)?, false));
                }
            }
            "" | LOCAL => {}
            _ => return wait(self.plugged.create(name, request, anonymous)),
        }
        self.make(name, anonymous, request, failpoints)
    }

    /// A volume that has a row, unless it is gone since.
    fn still_there(
        &self,
        known: rows::Volume,
        request: &VolumeCreateRequest,
    ) -> Result<Option<rows::Volume>> {
        if known.driver != LOCAL {
            return wait(self.plugged.still_there(known, &request.driver));
        }
        if !request.driver.is_empty() && request.driver != LOCAL {
            return Err(taken(&known));
        }
        let options: BTreeMap<String, String> =
            serde_json::from_str(&known.options).unwrap_or_default();
        if !request.driver_opts.is_empty() && options != request.driver_opts {
            return Err(Error::conflict(format!(
                "conflict: volume {} already exists with different options",
                known.name
            )));
        }
        Ok(Some(known))
    }

    /// Makes a volume of the `local` driver.
    fn make(
        &self,
        name: &str,
        anonymous: bool,
        request: &VolumeCreateRequest,
        failpoints: &crate::failpoint::Failpoints,
    ) -> Result<(rows::Volume, bool)> {
        options::check(&request.driver_opts)?;
        let mountpoint = self.mountpoint(name);
        let _naming = self.naming();
        if let Some(known) = self.db.read(|tx| rows::find(tx, name))? {
            // Somebody was quicker.
            return Ok((known, false));
        }
        // Of a volume of this name that is just being removed: a new one is empty.
        let left = self.set_aside(name)?;
        // Files before the row.
        std::fs::create_dir_all(&mountpoint)
            .map_err(failed(format!("make {}", mountpoint.display())))?;
        crate::files::give(&mountpoint, self.owner)?;
        failpoints.pass("volume.create.dir")?;
        let volume = rows::Volume {
            name: name.to_owned(),
            driver: LOCAL.to_owned(),
            mountpoint: mountpoint.display().to_string(),
            labels: labels(request, anonymous)?,
            options: serde_json::to_string(&request.driver_opts)
                .map_err(failed("encode a volume's options"))?,
            created: clock::now(),
            anonymous,
        };
        match self.db.write(|tx| rows::insert(tx, &volume)) {
            Ok(()) => {}
            // A plugin's.
            Err(hull_state::Error::Taken { .. }) => {
                return match self.db.read(|tx| rows::find(tx, name))? {
                    Some(known) => Ok((known, false)),
                    None => Err(Error::conflict(format!(
                        "volume {name} was removed meanwhile"
                    ))),
                };
            }
            Err(other) => return Err(other.into()),
        }
        if let Some(Err(error)) = left.map(|dir| delete(&dir)) {
            tracing::warn!(volume = name, %error, "files are left for the next start to sweep");
        }
        Ok((volume, true))
    }

    /// What a container is told to be the source of its mount: a plugin may say only when it mounts.
    pub(crate) fn known_path(&self, volume: &rows::Volume) -> String {
        match volume.driver != LOCAL && volume.mountpoint.is_empty() {
            true => wait(self.plugged.path(volume)),
            false => volume.mountpoint.clone(),
        }
    }

    fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// The directory to mount, below the volume where a path is given; never outside of it.
    pub(crate) fn source(&self, name: &str, mountpoint: &Path, subpath: &str) -> Result<PathBuf> {
        let root = mountpoint.to_owned();
        if subpath.is_empty() {
            return Ok(root);
        }
        let failed = |cause| {
            Error::invalid(format!(
                "cannot access path {subpath} in volume {name}: {cause}"
            ))
        };
        let dir =
            hull_sys::path::open_dir(&root).map_err(|errno| failed(std::io::Error::from(errno)))?;
        hull_sys::path::open_in_root_nosymlinks(
            dir.as_fd(),
            Path::new(subpath),
            OFlags::PATH,
            Mode::empty(),
        )
        .map_err(|errno| failed(std::io::Error::from(errno)))?;
        Ok(root.join(subpath))
    }

    /// Mounts a volume for `user`, if it is one that is mounted; where, if that is for a plugin to say. [`VolumeStore::release`] is the
    /// other end.
    pub(crate) fn acquire(&self, name: &str, user: &str) -> Result<Option<PathBuf>> {
        let target = self.mountpoint(name);
        let Some(volume) = self.db.read(|tx| rows::find(tx, name))? else {
            return Ok(None);
        };
        if volume.driver != LOCAL {
            return wait(self.plugged.acquire(&volume, user)).map(Some);
        }
        if Path::new(&volume.mountpoint) != target {
            // A bind of an older Hull: its directory of the host is used itself.
            return Ok(None);
        }
        let options = serde_json::from_str(&volume.options)
            .map_err(failed(format!("read the options of volume {name}")))?;
        self.mounts.acquire(name, &options, &target, user)?;
        Ok(None)
    }

    /// The use of the volumes by `user` is over; all are tried, and the first failure is returned.
    pub(crate) fn release<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        user: &str,
    ) -> Result<()> {
        let mut done = Ok(());
        for name in names {
            done = done
                .and(self.mounts.release(name, &self.mountpoint(name), user))
                .and_then(|()| wait(self.plugged.release(name, user)));
        }
        done
    }

    /// Does something while a volume is mounted: `body` is told where, if that is for a plugin to say.
    pub(crate) fn with_mounted<T>(
        &self,
        name: &str,
        body: impl FnOnce(Option<&Path>) -> Result<T>,
    ) -> Result<T> {
        let user = new_id();
        let place = self.acquire(name, &user)?;
        let done = body(place.as_deref());
        let released = self.release([name], &user);
        done.and_then(|done| released.map(|()| done))
    }

    /// The top directory of a volume that is mounted, to fill it.
    pub(crate) fn open_top(mountpoint: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(mountpoint, flags, Mode::empty())
            .map_err(failed(format!("open {}", mountpoint.display())))
    }

    /// Has plugins undo what a daemon that was killed has left mounted; they may take their time.
    pub(crate) async fn unmount_left(&self) {
        self.plugged.unmount_left(None).await;
    }

    /// After a start of the daemon: `running` are the containers that run, or may. What only others use is unmounted, and directories
    /// without a row are removed.
    pub(crate) fn restore(&self, running: &std::collections::BTreeSet<&str>) -> Result<()> {
        let (volumes, users) = self
            .db
            .read(|tx| Ok((rows::list(tx)?, rows::all_users(tx)?)))?;
        for (volume, container) in &users {
            if running.contains(container.as_str()) {
                self.mounts.adopt(volume, container);
            }
        }
        self.plugged.disown(running)?;
        let mounted = |volume: &&rows::Volume| volume.driver == LOCAL && volume.options != "{}";
        for volume in volumes.iter().filter(mounted) {
            let target = self.mountpoint(&volume.name);
            if let Err(error) = self.mounts.clear(&volume.name, &target) {
                tracing::error!(volume = %volume.name, %error, "a volume that nobody uses stays mounted");
            }
        }
        self.sweep()
    }

    /// Removes a volume that nothing uses; its driver, or `None` where there is no such volume.
    pub(crate) fn remove(&self, name: &str, force: bool) -> Result<Option<String>> {
        let (volume, users) = self
            .db
            .read(|tx| Ok((rows::find(tx, name)?, rows::users(tx, name)?)))?;
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let Some(volume) = volume else {
            return wait(self.remove_unknown(name));
        };
        if volume.driver != LOCAL {
            let removed = wait(self.plugged.remove(&volume, force))?;
            return Ok(removed.then_some(volume.driver));
        }
        let there = self.db.write(|tx| rows::remove(tx, name))?;
        if there {
            self.remove_files(name)?;
        }
        Ok(there.then_some(volume.driver))
    }

    /// A volume that a plugin made by itself.
    async fn remove_unknown(&self, name: &str) -> Result<Option<String>> {
        let Some((driver, _)) = self.plugged.probe(name).await else {
            return Ok(None);
        };
        match driver.remove(name).await {
            Ok(()) => Ok(Some(driver.name().to_owned())),
            Err(error) => Err(Error::internal(format!("remove {name}: {error}"))),
        }
    }

    /// Removes what a volume whose row is gone consists of.
    pub(crate) fn discard(&self, volume: &rows::Volume) -> Result<()> {
        match volume.driver == LOCAL {
            true => self.remove_files(&volume.name),
            false => wait(self.plugged.remove_unlisted(volume)),
        }
    }

    /// Removes a volume's directory, after its row. What was mounted there is left alone.
    fn remove_files(&self, name: &str) -> Result<()> {
        let aside = {
            let _naming = self.naming();
            if self.db.read(|tx| rows::find(tx, name))?.is_some() {
                // There is a new one of this name, which has taken the old one's away.
                return Ok(());
            }
            self.set_aside(name)?
        };
        aside.map_or(Ok(()), |dir| delete(&dir))
    }

    /// Renames a volume's directory to one that nobody uses: deleting takes as long as there are files. `None`: there is none.
    fn set_aside(&self, name: &str) -> Result<Option<PathBuf>> {
        volume_name(name)?;
        let dir = self.root.join(name);
        let target = self.mountpoint(name);
        self.mounts.clear(name, &target)?;
        if mounts::is_mounted(&target)? {
            return Err(Error::conflict(format!(
                "remove {name}: volume is still mounted at {}",
                target.display()
            )));
        }
        let aside = self.root.join(format!("{ASIDE_PREFIX}{}", new_id()));
        match std::fs::rename(&dir, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(format!("rename {}", dir.display()))(error)),
        }
    }

    /// While this is held no other volume's directory comes or goes: of two clients, one that removes a volume and one that makes a volume
    /// of the same name, the second must not find its directory taken away by the first.
    fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Directories without a row, as a crash leaves them.
    fn sweep(&self) -> Result<()> {
        let known: std::collections::BTreeSet<String> = self
            .db
            .read(rows::list)?
            .into_iter()
            .map(|volume| volume.name)
            .collect();
        let entries = std::fs::read_dir(&self.root)
            .map_err(failed(format!("read {}", self.root.display())))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(ASIDE_PREFIX) {
                delete(&entry.path())?;
            } else if !known.contains(&name) && volume_name(&name).is_ok() {
                self.remove_files(&name)?;
            }
        }
        Ok(())
    }
}
