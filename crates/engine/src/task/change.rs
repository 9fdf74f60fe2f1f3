//! Changes of the record: name, limits, restart policy.

use std::sync::Arc;

use hull_api::container::UpdateConfig;
use hull_api::host::Resources;
use hull_shim::protocol::Do;
use hull_state::containers as rows;

use super::Task;
use crate::admit::{Admitted, Request};
use crate::error::{Error, Result};
use crate::id;
use crate::spec;

impl Task {
    pub(super) async fn rename(&mut self, wanted: &str) -> Result<()> {
        self.admit(Request::Rename)?;
        let allocating = |error: Error| error.context("Error when allocating new name");
        let slashed = format!("/{}", wanted.trim_start_matches('/'));
        let name = id::container_name(&slashed).map_err(allocating)?.to_owned();
        let old = self.record.name.clone();
        if name == old {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.world
            .db
            .write(|tx| rows::rename(tx, &self.record.id, &name))
            .map_err(|error| allocating(name_taken(error, &name)))?;
        self.world.registry.rename(&old, &name);
        let mut record = (*self.record).clone();
        record.name.clone_from(&name);
        self.record = Arc::new(record);
        self.rename_endpoints(&name).await;
        self.publish();
        self.emit("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    pub(super) async fn update(&mut self, update: UpdateConfig) -> Result<()> {
        let admitted = self.admit(Request::Update).map_err(|error| {
            error.context(format!("Cannot update container {}", self.record.id))
        })?;
        let mut record = (*self.record).clone();
        merge(&mut record.host.resources, &update.resources);
        crate::containers::validate::resources(&record.host.resources)?;
        if !update.restart_policy.name.is_empty() {
            if record.host.auto_remove && update.restart_policy.name != "no" {
                return Err(Error::invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            crate::containers::validate::restart_policy(&update.restart_policy)?;
            record.host.restart_policy = update.restart_policy.clone();
        }
        let changed = update.resources != Resources::default();
        if changed
            && admitted != Admitted::RecordOnly
            && let Some(shim) = &self.shim
        {
            let resources = Box::new(spec::linux_resources(&record.host.resources)?);
            shim.client
                .command(Do::Update { resources })
                .await
                .map_err(|error| {
                    Error::failed(format!("Cannot update container {}", self.record.id), error)
                })?;
        }
        self.save_record(record)?;
        self.publish();
        self.emit("update", &[]);
        Ok(())
    }
}

/// Docker's sentence about a name in use.
pub(crate) fn name_taken(error: hull_state::Error, name: &str) -> Error {
    match error {
        hull_state::Error::Taken { holder, .. } => Error::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )),
        other => other.into(),
    }
}

/// What the update names replaces what was; zero is "not named".
fn merge(current: &mut Resources, update: &Resources) {
    macro_rules! take {
        ($($field:ident),*) => { $(if !hull_api::json::is_zero(&update.$field) { current.$field.clone_from(&update.$field); })* };
    }
    if update.nano_cpus != 0 {
        current.cpu_period = 0;
        current.cpu_quota = 0;
    }
    if update.cpu_period != 0 || update.cpu_quota != 0 {
        current.nano_cpus = 0;
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        pids_limit
    );
    // A larger memory limit takes the swap limit along where that was the default of twice as much.
    if update.memory != 0
        && update.memory_swap == 0
        && current.memory_swap > 0
        && current.memory_swap < update.memory
    {
        current.memory_swap = update.memory.saturating_mul(2);
    }
}
