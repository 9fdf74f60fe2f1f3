//! One connection: its first head, hyper for the rest, and the headers of every answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::answer::full;
use super::call::read_all;
use super::head::{self, First};
use super::io::{Prefixed, Stream};
use super::router::Pending;
use super::{Answer, Body, Failure, drain, websocket};

/// How long a client may take to send a head, the first one and those after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer that is not a stream, on a connection without hyper.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What answers requests: the routes, or a test's own.
pub trait Dispatch: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request<Body>) -> Pending;
}

/// Serves a connection to its end. The permit is one of the daemon's connections and is given back with it.
pub async fn serve<S: Stream, D: Dispatch>(
    dispatch: D,
    mut stream: S,
    permit: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let read = match tokio::time::timeout(HEAD_TIMEOUT, head::first(&mut stream)).await {
        Ok(Ok(First::Ordinary(bytes))) => bytes,
        Ok(Ok(First::Raw(request, rest))) => {
            return raw(dispatch, *request, Prefixed::new(rest, stream), permit).await;
        }
        Ok(Ok(First::Closed)) | Err(_) => return,
        Ok(Err(error)) => {
            tracing::debug!(%error, "connection broke off");
            return;
        }
    };
    ordinary(
        dispatch,
        Prefixed::new(read, stream),
        Arc::new(permit),
        stop,
    )
    .await;
}

async fn ordinary<S: Stream, D: Dispatch>(
    dispatch: D,
    stream: S,
    permit: Arc<OwnedSemaphorePermit>,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request| {
        let (dispatch, permit) = (dispatch.clone(), permit.clone());
        async move { Ok::<_, Infallible>(handle(dispatch, request, permit).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        // An error means that the daemon is gone, which is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection broke off");
    }
}

/// Answers one request that came through hyper.
async fn handle<D: Dispatch>(
    dispatch: D,
    mut request: Request<Incoming>,
    permit: Arc<OwnedSemaphorePermit>,
) -> Response<Body> {
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let request = request.map(|body| drain::Drained::new(body).boxed_unsync());
    let head_only = request.method() == Method::HEAD;
    let response = match (dispatch.call(request).await, upgrade) {
        (Ok(Answer::Plain(response)), _) => response,
        (Ok(Answer::Hijack(hijack)), None) => hijack.ordinary(),
        (Ok(Answer::Hijack(hijack)), Some(upgrade)) => {
            let response = hijack.upgraded();
            when_upgraded(upgrade, permit, |client| hijack.join(client));
            response
        }
        (Ok(Answer::WebSocket(response, attached)), Some(upgrade)) => {
            when_upgraded(upgrade, permit, |client| websocket::join(attached, client));
            response
        }
        (Ok(Answer::WebSocket(..)), None) => Failure::invalid("bad request: no upgrade").response(),
        (Err(failure), _) => failure.response(),
    };
    finish(response, head_only)
}

/// Runs `join` on the connection once hyper has given it away; the connection counts until that ends.
fn when_upgraded<F, J>(
    upgrade: hyper::upgrade::OnUpgrade,
    permit: Arc<OwnedSemaphorePermit>,
    join: J,
) where
    F: Future<Output = ()> + Send,
    J: FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
{
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => join(TokioIo::new(client)).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
        drop(permit);
    });
}

/// Answers a request for a raw stream without upgrade, then the connection ends.
async fn raw<S: Stream, D: Dispatch>(
    dispatch: D,
    request: Request<Bytes>,
    mut client: S,
    permit: OwnedSemaphorePermit,
) {
    let response = match dispatch.call(request.map(full)).await {
        Ok(Answer::Hijack(hijack)) => {
            if client.write_all(hijack.raw_head().as_bytes()).await.is_ok() {
                hijack.join(client).await;
            }
            return drop(permit);
        }
        Ok(Answer::Plain(response) | Answer::WebSocket(response, _)) => response,
        Err(failure) => failure.response(),
    };
    let (head, body) = finish(response, false).into_parts();
    let Ok(body) = read_all(body, super::JSON_BODY_MAX).await else {
        return;
    };
    let mut text = format!("HTTP/1.1 {}\r\n", head.status);
    for (name, value) in &head.headers {
        text.push_str(&format!(
            "{name}: {}\r\n",
            value.to_str().unwrap_or_default()
        ));
    }
    text.push_str(&format!(
        "Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    let write = async {
        client.write_all(text.as_bytes()).await?;
        client.write_all(&body).await?;
        client.shutdown().await
    };
    let _ = tokio::time::timeout(WRITE_TIMEOUT, write).await;
}

/// Adds the headers that every answer has.
fn finish(mut response: Response<Body>, head_only: bool) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(crate::API_VERSION));
    // A handler that knows better has set it.
    headers
        .entry("Docker-Experimental")
        .or_insert(HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(crate::SERVER));
    if head_only {
        *response.body_mut() = super::answer::empty();
    }
    response
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
