//! The volumes service, and the directories and file systems of the `local` driver.

mod mounts;
mod options;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hull_api::filters::Filters;
use hull_api::volume::{
    Volume, VolumeCreateRequest, VolumeListResponse, VolumeUsage, VolumesPruneReport,
};
use hull_state::{Db, volumes as rows};
use rustix::fs::{Mode, OFlags};

use crate::clock;
use crate::error::{Error, Result, failed};
use crate::id::{new_id, volume_name};
use crate::world::{World, blocking};

/// Label of volumes that were made without a name.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The `local` driver: `<root>/<name>/_data`, and what its options say is mounted there while somebody uses it.
pub(crate) struct VolumeStore {
    db: Db,
    root: PathBuf,
    mounts: mounts::Mounts,
    /// Owner and group of new volumes: the containers' root.
    owner: (u32, u32),
}

impl VolumeStore {
    pub(crate) fn open(db: Db, data_root: &Path, owner: (u32, u32)) -> Result<VolumeStore> {
        let root = data_root.join("volumes");
        std::fs::create_dir_all(&root).map_err(failed(format!("make {}", root.display())))?;
        // As the kernel's table of mounts names it.
        let root = root
            .canonicalize()
            .map_err(failed(format!("resolve {}", root.display())))?;
        Ok(VolumeStore {
            db,
            root,
            mounts: mounts::Mounts::default(),
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
        let driver = if request.driver.is_empty() {
            "local"
        } else {
            &request.driver
        };
        if let Some(known) = self.db.read(|tx| rows::find(tx, &name))? {
            if known.driver != driver {
                return Err(Error::conflict(format!(
                    "volume {name} already exists but is of a different driver: {}, not {driver}",
                    known.driver
                )));
            }
            let options: BTreeMap<String, String> =
                serde_json::from_str(&known.options).unwrap_or_default();
            if !request.driver_opts.is_empty() && options != request.driver_opts {
                return Err(Error::conflict(format!(
                    "conflict: volume {name} already exists with different options"
                )));
            }
            return Ok((known, false));
        }
        if driver != "local" {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        options::check(&request.driver_opts)
            .map_err(|error| error.context(format!("create {name}")))?;
        let mountpoint = self.mountpoint(&name);
        let mut labels = request.labels.clone();
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        // Files before the row.
        std::fs::create_dir_all(&mountpoint)
            .map_err(failed(format!("make {}", mountpoint.display())))?;
        crate::files::give(&mountpoint, self.owner)?;
        failpoints.pass("volume.create.dir")?;
        let volume = rows::Volume {
            name: name.clone(),
            driver: driver.to_owned(),
            mountpoint: mountpoint.display().to_string(),
            labels: serde_json::to_string(&labels).map_err(failed("encode a volume's labels"))?,
            options: serde_json::to_string(&request.driver_opts)
                .map_err(failed("encode a volume's options"))?,
            created: clock::now(),
            anonymous,
        };
        match self.db.write(|tx| rows::insert(tx, &volume)) {
            Ok(()) => Ok((volume, true)),
            // Somebody was quicker.
            Err(hull_state::Error::Taken { .. }) => {
                match self.db.read(|tx| rows::find(tx, &name))? {
                    Some(known) => Ok((known, false)),
                    None => Err(Error::conflict(format!(
                        "volume {name} was removed meanwhile"
                    ))),
                }
            }
            Err(other) => Err(other.into()),
        }
    }

    fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// The directory to mount, below the volume where a path is given; never outside of it.
    pub(crate) fn source(&self, name: &str, mountpoint: &str, subpath: &str) -> Result<PathBuf> {
        let root = PathBuf::from(mountpoint);
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

    /// Mounts a volume for `user`, if it is one that is mounted. [`VolumeStore::release`] is the other end.
    pub(crate) fn acquire(&self, name: &str, user: &str) -> Result<()> {
        let target = self.mountpoint(name);
        let Some(volume) = self.db.read(|tx| rows::find(tx, name))? else {
            return Ok(());
        };
        if Path::new(&volume.mountpoint) != target {
            // A bind of an older Hull: its directory of the host is used itself.
            return Ok(());
        }
        let options = serde_json::from_str(&volume.options)
            .map_err(failed(format!("read the options of volume {name}")))?;
        self.mounts.acquire(name, &options, &target, user)
    }

    /// The use of the volumes by `user` is over; all are tried, and the first failure is returned.
    pub(crate) fn release<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        user: &str,
    ) -> Result<()> {
        let mut done = Ok(());
        for name in names {
            done = done.and(self.mounts.release(name, &self.mountpoint(name), user));
        }
        done
    }

    /// Does something while a volume is mounted. What is opened meanwhile stays usable: the unmount is a lazy one.
    pub(crate) fn with_mounted<T>(
        &self,
        name: &str,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let user = new_id();
        self.acquire(name, &user)?;
        let done = body();
        self.release([name], &user)?;
        done
    }

    /// The top directory of a volume, to fill it.
    pub(crate) fn open_top(&self, name: &str, mountpoint: &str) -> Result<OwnedFd> {
        self.with_mounted(name, || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(mountpoint, flags, Mode::empty())
                .map_err(failed(format!("open {mountpoint}")))
        })
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
        for volume in volumes.iter().filter(|volume| volume.options != "{}") {
            let target = self.mountpoint(&volume.name);
            if let Err(error) = self.mounts.clear(&volume.name, &target) {
                tracing::error!(volume = %volume.name, %error, "a volume that nobody uses stays mounted");
            }
        }
        self.sweep()
    }

    /// Removes a volume's directory, after its row. What was mounted there is left alone.
    pub(crate) fn remove_files(&self, name: &str) -> Result<()> {
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
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(format!("remove {}", dir.display()))(error))
            }
            _ => Ok(()),
        }
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
            if !known.contains(&name) && volume_name(&name).is_ok() {
                self.remove_files(&name)?;
            }
        }
        Ok(())
    }
}

