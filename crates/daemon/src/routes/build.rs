//! Builds: not yet; each route says so.

use hull_api::system::BuildPruneReport;

use crate::http::{Answer, Call, Failure, Outcome};

pub(super) async fn build(_call: Call) -> Outcome {
    Err(Failure::missing("image build"))
}

pub(super) async fn cancel(_call: Call) -> Outcome {
    Err(Failure::missing("image build"))
}

pub(super) async fn session(_call: Call) -> Outcome {
    Err(Failure::missing("build session"))
}

/// There is no build cache, so nothing is what there is to remove.
pub(super) async fn prune(_call: Call) -> Outcome {
    Answer::json(&BuildPruneReport::default())
}
