//! Volumes of plugins. A plugin knows a mount by an id: it is in the database before the plugin is asked for the mount, and until the
//! plugin has undone it. So a daemon that was killed calls off just what nobody uses any more, under the id that it was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hull_api::volume::VolumeCreateRequest;
use hull_plugin::{Missing, PluginVolume, Plugins, VolumeDriver};
use hull_state::{Db, volumes as rows};

use super::store::labels;
use crate::error::{Error, Kind, Result, failed};
use crate::id::new_id;

/// The driver that is no plugin.
pub(super) const LOCAL: &str = "local";

/// Locks by volume, kept only while somebody has or wants one: a plugin that does not answer holds up its volume only.
#[derive(Default)]
struct Locks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    async fn with<T>(&self, name: &str, body: impl Future<Output = T>) -> T {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = all().entry(name.to_owned()).or_default().clone();
        let held = lock.lock().await;
        let done = body.await;
        drop(held);
        let mut all = all();
        // This one's and the map's.
        if Arc::strong_count(&lock) == 2 {
            all.remove(name);
        }
        done
    }
}

/// The plugins' volumes.
pub(super) struct Plugged {
    db: Db,
    pub(super) plugins: Arc<Plugins>,
    locks: Locks,
}

/// Another answer than the volume.
fn unsure(volume: &str, driver: &str, error: impl std::fmt::Display) -> String {
    format!("error while checking if volume {volume:?} exists in driver {driver:?}: {error}")
}

fn not_unique(why: impl std::fmt::Display) -> Error {
    Error::conflict(format!("{why}: volume name must be unique"))
}

/// A volume of this name belongs to another driver than the one that is asked for.
pub(super) fn taken(known: &rows::Volume) -> Error {
    not_unique(format!(
        "driver '{}' already has volume '{}'",
        known.driver, known.name
    ))
}

/// A volume that a plugin has, as a row.
fn row(
    driver: &str,
    found: PluginVolume,
    request: &VolumeCreateRequest,
    anonymous: bool,
) -> Result<rows::Volume> {
    Ok(rows::Volume {
        name: found.name,
        driver: driver.to_owned(),
        mountpoint: found.mountpoint,
        labels: labels(request, anonymous)?,
        options: serde_json::to_string(&request.driver_opts)
            .map_err(failed("encode a volume's options"))?,
        created: found.created_at,
        anonymous,
    })
}

impl Plugged {
    pub(super) fn new(db: Db, plugins: Arc<Plugins>) -> Plugged {
        Plugged {
            db,
            plugins,
            locks: Locks::default(),
        }
    }

    /// The plugin of a name.
    pub(super) async fn driver(&self, name: &str, missing: Missing) -> Result<VolumeDriver> {
        use hull_plugin::Error as E;
        let plugin = self.plugins.get(name, VolumeDriver::INTERFACE, missing);
        plugin.await.map(VolumeDriver::new).map_err(|error| {
            let kind = match error {
                E::NotFound(_) => Kind::NotFound,
                E::Name(_) => Kind::InvalidParameter,
                _ => Kind::Internal,
            };
            Error::new(
                kind,
                format!("error looking up volume plugin {name}: {error}"),
            )
        })
    }

    /// All volume plugins that answer.
    pub(super) async fn drivers(&self) -> Vec<VolumeDriver> {
        let plugins = self.plugins.all(VolumeDriver::INTERFACE).await;
        plugins.into_iter().map(VolumeDriver::new).collect()
    }

    /// The volume that a row is of, as its plugin has it; `None`: it is there no longer.
    pub(super) async fn look_up(
        &self,
        known: &rows::Volume,
    ) -> Result<Option<(VolumeDriver, PluginVolume)>> {
        let (name, driver) = (&known.name, &known.driver);
        let plugin = self
            .driver(driver, Missing::Fails)
            .await
            .map_err(|error| Error::internal(unsure(name, driver, error)))?;
        match plugin.get(name).await {
            Ok(found) => Ok(found.map(|found| (plugin, found))),
            Err(error) => Err(Error::internal(unsure(name, driver, error))),
        }
    }

    /// The plugin that has a volume of this name, which has no row.
    pub(super) async fn probe(&self, name: &str) -> Option<(VolumeDriver, PluginVolume)> {
        let drivers = self.drivers().await;
        let asked = drivers.iter().map(|driver| driver.get(name));
        let answers = futures_util::future::join_all(asked).await;
        for (driver, answer) in drivers.into_iter().zip(answers) {
            match answer {
                Ok(Some(found)) => return Some((driver, found)),
                Ok(None) => {}
                Err(error) => tracing::warn!(driver = driver.name(), %error, "look for a volume"),
            }
        }
        None
    }

