//! Networks.

use http::StatusCode;
use hull_api::network::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use hull_api::version::{Version, adapt_network_create};

use crate::http::{Answer, Call, Outcome};

pub(super) async fn list(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .networks
            .list(call.query.filters()?)
            .await?,
    )
}

pub(super) async fn inspect(call: Call) -> Outcome {
    let (verbose, scope) = (call.query.flag("verbose"), call.query.get("scope"));
    let mut network = call
        .daemon
        .engine
        .networks
        .inspect(call.id(), verbose, scope)
        .await?;
    if call.version < Version::V1_52 {
        network.status = None;
    }
    Answer::json(&network)
}

pub(super) async fn create(mut call: Call) -> Outcome {
    let mut request: NetworkCreateRequest = call.json().await?;
    adapt_network_create(call.version, &mut request);
    Answer::created(&call.daemon.engine.networks.create(request).await?)
}

pub(super) async fn remove(call: Call) -> Outcome {
    call.daemon.engine.networks.remove(call.id()).await?;
    Answer::no_content()
}

pub(super) async fn connect(mut call: Call) -> Outcome {
    // Docker 29 reads the endpoint's MAC address from 1.54 on only, Docker 20.10 from any client: so does Hull.
    let request: NetworkConnectRequest = call.json().await?;
    call.daemon
        .engine
        .networks
        .connect(call.id(), request)
        .await?;
    Answer::status(StatusCode::OK)
}

pub(super) async fn disconnect(mut call: Call) -> Outcome {
    let request: NetworkDisconnectRequest = call.json().await?;
    call.daemon
        .engine
        .networks
        .disconnect(call.id(), request)
        .await?;
    Answer::status(StatusCode::OK)
}

pub(super) async fn prune(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .networks
            .prune(call.query.filters()?)
            .await?,
    )
}
