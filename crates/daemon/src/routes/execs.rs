//! Execs.

use http::StatusCode;
use hull_api::IdResponse;
use hull_api::exec::{ExecConfig, ExecStartConfig};
use hull_api::version::{adapt_exec, adapt_exec_start};

use super::containers::{stream_type, terminal_size};
use crate::http::hijack::{Hijack, head_start};
use crate::http::reframe::as_asked;
use crate::http::{Answer, Call, Failure, Outcome};

pub(super) async fn create(mut call: Call) -> Outcome {
    let mut config: ExecConfig = call.json().await?;
    adapt_exec(call.version, &mut config);
    if config.cmd.is_empty() {
        return Err(Failure::invalid("No exec command specified"));
    }
    let id = call.daemon.engine.execs.create(call.id(), config).await?;
    Answer::created(&IdResponse { id })
}

pub(super) async fn start(mut call: Call) -> Outcome {
    let mut config: ExecStartConfig = call.json_or_default().await?;
    adapt_exec_start(call.version, &mut config);
    let terminal = config.tty;
    match call.daemon.engine.execs.start(call.id(), config).await? {
        None => Answer::status(StatusCode::OK),
        Some(stream) => Ok(Answer::Hijack(Hijack {
            head_start: head_start(call.header("user-agent")),
            media_type: stream_type(call.version, terminal),
            stream: as_asked(stream, terminal),
            body: crate::http::answer::empty(),
        })),
    }
}

pub(super) async fn inspect(call: Call) -> Outcome {
    Answer::json(&call.daemon.engine.execs.inspect(call.id()).await?)
}

pub(super) async fn resize(call: Call) -> Outcome {
    let (height, width) = terminal_size(&call)?;
    call.daemon
        .engine
        .execs
        .resize(call.id(), height, width)
        .await?;
    Answer::status(StatusCode::OK)
}