/// Bytes below a directory, a hard link counted once; unreadable parts count nothing.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::BTreeSet::new();
    let mut queue = vec![dir.to_owned()];
    let mut total = 0;
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                queue.push(entry.path());
            } else if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                total += metadata.len();
            }
        }
    }
    total
}

pub(crate) fn to_api(volume: &rows::Volume) -> Volume {
    let created = volume
        .created
        .parse::<jiff::Timestamp>()
        .map(hull_api::time::rfc3339)
        .unwrap_or_default();
    Volume {
        created_at: created,
        driver: volume.driver.clone(),
        labels: serde_json::from_str(&volume.labels).unwrap_or_default(),
        mountpoint: volume.mountpoint.clone(),
        name: volume.name.clone(),
        options: serde_json::from_str(&volume.options).unwrap_or_default(),
        scope: "local".to_owned(),
        ..Volume::default()
    }
}

/// The volumes service. A cheap clone.
#[derive(Clone)]
pub struct Volumes {
    pub(crate) world: Arc<World>,
}

impl Volumes {
    fn emit(&self, action: &str, name: &str, driver: &str) {
        self.world.events.publish(
            "volume",
            action,
            name,
            [("driver".to_owned(), driver.to_owned())].into(),
        );
    }

    /// Makes a volume, or returns the one of that name.
    pub async fn create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        if request.cluster_volume_spec.is_some() {
            // They belong to a swarm, and this node is in none: dockerd's answer.
            return Err(Error::new(
                crate::Kind::Unavailable,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
            ));
        }
        let (volume, new) = blocking(&self.world, move |world| {
            world.volumes.ensure(&request, &world.options.failpoints)
        })
        .await?;
        if new {
            self.emit("create", &volume.name, &volume.driver);
        }
        Ok(to_api(&volume))
    }

    /// Everything about one volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let found = self.world.db.read(|tx| rows::find(tx, name))?;
        found
            .as_ref()
            .map(to_api)
            .ok_or_else(|| no_such_volume(name))
    }

    /// The volumes, by name.
    pub async fn list(&self, filters: Filters) -> Result<VolumeListResponse> {
        filters
            .validate(&["dangling", "driver", "label", "name"])
            .map_err(Error::invalid)?;
        let dangling = filters.boolean("dangling").map_err(Error::invalid)?;
        let (all, users) = self
            .world
            .db
            .read(|tx| Ok((rows::list(tx)?, rows::all_users(tx)?)))?;
        let used: std::collections::BTreeSet<&str> =
            users.iter().map(|(volume, _)| volume.as_str()).collect();
        let volumes = all
            .iter()
            .filter(|volume| {
                dangling.is_none_or(|dangling| dangling != used.contains(volume.name.as_str()))
            })
            .map(to_api)
            .filter(|volume| {
                filters.exact("driver", &volume.driver)
                    && filters.matches("name", |wanted| volume.name.contains(wanted))
                    && filters.matches_pairs("label", &volume.labels)
            })
            .collect();
        Ok(VolumeListResponse {
            volumes,
            warnings: Vec::new(),
        })
    }

    /// The volumes with their sizes and users, for `system df`.
    pub(crate) async fn usage(&self) -> Result<Vec<Volume>> {
        blocking(&self.world, |world| {
            let (all, users) = world
                .db
                .read(|tx| Ok((rows::list(tx)?, rows::all_users(tx)?)))?;
            let measured = all.iter().map(|volume| {
                let ref_count = users
                    .iter()
                    .filter(|(name, _)| *name == volume.name)
                    .count() as i64;
                let size =
                    i64::try_from(disk_usage(Path::new(&volume.mountpoint))).unwrap_or(i64::MAX);
                Volume {
                    usage_data: Some(VolumeUsage { ref_count, size }),
                    ..to_api(volume)
                }
            });
            Ok(measured.collect())
        })
        .await
    }

    /// Removes a volume that nothing uses; `force` is content when it does not exist.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let wanted = name.to_owned();
        let removed = blocking(&self.world, move |world| {
            world.options.failpoints.pass("volume.remove.row")?;
            let users = world.db.read(|tx| rows::users(tx, &wanted))?;
            if !users.is_empty() {
                return Err(Error::conflict(format!(
                    "remove {wanted}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            let there = world.db.write(|tx| rows::remove(tx, &wanted))?;
            if there {
                world.volumes.remove_files(&wanted)?;
            }
            Ok(there)
        })
        .await?;
        match (removed, force) {
            (true, _) => {
                self.emit("destroy", name, "local");
                Ok(())
            }
            (false, true) => Ok(()),
            (false, false) => Err(no_such_volume(name)),
        }
    }

    /// Removes unused anonymous volumes; with the filter `all`, unused named ones too.
    pub async fn prune(&self, filters: Filters) -> Result<VolumesPruneReport> {
        filters
            .validate(&["all", "label", "label!"])
            .map_err(Error::invalid)?;
        let all = filters
            .boolean("all")
            .map_err(Error::invalid)?
            .unwrap_or(false);
        let mut report = VolumesPruneReport::default();
        for volume in self.usage().await? {
            let used = volume
                .usage_data
                .as_ref()
                .is_some_and(|usage| usage.ref_count > 0);
            let anonymous = volume.labels.contains_key(ANONYMOUS_LABEL);
            let wanted = filters.matches_pairs("label", &volume.labels)
                && filters.excludes_pairs("label!", &volume.labels);
            if used || !wanted || !(all || anonymous) {
                continue;
            }
            match self.remove(&volume.name, false).await {
                Ok(()) => {
                    report.space_reclaimed += volume
                        .usage_data
                        .map_or(0, |usage| u64::try_from(usage.size).unwrap_or(0));
                    report.volumes_deleted.push(volume.name);
                }
                Err(error) if error.is_of_state() => {
                    tracing::debug!(volume = %volume.name, %error, "not pruned");
                }
                Err(error) => tracing::warn!(volume = %volume.name, %error, "prune"),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())];
        self.world
            .events
            .publish("volume", "prune", "", reclaimed.into());
        Ok(report)
    }
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}
