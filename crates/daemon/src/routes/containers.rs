//! Containers: requests are parsed, the engine is called, its answer is rendered.

use futures_util::{FutureExt, StreamExt};
use http::{StatusCode, header};
use hull_api::container::{
    ContainerConfig, ContainerCreateRequest, UpdateConfig, WaitCondition, WaitError, WaitResponse,
};
use hull_api::version::{Version, adapt_container_list, adapt_create, adapt_inspect, adapt_update};
use hull_api::{frames, time};
use hull_engine::containers::{AttachOptions, ListOptions, LogsOptions, RemoveOptions};

use super::images::encode;
use super::system::{required, time_parameter};
use crate::http::answer::{json_line, stream};
use crate::http::call::invalid_json;
use crate::http::hijack::{Hijack, head_start};
use crate::http::{Answer, Call, Failure, Outcome, websocket};

/// The media type of a process's output: up to API 1.41 always the raw one.
pub(super) fn stream_type(version: Version, terminal: bool) -> &'static str {
    match terminal || version < Version::new(42) {
        true => frames::RAW,
        false => frames::MULTIPLEXED,
    }
}

/// A parameter that is `None` where it is absent or empty.
pub(super) fn optional<'a>(call: &'a Call, key: &str) -> Option<&'a str> {
    call.query.find(key).filter(|value| !value.is_empty())
}

pub(super) async fn list(call: Call) -> Outcome {
    let limit = call.query.number("limit")?.unwrap_or(0);
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.query.filters()?,
    };
    let mut list = call.daemon.engine.containers.list(options).await?;
    adapt_container_list(call.version, &mut list);
    Answer::json(&list)
}

