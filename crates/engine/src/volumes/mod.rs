//! The volumes service.

mod mounts;
mod options;
mod plugged;
mod store;

use std::path::Path;
use std::sync::Arc;

use hull_api::filters::Filters;
use hull_api::volume::{
    Volume, VolumeCreateRequest, VolumeListResponse, VolumeUsage, VolumesPruneReport,
};
use hull_plugin::{PluginVolume, VolumeDriver};
use hull_state::volumes as rows;

use crate::error::{Error, Result};
use crate::world::{World, blocking};

use plugged::LOCAL;
use store::ANONYMOUS_LABEL;
pub(crate) use store::VolumeStore;

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

fn created(volume: &rows::Volume) -> String {
    match volume.created.parse::<jiff::Timestamp>() {
        Ok(time) => hull_api::time::rfc3339(time),
        // A plugin need not know.
        Err(_) => hull_api::time::ZERO.to_owned(),
    }
}

fn to_api(volume: &rows::Volume) -> Volume {
    Volume {
        created_at: created(volume),
        driver: volume.driver.clone(),
        labels: serde_json::from_str(&volume.labels).unwrap_or_default(),
        mountpoint: volume.mountpoint.clone(),
        name: volume.name.clone(),
        options: serde_json::from_str(&volume.options).unwrap_or_default(),
        scope: "local".to_owned(),
        ..Volume::default()
    }
}

/// A volume as its plugin has it, with what was noted when it was made.
async fn of_plugin(
    driver: &VolumeDriver,
    found: PluginVolume,
    known: Option<&rows::Volume>,
) -> Volume {
    let row = rows::Volume {
        name: found.name,
        driver: driver.name().to_owned(),
        mountpoint: found.mountpoint,
        labels: known.map(|known| known.labels.clone()).unwrap_or_default(),
        options: known.map(|known| known.options.clone()).unwrap_or_default(),
        created: found.created_at,
        anonymous: false,
    };
    Volume {
        scope: driver.scope().await.as_str().to_owned(),
        ..to_api(&row)
    }
}

/// All volumes of a plugin. `known` is sorted by name.
async fn listed(driver: &VolumeDriver, known: &[rows::Volume]) -> hull_plugin::Result<Vec<Volume>> {
    let listed = driver.list().await?;
    let mut volumes = Vec::with_capacity(listed.len());
    for found in listed {
        let row = known
            .binary_search_by(|row| row.name.as_str().cmp(&found.name))
            .ok()
            .map(|index| &known[index])
            .filter(|row| row.driver == driver.name());
        volumes.push(of_plugin(driver, found, row).await);
    }
    Ok(volumes)
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
        let mut shown = to_api(&volume);
        if volume.driver != LOCAL {
            let plugged = &self.world.volumes.plugged;
            let driver = plugged.driver(&volume.driver, hull_plugin::Missing::Fails);
            driver
                .await?
                .scope()
                .await
                .as_str()
                .clone_into(&mut shown.scope);
        }
        Ok(shown)
    }

    /// Everything about one volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let plugged = &self.world.volumes.plugged;
        let known = self.world.db.read(|tx| rows::find(tx, name))?;
        let found = match &known {
            Some(volume) if volume.driver == LOCAL => return Ok(to_api(volume)),
            Some(volume) => plugged.look_up(volume).await?,
            None => plugged.probe(name).await,
        };
        let Some((driver, found)) = found else {
            return Err(no_such_volume(name));
        };
        let status = found.status.clone().into_iter().collect();
        Ok(Volume {
            status,
            ..of_plugin(&driver, found, known.as_ref()).await
        })
    }

    /// The volumes, by name.
    pub async fn list(&self, filters: Filters) -> Result<VolumeListResponse> {
        filters
            .validate(&["dangling", "driver", "label", "name"])
            .map_err(Error::invalid)?;
        let dangling = filters.boolean("dangling").map_err(Error::invalid)?;
        let (known, users) = self
            .world
            .db
            .read(|tx| Ok((rows::list(tx)?, rows::all_users(tx)?)))?;
        let used: std::collections::BTreeSet<&str> =
            users.iter().map(|(volume, _)| volume.as_str()).collect();
        let (mut volumes, warnings) = self.all(&known).await;
        volumes.retain(|volume| {
            dangling.is_none_or(|dangling| dangling != used.contains(volume.name.as_str()))
                && filters.exact("driver", &volume.driver)
                && filters.matches("name", |wanted| volume.name.contains(wanted))
                && filters.matches_pairs("label", &volume.labels)
        });
        volumes.sort_by(|a, b| (&a.name, &a.driver).cmp(&(&b.name, &b.driver)));
        Ok(VolumeListResponse { volumes, warnings })
    }

    /// The volumes of all drivers. A plugin that does not answer has those that are known, and a warning.
    async fn all(&self, known: &[rows::Volume]) -> (Vec<Volume>, Vec<String>) {
        let plugged = &self.world.volumes.plugged;
        let is_local = |volume: &&rows::Volume| volume.driver == LOCAL;
        let mut volumes: Vec<Volume> = known.iter().filter(is_local).map(to_api).collect();
        let mut warnings = Vec::new();
        let drivers = plugged.drivers().await;
        let asked = drivers.iter().map(|driver| listed(driver, known));
        let answers = futures_util::future::join_all(asked).await;
        let mut answered = std::collections::BTreeSet::from([LOCAL]);
        for (driver, answer) in drivers.iter().zip(answers) {
            match answer {
                Ok(listed) => {
                    volumes.extend(listed);
                    answered.insert(driver.name());
                }
                Err(error) => warnings.push(format!("list {}: {error}", driver.name())),
            }
        }
        for volume in known {
            if answered.contains(volume.driver.as_str()) {
                continue;
            }
            volumes.push(to_api(volume));
            let silent = |driver: &VolumeDriver| driver.name() == volume.driver;
            if !drivers.iter().any(silent)
                && let Err(error) = plugged
                    .driver(&volume.driver, hull_plugin::Missing::Fails)
                    .await
            {
                let warning = format!("list {}: {error}", volume.driver);
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        (volumes, warnings)
    }

    /// The volumes of this host with their sizes and users, for `system df`: plugins' are not measured, as in Docker.
    pub(crate) async fn usage(&self) -> Result<Vec<Volume>> {
        blocking(&self.world, |world| {
            let (all, users) = world
                .db
                .read(|tx| Ok((rows::list(tx)?, rows::all_users(tx)?)))?;
            let is_local = |volume: &&rows::Volume| volume.driver == LOCAL;
            let measured = all.iter().filter(is_local).map(|volume| {
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
            world.volumes.remove(&wanted, force)
        })
        .await?;
        match (removed, force) {
            (Some(driver), _) => {
                self.emit("destroy", name, &driver);
                Ok(())
            }
            (None, true) => Ok(()),
            (None, false) => Err(no_such_volume(name)),
        }
    }

    /// Removes unused anonymous volumes; with the filter `all`, unused named ones too. As in Docker no plugin's, and none with options:
    /// what lies there is not this host's alone.
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
            if used || !wanted || !(all || anonymous) || !volume.options.is_empty() {
                continue;
            }
            self.world.options.failpoints.pass("prune.next")?;
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
