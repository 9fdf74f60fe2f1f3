//! Swarm: this daemon is never in swarm mode, and answers as a dockerd that is not.

use http::StatusCode;

use crate::http::{Call, Failure, Outcome};

pub(super) async fn not_manager(_call: Call) -> Outcome {
    Err(Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

pub(super) async fn not_member(_call: Call) -> Outcome {
    Err(Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not part of a swarm",
    ))
}

pub(super) async fn missing(_call: Call) -> Outcome {
    Err(Failure::missing("swarm mode"))
}