    /// A volume that has a row, if its plugin still has it; a row that nobody uses goes with the volume.
    pub(super) async fn still_there(
        &self,
        known: rows::Volume,
        wanted_driver: &str,
    ) -> Result<Option<rows::Volume>> {
        let (name, driver) = (&known.name, &known.driver);
        let found = self.look_up(&known).await.map_err(|error| {
            not_unique(format!(
                "found reference to volume '{name}' in driver '{driver}', but got an error while checking the driver: {error}"
            ))
        })?;
        if found.is_some() {
            return match wanted_driver.is_empty() || wanted_driver == driver {
                true => Ok(Some(known)),
                false => Err(taken(&known)),
            };
        }
        match self.db.write(|tx| rows::remove(tx, name)) {
            Err(hull_state::Error::Taken { .. }) => Err(not_unique(format!(
                "found references to volume '{name}' in driver '{driver}' but the volume was not found in the driver -- you may need to remove containers referencing this volume or force remove the volume to re-create it"
            ))),
            Err(other) => Err(other.into()),
            Ok(_) => Ok(None),
        }
    }

    /// A volume that a plugin made by itself gets a row.
    pub(super) fn adopt(
        &self,
        driver: &VolumeDriver,
        found: PluginVolume,
        request: &VolumeCreateRequest,
    ) -> Result<rows::Volume> {
        let volume = row(driver.name(), found, request, false)?;
        match self.db.write(|tx| rows::insert(tx, &volume)) {
            Ok(()) | Err(hull_state::Error::Taken { .. }) => Ok(volume),
            Err(other) => Err(other.into()),
        }
    }

    /// Has a plugin make a volume, or takes the one that it has. `true`: it is new.
    pub(super) async fn create(
        &self,
        name: &str,
        request: &VolumeCreateRequest,
        anonymous: bool,
    ) -> Result<(rows::Volume, bool)> {
        let driver = self.driver(&request.driver, Missing::Fails).await?;
        let said = |error: hull_plugin::Error| Error::internal(error.to_string());
        let make = async {
            if let Some(known) = self.db.read(|tx| rows::find(tx, name))? {
                // Somebody was quicker.
                return Ok((known, false));
            }
            if let Some(found) = driver.get(name).await.map_err(said)? {
                return Ok((self.adopt(&driver, found, request)?, false));
            }
            driver
                .create(name, &request.driver_opts)
                .await
                .map_err(said)?;
            let found = PluginVolume {
                name: name.to_owned(),
                ..PluginVolume::default()
            };
            let volume = row(driver.name(), found, request, anonymous)?;
            match self.db.write(|tx| rows::insert(tx, &volume)) {
                Ok(()) => Ok((volume, true)),
                Err(error) => {
                    if let Err(left) = driver.remove(name).await {
                        tracing::warn!(volume = name, error = %left, "undo a volume");
                    }
                    Err(error.into())
                }
            }
        };
        self.locks.with(name, make).await
    }

    /// Where a volume without a known mount point would be.
    pub(super) async fn path(&self, volume: &rows::Volume) -> String {
        let asked = async {
            let driver = self.driver(&volume.driver, Missing::Fails).await.ok()?;
            driver.path(&volume.name).await.ok()
        };
        asked.await.unwrap_or_default()
    }

    /// Has a volume mounted for `user`, once however often the same one asks; where.
    pub(super) async fn acquire(&self, volume: &rows::Volume, user: &str) -> Result<PathBuf> {
        let name = &volume.name;
        let failed = |error: &dyn std::fmt::Display| {
            Error::internal(format!(
                "error while mounting volume '{}': {error}",
                volume.mountpoint
            ))
        };
        let mount = async {
            let left = self.db.read(|tx| rows::mount(tx, name, user))?;
            let is_new = left.is_none();
            let mut mount = match left {
                Some(known) if !known.mountpoint.is_empty() => return Ok(known.mountpoint.into()),
                // An unmount that did not come to its end is made good by the next one, under the same id.
                Some(left) => left,
                None => rows::Mount {
                    volume: name.clone(),
                    user: user.to_owned(),
                    id: new_id(),
                    mountpoint: String::new(),
                },
            };
            let driver = self.driver(&volume.driver, Missing::IsAwaited).await;
            let driver = driver.map_err(|error| failed(&error))?;
            self.db.write(|tx| rows::set_mount(tx, &mount))?;
            match driver.mount(name, &mount.id).await {
                Ok(place) => mount.mountpoint = place,
                Err(error) => {
                    // Nothing is mounted, that is certain.
                    if is_new && (error.is_refusal() || error.is_of_connection()) {
                        self.db.write(|tx| rows::remove_mount(tx, name, user))?;
                    }
                    return Err(failed(&error));
                }
            }
            self.db.write(|tx| {
                rows::set_mount(tx, &mount)?;
                rows::set_mountpoint(tx, name, &mount.mountpoint)
            })?;
            Ok(mount.mountpoint.into())
        };
        self.locks.with(name, mount).await
    }

