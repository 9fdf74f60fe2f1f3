//! Checkpoints of containers: experimental, as in Docker.

use http::StatusCode;
use hull_api::container::{CheckpointCreateRequest, CheckpointSummary};
use hull_engine::containers::CheckpointName;

use crate::http::{Answer, Call, Failure, Outcome};

/// Docker's answer to experimental routes of a daemon without `--experimental`.
fn gate(call: &Call) -> Result<(), Failure> {
    if call.daemon.engine.experimental() {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.",
    ))
}

pub(super) async fn list(call: Call) -> Outcome {
    gate(&call)?;
    let containers = &call.daemon.engine.containers;
    let names = containers
        .checkpoints(call.id(), call.query.get("dir"))
        .await?;
    let list: Vec<CheckpointSummary> = names
        .into_iter()
        .map(|name| CheckpointSummary { name })
        .collect();
    Answer::json(&list)
}

pub(super) async fn create(mut call: Call) -> Outcome {
    gate(&call)?;
    let request: CheckpointCreateRequest = call.json().await?;
    let wanted = CheckpointName {
        name: &request.checkpoint_id,
        directory: &request.checkpoint_dir,
    };
    let containers = &call.daemon.engine.containers;
    containers
        .checkpoint(call.id(), wanted, request.exit)
        .await?;
    Answer::status(StatusCode::CREATED)
}

pub(super) async fn remove(call: Call) -> Outcome {
    gate(&call)?;
    let wanted = CheckpointName {
        name: call.params.get(1).map_or("", String::as_str),
        directory: call.query.get("dir"),
    };
    let containers = &call.daemon.engine.containers;
    containers.checkpoint_delete(call.id(), wanted).await?;
    Answer::no_content()
}

/// The checkpoint that a start goes on from.
pub(super) fn of_start(call: &Call) -> Result<Option<CheckpointName<'_>>, Failure> {
    let Some(name) = super::containers::optional(call, "checkpoint") else {
        return Ok(None);
    };
    if !call.daemon.engine.experimental() {
        return Err(Failure::invalid(
            "checkpoint is only supported in experimental mode",
        ));
    }
    let directory = call.query.get("checkpoint-dir");
    Ok(Some(CheckpointName { name, directory }))
}
