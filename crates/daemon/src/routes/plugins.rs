//! Managed plugins: there are none, and none can be installed.

use http::StatusCode;

use crate::http::{Answer, Call, Failure, Outcome};

pub(super) async fn list(_call: Call) -> Outcome {
    Answer::json::<[hull_api::plugin::Plugin; 0]>(&[])
}

pub(super) async fn not_found(call: Call) -> Outcome {
    Err(Failure::new(
        StatusCode::NOT_FOUND,
        format!("plugin {:?} not found", call.id()),
    ))
}

pub(super) async fn missing(_call: Call) -> Outcome {
    Err(Failure::missing("managed plugins"))
}