pub(super) async fn create(mut call: Call) -> Outcome {
    let body = call.json_bytes().await?;
    if body.is_empty() {
        return Err(Failure::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut request = ContainerCreateRequest::from_slice(&body).map_err(|e| invalid_json(&e))?;
    if request.config == ContainerConfig::default() {
        return Err(Failure::invalid(
            "config cannot be empty in order to create a container",
        ));
    }
    let cgroup2 = call.daemon.engine.system.cgroup2();
    let warnings = adapt_create(call.version, cgroup2, &mut request).map_err(Failure::invalid)?;
    let name = optional(&call, "name");
    // Before 1.41 there was no such parameter.
    let platform = optional(&call, "platform").filter(|_| call.version >= Version::new(41));
    let mut created = call
        .daemon
        .engine
        .containers
        .create(name, platform, request)
        .await?;
    created.warnings.extend(warnings);
    Answer::created(&created)
}

pub(super) async fn inspect(call: Call) -> Outcome {
    let inspect = call
        .daemon
        .engine
        .containers
        .inspect(call.id(), call.query.flag("size"))
        .await?;
    let mut value = encode(&inspect)?;
    adapt_inspect(call.version, &mut value);
    Answer::json(&value)
}

pub(super) async fn start(call: Call) -> Outcome {
    // Docker allows for `{}` and `null` of careless clients.
    let len = call
        .header(header::CONTENT_LENGTH.as_str())
        .parse::<u64>()
        .unwrap_or(0);
    if len > 7 || call.head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Failure::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let containers = &call.daemon.engine.containers;
    match super::checkpoints::of_start(&call)? {
        None => containers.start(call.id()).await?,
        Some(checkpoint) => containers.start_from(call.id(), checkpoint).await?,
    }
    Answer::no_content()
}

pub(super) async fn stop(call: Call) -> Outcome {
    let timeout = call.query.number("t")?;
    call.daemon
        .engine
        .containers
        .stop(call.id(), optional(&call, "signal"), timeout)
        .await?;
    Answer::no_content()
}

pub(super) async fn restart(call: Call) -> Outcome {
    let timeout = call.query.number("t")?;
    call.daemon
        .engine
        .containers
        .restart(call.id(), optional(&call, "signal"), timeout)
        .await?;
    Answer::no_content()
}

pub(super) async fn kill(call: Call) -> Outcome {
    call.daemon
        .engine
        .containers
        .kill(call.id(), optional(&call, "signal"))
        .await?;
    Answer::no_content()
}

pub(super) async fn pause(call: Call) -> Outcome {
    call.daemon.engine.containers.pause(call.id()).await?;
    Answer::no_content()
}

pub(super) async fn unpause(call: Call) -> Outcome {
    call.daemon.engine.containers.unpause(call.id()).await?;
    Answer::no_content()
}

pub(super) async fn rename(call: Call) -> Outcome {
    call.daemon
        .engine
        .containers
        .rename(call.id(), call.query.get("name"))
        .await?;
    Answer::no_content()
}

/// `h` and `w`, in characters.
pub(super) fn terminal_size(call: &Call) -> Result<(u16, u16), Failure> {
    let read = |key: &str| {
        let text = call.query.get(key);
        text.parse::<u16>().map_err(|_| {
            let shown = if key == "h" { "height" } else { "width" };
            Failure::invalid(format!("invalid resize {shown} {text:?}: invalid syntax"))
        })
    };
    Ok((read("h")?, read("w")?))
}

pub(super) async fn resize(call: Call) -> Outcome {
    let (height, width) = terminal_size(&call)?;
    call.daemon
        .engine
        .containers
        .resize(call.id(), height, width)
        .await?;
    Answer::status(StatusCode::OK)
}

pub(super) async fn update(mut call: Call) -> Outcome {
    let body = call.json_bytes().await?;
    if body.is_empty() {
        return Err(Failure::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut update = UpdateConfig::from_slice(&body).map_err(|e| invalid_json(&e))?;
    adapt_update(call.version, &mut update);
    Answer::json(
        &call
            .daemon
            .engine
            .containers
            .update(call.id(), update)
            .await?,
    )
}

pub(super) async fn remove(call: Call) -> Outcome {
    let options = RemoveOptions {
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
        force: call.query.flag("force"),
    };
    call.daemon
        .engine
        .containers
        .remove(call.id(), options)
        .await?;
    Answer::no_content()
}

pub(super) async fn prune(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .containers
            .prune(call.query.filters()?)
            .await?,
    )
}

pub(super) async fn top(call: Call) -> Outcome {
    Answer::json(
        &call
            .daemon
            .engine
            .containers
            .top(call.id(), call.query.get("ps_args"))
            .await?,
    )
}

pub(super) async fn changes(call: Call) -> Outcome {
    let changes = call.daemon.engine.containers.changes(call.id()).await?;
    Answer::json(&(!changes.is_empty()).then_some(changes))
}

/// The head goes out as soon as the wait is registered, so that a client can start the container knowing that it waits.
pub(super) async fn wait(call: Call) -> Outcome {
    let condition = WaitCondition::parse(call.query.get("condition")).map_err(Failure::invalid)?;
    let wait = call
        .daemon
        .engine
        .containers
        .wait(call.id(), condition)
        .await?;
    let line = wait.map(|result| {
        let response = result.unwrap_or_else(|error| WaitResponse {
            status_code: -1,
            error: Some(WaitError {
                message: error.message,
            }),
        });
        json_line(&response, b"\n")
    });
    Answer::body("application/json", stream(futures_util::stream::once(line)))
}

pub(super) async fn logs(call: Call) -> Outcome {
    let query = &call.query;
    let options = LogsOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: time_parameter(&call, "since")?.filter(|t| *t > jiff::Timestamp::UNIX_EPOCH),
        until: time_parameter(&call, "until")?.filter(|t| *t > jiff::Timestamp::UNIX_EPOCH),
        timestamps: query.flag("timestamps"),
        follow: query.flag("follow"),
        // As in Docker, what is no number means all.
        tail: query.get("tail").parse().ok(),
        details: query.flag("details"),
    };
    if !options.stdout && !options.stderr {
        return Err(Failure::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let logs = call
        .daemon
        .engine
        .containers
        .logs(call.id(), options)
        .await?;
    let terminal = logs.terminal;
    let pieces = logs.stream.map(|piece| piece.map_err(|e| e.message));
    Answer::body(stream_type(call.version, terminal), stream(pieces))
}

fn attach_options(call: &Call) -> AttachOptions {
    let query = &call.query;
    AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        detach_keys: optional(call, "detachKeys").map(str::to_owned),
    }
}

pub(super) async fn attach(mut call: Call) -> Outcome {
    let attached = call
        .daemon
        .engine
        .containers
        .attach(call.id(), attach_options(&call))
        .await?;
    Ok(Answer::Hijack(Hijack {
        head_start: head_start(call.header("user-agent")),
        media_type: stream_type(call.version, attached.terminal),
        stream: attached,
        body: std::mem::take(&mut call.body),
    }))
}

/// Without any stream named, dockerd takes all of them; before 1.42 always.
pub(super) async fn attach_websocket(call: Call) -> Outcome {
    let response = websocket::handshake(&call.head.headers)?;
    let mut options = attach_options(&call);
    let named = options.stdin || options.stdout || options.stderr;
    if !named || call.version < Version::new(42) {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let attached = call
        .daemon
        .engine
        .containers
        .attach(call.id(), options)
        .await?;
    Ok(Answer::WebSocket(response, attached))
}

pub(super) async fn stats(call: Call) -> Outcome {
    let (streams, one_shot) = (
        call.query.flag_or("stream", true),
        call.query.flag("one-shot"),
    );
    if streams && one_shot {
        return Err(Failure::invalid(
            "cannot have stream=true and one-shot=true",
        ));
    }
    let mut samples = call
        .daemon
        .engine
        .containers
        .stats(call.id(), streams, one_shot)
        .await?;
    // A failure before anything was sent still gets its status.
    let first = samples.next().await.transpose()?;
    let all = futures_util::stream::iter(first.map(Ok)).chain(samples);
    let lines = all.map(|sample| {
        let mut sample = sample.map_err(|e| e.message)?;
        if sample.preread.is_empty() {
            time::ZERO.clone_into(&mut sample.preread);
        }
        json_line(&sample, b"\n")
    });
    Answer::body("application/json", stream(lines))
}

/// The path that an archive request is about.
pub(super) fn archive_path(call: &Call) -> Result<&str, Failure> {
    required(call, "path")
}
