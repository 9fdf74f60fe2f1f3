//! Images and registries.

use futures_util::StreamExt;
use http::{StatusCode, header};
use hull_api::IdResponse;
use hull_api::container::ContainerConfig;
use hull_api::progress::ProgressMessage;
use hull_api::version::{Version, adapt_image_inspect, adapt_image_list};
use hull_engine::images::{
    CommitOptions, ImageListOptions, ImportOptions, ImportSource, PullOptions,
};
use hull_engine::streams::ProgressStream;

use super::system::{registry_auth, required};
use super::transfer::body_reader;
use crate::http::answer::{json_line, stream};
use crate::http::{Answer, Call, Failure, Outcome};

/// Lines of progress; a failure is the last of them, since the status has gone out long before.
pub(super) fn progress(messages: ProgressStream) -> Outcome {
    let lines = messages.map(|message| {
        let message = message.unwrap_or_else(|error| ProgressMessage::failure(&error.message));
        json_line(&message, b"\r\n")
    });
    Answer::body("application/json", stream(lines))
}

pub(super) async fn list(call: Call) -> Outcome {
    let options = ImageListOptions {
        all: call.query.flag("all"),
        shared_size: call.query.flag("shared-size") && call.version >= Version::new(42),
        manifests: call.query.flag("manifests") && call.version >= Version::new(47),
        filters: call.query.filters()?,
    };
    let mut images = call.daemon.engine.images.list(options).await?;
    match adapt_image_list(call.version, &mut images) {
        Some(value) => Answer::json(&value),
        None => Answer::json(&images),
    }
}

/// As a value, to be adapted to the client's version.
pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, Failure> {
    let internal = |e| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encode the answer: {e}"),
        )
    };
    serde_json::to_value(value).map_err(internal)
}

pub(super) async fn inspect(call: Call) -> Outcome {
    let manifests = call.query.flag("manifests") && call.version >= Version::new(48);
    let images = &call.daemon.engine.images;
    let mut value = encode(&images.inspect(call.id(), manifests).await?)?;
    adapt_image_inspect(call.version, &mut value);
    Answer::json(&value)
}

pub(super) async fn history(call: Call) -> Outcome {
    Answer::json(&call.daemon.engine.images.history(call.id()).await?)
}

pub(super) async fn attestations(_call: Call) -> Outcome {
    Err(Failure::missing("image attestations"))
}

/// `fromImage` pulls, `fromSrc` imports.
pub(super) async fn create(mut call: Call) -> Outcome {
    let query = &call.query;
    let image = query.get("fromImage");
    if !image.is_empty() {
        let options = PullOptions {
            image: image.to_owned(),
            tag: query.get("tag").to_owned(),
            platform: query.get("platform").to_owned(),
            auth: registry_auth(&call),
        };
        return progress(call.daemon.engine.images.pull(options).await?);
    }
    let options = ImportOptions {
        repo: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        message: query.get("message").to_owned(),
        changes: query.all("changes").map(str::to_owned).collect(),
        platform: query.get("platform").to_owned(),
    };
    let source = match query.get("fromSrc") {
        "-" => ImportSource::Tar(body_reader(&mut call)),
        "" => return Err(Failure::invalid("one of fromImage and fromSrc is needed")),
        address => ImportSource::Url(address.to_owned()),
    };
    progress(call.daemon.engine.images.import(options, source).await?)
}

pub(super) async fn push(call: Call) -> Outcome {
    let auth = registry_auth(&call);
    progress(
        call.daemon
            .engine
            .images
            .push(call.id(), call.query.get("tag"), auth)
            .await?,
    )
}

pub(super) async fn tag(call: Call) -> Outcome {
    let (repo, tag) = (call.query.get("repo"), call.query.get("tag"));
    call.daemon.engine.images.tag(call.id(), repo, tag).await?;
    Answer::status(StatusCode::CREATED)
}

pub(super) async fn remove(call: Call) -> Outcome {
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    Answer::json(
        &call
            .daemon
            .engine
            .images
            .remove(call.id(), force, no_prune)
            .await?,
    )
}

pub(super) async fn prune(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .images
            .prune(call.query.filters()?)
            .await?,
    )
}

pub(super) async fn search(call: Call) -> Outcome {
    let term = required(&call, "term")?;
    let limit = call.query.number("limit")?.unwrap_or(0);
    let limit = usize::try_from(limit)
        .map_err(|_| Failure::invalid(format!("limit {limit} is outside the range of [1, 100]")))?;
    let (filters, auth) = (call.query.filters()?, registry_auth(&call));
    Answer::json(
        &call
            .daemon
            .engine
            .images
            .search(term, limit, filters, auth)
            .await?,
    )
}

pub(super) async fn distribution(call: Call) -> Outcome {
    let auth = registry_auth(&call);
    Answer::json(
        &call
            .daemon
            .engine
            .images
            .distribution(call.id(), auth)
            .await?,
    )
}

pub(super) async fn commit(mut call: Call) -> Outcome {
    let config = match call.header(header::CONTENT_LENGTH.as_str()) {
        "0" => None,
        _ => {
            let bytes = call.json_bytes().await?;
            let read = |e| crate::http::call::invalid_json(&e);
            match &bytes[..] {
                b"" | b"null" | b"null\n" => None,
                bytes => Some(hull_api::json::from_slice::<ContainerConfig>(bytes).map_err(read)?),
            }
        }
    };
    let query = &call.query;
    let options = CommitOptions {
        container: query.get("container").to_owned(),
        repo: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        comment: query.get("comment").to_owned(),
        author: query.get("author").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query
            .all("changes")
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect(),
        config,
    };
    let id = call.daemon.engine.images.commit(options).await?;
    Answer::created(&IdResponse { id })
}
