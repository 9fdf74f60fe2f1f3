//! Volumes.

use hull_api::version::Version;
use hull_api::volume::VolumeCreateRequest;

use crate::http::{Answer, Call, Outcome};

pub(super) async fn list(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .volumes
            .list(call.query.filters()?)
            .await?,
    )
}

pub(super) async fn create(mut call: Call) -> Outcome {
    let request: VolumeCreateRequest = call.json().await?;
    Answer::created(&call.daemon.engine.volumes.create(request).await?)
}

pub(super) async fn inspect(call: Call) -> Outcome {
    Answer::json(&call.daemon.engine.volumes.inspect(call.id()).await?)
}

/// Only cluster volumes can be updated, and those need swarm mode.
pub(super) async fn update(call: Call) -> Outcome {
    super::swarm::not_manager(call).await
}

pub(super) async fn remove(call: Call) -> Outcome {
    call.daemon
        .engine
        .volumes
        .remove(call.id(), call.query.flag("force"))
        .await?;
    Answer::no_content()
}

pub(super) async fn prune(call: Call) -> Outcome {
    let mut filters = call.query.filters()?;
    if call.version < Version::new(42) && !filters.contains("all") {
        // Before 1.42 named volumes were pruned as well.
        filters.add("all", "true");
    }
    Answer::json(&call.daemon.engine.volumes.prune(filters).await?)
}
