//! Removing a container. By the crash law its row goes first, then its files: what a crash leaves in between has no row,
//! and boot sweeps it.

use hull_state::{containers as rows, volumes as volume_rows};

use super::Task;
use crate::admit::Request;
use crate::containers::RemoveOptions;
use crate::error::{Error, Result};
use crate::phase::Phase;
use crate::world::blocking;

impl Task {
    pub(super) async fn remove(&mut self, options: RemoveOptions) -> Result<()> {
        if self.removed {
            return Err(Error::not_found(format!(
                "No such container: {}",
                self.record.id
            )));
        }
        self.admit(Request::Remove {
            force: options.force,
        })?;
        self.world.options.failpoints.pass("remove.begin")?;
        self.restart_at = None;
        if self.state.phase.live().is_some() {
            self.state.stopped_by_user = true;
            let auto = self.record.host.auto_remove;
            self.kill_and_wait().await?;
            if auto && self.removed {
                return Ok(());
            }
        }
        self.settle().await;
        let before = std::mem::replace(&mut self.state.phase, Phase::Removing);
        self.state.last_exit = match &before {
            Phase::Exited(exit) | Phase::Restarting(exit) => Some(exit.clone()),
            _ => self.state.last_exit.take(),
        };
        self.publish();
        let (id, name) = (self.record.id.clone(), self.record.name.clone());
        let with_volumes = options.volumes;
        let gone = blocking(&self.world, move |world| {
            let anonymous = world.db.try_write(|tx| {
                world.options.failpoints.pass("remove.row")?;
                let volumes = volume_rows::of_container(tx, &id)?;
                rows::remove(tx, &id)?;
                let mut unused = Vec::new();
                for volume in volumes
                    .into_iter()
                    .filter(|volume| with_volumes && volume.anonymous)
                {
                    if volume_rows::users(tx, &volume.name)?.is_empty() {
                        volume_rows::remove(tx, &volume.name)?;
                        unused.push(volume);
                    }
                }
                Ok::<_, Error>(unused)
            })?;
            world.registry.remove(&id);
            // From here on nobody sees it; what fails leaves files that boot sweeps.
            let snapshot = world
                .options
                .failpoints
                .pass("remove.snapshot")
                .and_then(|()| {
                    world
                        .snapshots
                        .remove(&id)
                        .map_err(|error| Error::failed("remove the container's files", error))
                });
            let files = world
                .options
                .failpoints
                .pass("remove.files")
                .and_then(|()| remove_dir(&world.container_dir(&id).0));
            let shim = world.launcher.remove_dir(&id);
            let mut left = snapshot.and(files).and(shim);
            for volume in &anonymous {
                left = left.and(world.volumes.discard(volume));
            }
            Ok((anonymous, left))
        })
        .await;
        match gone {
            Ok((volumes, left)) => {
                if let Err(error) = left {
                    tracing::warn!(container = %self.record.id, %error, "files are left for the next start to sweep");
                }
                for volume in volumes {
                    self.world.events.publish(
                        "volume",
                        "destroy",
                        &volume.name,
                        [("driver".to_owned(), volume.driver)].into(),
                    );
                }
            }
            Err(error) => {
                self.state.phase = Phase::Dead(error.message.clone());
                self.publish();
                return Err(error.context(format!("cannot remove container \"/{name}\"")));
            }
        }
        self.removed = true;
        self.pending.clear();
        self.world.execs.container_ended(&self.record.id);
        self.publish();
        self.emit("destroy", &[]);
        Ok(())
    }
}

fn remove_dir(dir: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("remove {}", dir.display()), error))
        }
        _ => Ok(()),
    }
}
