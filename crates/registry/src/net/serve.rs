//! The accept loop: bounded, and drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::conn::{Conn, Files};
use crate::api::App;

/// Longest request head, in bytes; longer ones are answered 431.
const HEAD_LEN_MAX: usize = 64 << 10;
/// Most requests at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// How long a client has for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting rests after it has failed, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener needs to serve.
#[derive(Clone)]
pub struct Listening {
    /// Answers the requests.
    pub app: Arc<App>,
    /// Speaks TLS, if there is a certificate.
    pub tls: Option<TlsAcceptor>,
    /// Cuts off who sends or takes nothing for so long.
    pub idle_timeout: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Whether it serves metrics only.
    pub metrics_only: bool,
}

/// Accepts connections until `stop` becomes true, and then waits for those that are open.
pub async fn serve(listener: TcpListener, listening: Listening, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(listening.connections_max));
    let connection_stop = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = stopped(&mut stop) => break,
        };
        let Some((stream, peer, permit)) = accepted else {
            break;
        };
        let (listening, stop) = (listening.clone(), connection_stop.clone());
        tokio::spawn(async move {
            connection(stream, peer, listening, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    let all = u32::try_from(listening.connections_max).unwrap_or(u32::MAX);
    // Every permit is back when every connection has ended. The caller sets the deadline.
    let _ = permits.acquire_many(all).await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    listening: Listening,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    let conn = Conn::new(stream, listening.app.policy.pace);
    match listening.tls.clone() {
        None => {
            let files = conn.files();
            requests(conn, Some(files), peer, listening, stop).await;
        }
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(conn)).await {
            Ok(Ok(stream)) => requests(stream, None, peer, listening, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        },
    }
}

async fn requests(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    files: Option<Files>,
    peer: SocketAddr,
    listening: Listening,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listening.idle_timeout)
        .max_buf_size(HEAD_LEN_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .keep_alive_interval(listening.idle_timeout)
        .max_send_buf_size(256 << 10);
    let (app, metrics_only) = (listening.app, listening.metrics_only);
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let (app, files) = (app.clone(), files.clone());
        async move {
            let files = files.filter(|_| request.version() < hyper::Version::HTTP_2);
            Ok::<_, std::convert::Infallible>(app.answer(request, peer, files, metrics_only).await)
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stays_silent(listening.idle_timeout, &asked) => return,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Clients hang up all the time.
        tracing::debug!(%error, %peer, "connection ended with an error");
    }
}

/// Ends when a connection has brought no request in time. hyper's own deadlines begin only when it knows which protocol is
/// spoken; without this, connections that say nothing would take all places for good.
async fn stays_silent(timeout: Duration, asked: &AtomicBool) {
    tokio::time::sleep(timeout).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Waits until the server is to stop; a sender that is gone means the same.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