    /// The use of a volume by `user` is over. Nothing happens where it has none.
    pub(super) async fn release(&self, name: &str, user: &str) -> Result<()> {
        let used = |mount: &rows::Mount| !mount.mountpoint.is_empty();
        self.end(name, user, used).await
    }

    /// Calls off a mount that `which` speaks of.
    async fn end(
        &self,
        name: &str,
        user: &str,
        which: impl Fn(&rows::Mount) -> bool,
    ) -> Result<()> {
        let unmount = async {
            let row = self.db.read(|tx| rows::mount(tx, name, user))?;
            let Some(mut mount) = row.filter(|mount| which(mount)) else {
                return Ok(());
            };
            mount.mountpoint.clear();
            let volume = self.db.write(|tx| {
                rows::set_mount(tx, &mount)?;
                rows::find(tx, name)
            })?;
            let Some(volume) = volume else {
                return Ok(());
            };
            let failed = |error: &dyn std::fmt::Display| {
                Error::internal(format!("error unmounting volume {name}: {error}"))
            };
            let driver = self.driver(&volume.driver, Missing::IsAwaited).await;
            let driver = driver.map_err(|error| failed(&error))?;
            let done = driver.unmount(name, &mount.id).await;
            if done
                .as_ref()
                .err()
                .is_none_or(hull_plugin::Error::is_refusal)
            {
                self.db.write(|tx| rows::remove_mount(tx, name, user))?;
            }
            done.map_err(|error| failed(&error))
        };
        self.locks.with(name, unmount).await
    }

    /// After a start of the daemon: mounts of what does not run are nobody's any more.
    pub(super) fn disown(&self, running: &std::collections::BTreeSet<&str>) -> Result<()> {
        let left: Vec<rows::Mount> = self
            .db
            .read(rows::mounts)?
            .into_iter()
            .filter(|mount| !running.contains(mount.user.as_str()))
            .map(|mount| rows::Mount {
                mountpoint: String::new(),
                ..mount
            })
            .collect();
        Ok(self
            .db
            .write(|tx| left.iter().try_for_each(|mount| rows::set_mount(tx, mount)))?)
    }

    /// Has the plugins undo the mounts that nobody has, of all volumes or one. What cannot be undone now is tried again by the next one.
    pub(super) async fn unmount_left(&self, of: Option<&str>) {
        let mounts = self.db.read(rows::mounts).unwrap_or_default();
        for mount in mounts {
            let is_left = |mount: &rows::Mount| mount.mountpoint.is_empty();
            if of.is_some_and(|volume| volume != mount.volume) || !is_left(&mount) {
                continue;
            }
            if let Err(error) = self.end(&mount.volume, &mount.user, is_left).await {
                tracing::warn!(volume = %mount.volume, %error, "a mount of an earlier run is left");
            }
        }
    }

    /// Removes a volume that has a row and no user; `false`: its plugin did not have it. With `force` the row goes whatever the plugin
    /// says.
    pub(super) async fn remove(&self, volume: &rows::Volume, force: bool) -> Result<bool> {
        let name = &volume.name;
        let found = match self.look_up(volume).await {
            Ok(found) => found,
            Err(error) if force => {
                tracing::warn!(volume = %name, %error, "a volume is forgotten");
                self.db.write(|tx| rows::remove(tx, name))?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.unmount_left(Some(name)).await;
        // The row goes first: from here on no container can come to use it.
        self.db.write(|tx| rows::remove(tx, name))?;
        let Some((driver, _)) = found else {
            return Ok(false);
        };
        match driver.remove(name).await {
            Ok(()) => Ok(true),
            Err(error) => {
                if !force {
                    self.db.write(|tx| rows::insert(tx, volume))?;
                }
                Err(Error::internal(format!("remove {name}: {error}")))
            }
        }
    }

    /// Has the plugin remove what has no row any more.
    pub(super) async fn remove_unlisted(&self, volume: &rows::Volume) -> Result<()> {
        let driver = self.driver(&volume.driver, Missing::Fails).await?;
        driver
            .remove(&volume.name)
            .await
            .map_err(|error| Error::internal(format!("remove {}: {error}", volume.name)))
    }
}
