//! `--metrics-addr`: Prometheus' text format on `/metrics`, with dockerd's names where it has them.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hull_engine::containers::ListOptions;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::Daemon;
use crate::http::Body;
use crate::http::answer::{empty, full};

/// Scrapes served at once.
const CONNECTIONS_MAX: usize = 32;
/// How long a scraper may take to send its head, and then to send the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What the daemon counts itself.
#[derive(Default)]
pub struct Counters {
    /// Requests by status class: 1xx to 5xx.
    requests: [AtomicU64; 5],
    /// Microseconds from a request's head to its answer's head.
    request_us: AtomicU64,
}

impl Counters {
    /// Counts one request.
    pub fn request(&self, status: StatusCode, since: Instant) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.request_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Requests so far, of any status.
    pub fn total(&self) -> u64 {
        self.requests
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "# HELP hull_http_requests_total The API's requests by class of status\n# TYPE hull_http_requests_total counter"
        );
        for (class, count) in self.requests.iter().enumerate() {
            let _ = writeln!(
                text,
                "hull_http_requests_total{{class=\"{}xx\"}} {}",
                class + 1,
                count.load(Ordering::Relaxed)
            );
        }
        let seconds = self.request_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            text,
            "# HELP hull_http_request_seconds_total Time until the answers' heads\n# TYPE hull_http_request_seconds_total counter\nhull_http_request_seconds_total {seconds}"
        );
    }
}

/// Starts serving on `address`.
///
/// # Errors
/// The address cannot be bound.
pub(crate) async fn start(address: &str, daemon: Arc<Daemon>) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("metrics-addr {address}"))?;
    tokio::spawn(async move {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let daemon = daemon.clone();
            let service = hyper::service::service_fn(move |request| {
                let daemon = daemon.clone();
                async move { Ok::<_, Infallible>(answer(&daemon, &request).await) }
            });
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // A scraper that breaks off harms nobody.
                let _ = connection.await;
                drop(permit);
            });
        }
    });
    Ok(())
}

async fn answer(daemon: &Daemon, request: &Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/metrics" {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(full(render(daemon).await));
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

async fn render(daemon: &Daemon) -> String {
    let mut text = String::new();
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    if let Ok(containers) = daemon.engine.containers.list(all).await {
        let count = |states: &[&str]| {
            containers
                .iter()
                .filter(|c| states.contains(&c.state.as_str()))
                .count()
        };
        let _ = writeln!(
            text,
            "# HELP engine_daemon_container_states_containers The count of containers in various states\n# TYPE engine_daemon_container_states_containers gauge"
        );
        for (state, states) in [
            ("running", &["running", "restarting"][..]),
            ("paused", &["paused"][..]),
            ("stopped", &["created", "exited", "dead", "removing"][..]),
        ] {
            let _ = writeln!(
                text,
                "engine_daemon_container_states_containers{{state=\"{state}\"}} {}",
                count(states)
            );
        }
    }
    let _ = writeln!(
        text,
        "# HELP engine_daemon_engine_info The information related to the engine\n# TYPE engine_daemon_engine_info gauge\nengine_daemon_engine_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    let _ = writeln!(
        text,
        "# HELP engine_daemon_events_subscribers_total The current number of subscribers to events\n# TYPE engine_daemon_events_subscribers_total gauge\nengine_daemon_events_subscribers_total {}",
        daemon.engine.events.listeners()
    );
    daemon.counters.write(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_class() {
        let counters = Counters::default();
        counters.request(StatusCode::NOT_FOUND, Instant::now());
        counters.request(StatusCode::OK, Instant::now());
        counters.request(StatusCode::CREATED, Instant::now());
        let mut text = String::new();
        counters.write(&mut text);
        assert!(
            text.contains("class=\"2xx\"} 2\n") && text.contains("class=\"4xx\"} 1\n"),
            "{text}"
        );
    }
}
