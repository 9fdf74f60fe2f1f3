//! Routes that carry archives: copying files, export, save, load.

use base64::Engine;
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyDataStream;
use hull_api::container::PathStat;
use hull_engine::containers::ArchivePutOptions;
use hull_engine::streams::ByteStream;
use hull_oci::Platform;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::containers::archive_path;
use super::images::progress;
use crate::http::answer::{empty, stream};
use crate::http::{Answer, Call, Failure, Outcome};

/// The request's body as a reader.
pub(super) fn body_reader(call: &mut Call) -> Box<dyn AsyncRead + Send + Unpin> {
    let pieces = BodyDataStream::new(std::mem::take(&mut call.body));
    Box::new(StreamReader::new(
        pieces.map(|piece| piece.map_err(std::io::Error::other)),
    ))
}

/// Bytes as they come. A failure before the first of them still gets its status; a later one cuts the answer off.
async fn bytes(media_type: &'static str, mut pieces: ByteStream) -> Outcome {
    let first = pieces.next().await.transpose()?;
    let all = futures_util::stream::iter(first.map(Ok)).chain(pieces);
    Answer::body(
        media_type,
        stream(all.map(|piece| piece.map_err(|e| e.message))),
    )
}

fn with_stat(answer: Answer, stat: &PathStat) -> Outcome {
    let internal = |why: String| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encode path stat: {why}"),
        )
    };
    let json = serde_json::to_vec(stat).map_err(|e| internal(e.to_string()))?;
    let text = base64::engine::general_purpose::STANDARD.encode(json);
    let value = HeaderValue::from_str(&text).map_err(|e| internal(e.to_string()))?;
    match answer {
        Answer::Plain(mut response) => {
            response
                .headers_mut()
                .insert("X-Docker-Container-Path-Stat", value);
            Ok(Answer::Plain(response))
        }
        other @ (Answer::Hijack(_) | Answer::WebSocket(..)) => Ok(other),
    }
}

pub(super) async fn archive_stat(call: Call) -> Outcome {
    let stat = call
        .daemon
        .engine
        .containers
        .archive_stat(call.id(), archive_path(&call)?)
        .await?;
    with_stat(Answer::body("application/x-tar", empty())?, &stat)
}

pub(super) async fn archive_get(call: Call) -> Outcome {
    let (stat, pieces) = call
        .daemon
        .engine
        .containers
        .archive_get(call.id(), archive_path(&call)?)
        .await?;
    with_stat(bytes("application/x-tar", pieces).await?, &stat)
}

pub(super) async fn archive_put(mut call: Call) -> Outcome {
    let options = ArchivePutOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    archive_path(&call)?;
    let tar = body_reader(&mut call);
    call.daemon
        .engine
        .containers
        .archive_put(call.id(), archive_path(&call)?, options, tar)
        .await?;
    Answer::status(StatusCode::OK)
}

pub(super) async fn export(call: Call) -> Outcome {
    bytes(
        "application/octet-stream",
        call.daemon.engine.containers.export(call.id()).await?,
    )
    .await
}

/// Every `platform` of the query, each JSON as the API has it since 1.48.
fn platforms(call: &Call) -> Result<Vec<Platform>, Failure> {
    let texts = call.query.all("platform").filter(|text| !text.is_empty());
    let read = |text: &str| {
        serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("invalid platform {text:?}: {error}")))
    };
    texts.map(read).collect()
}

pub(super) async fn save_one(call: Call) -> Outcome {
    bytes(
        "application/x-tar",
        call.daemon
            .engine
            .images
            .save(vec![call.id().to_owned()], platforms(&call)?)
            .await?,
    )
    .await
}

pub(super) async fn save_many(call: Call) -> Outcome {
    let names = call
        .query
        .all("names")
        .flat_map(|names| names.split(','))
        .map(str::to_owned)
        .collect();
    bytes(
        "application/x-tar",
        call.daemon
            .engine
            .images
            .save(names, platforms(&call)?)
            .await?,
    )
    .await
}

/// As in dockerd the status is always 200: an archive is judged while it arrives.
pub(super) async fn load(mut call: Call) -> Outcome {
    let platforms = platforms(&call)?;
    let tar = body_reader(&mut call);
    match call
        .daemon
        .engine
        .images
        .load(call.query.flag("quiet"), platforms, tar)
        .await
    {
        Ok(messages) => progress(messages),
        Err(error) => progress(Box::pin(futures_util::stream::iter([Err(error)]))),
    }
}
