//! What the server counts, in Prometheus' form.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::storage::GcReport;

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    sent: Counter,
    received: Counter,
    in_flight: Gauge,
    collections: Counter,
    freed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 9))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hull_registry");
        let seconds: Family<RouteLabels, Histogram> =
            Family::new_with_constructor(seconds_histogram);
        let (requests, in_flight) = (Family::default(), Gauge::default());
        let (sent, received) = (Counter::default(), Counter::default());
        let (collections, freed) = (Counter::default(), Counter::default());
        registry.register("requests", "Requests answered", requests.clone());
        registry.register(
            "request_seconds",
            "Time from a request's head to its response's head",
            seconds.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being answered",
            in_flight.clone(),
        );
        registry.register(
            "response_body_bytes",
            "Bytes of response bodies",
            sent.clone(),
        );
        registry.register("upload_bytes", "Bytes of blobs received", received.clone());
        registry.register(
            "collections",
            "Garbage collections finished",
            collections.clone(),
        );
        registry.register(
            "collected_bytes",
            "Bytes freed by garbage collections",
            freed.clone(),
        );
        Metrics {
            registry,
            requests,
            seconds,
            sent,
            received,
            in_flight,
            collections,
            freed,
        }
    }
}

impl Metrics {
    /// A request has come.
    pub fn begin(&self) {
        self.in_flight.inc();
    }

    /// A request was answered.
    pub fn end(
        &self,
        method: &http::Method,
        route: &'static str,
        code: u16,
        len: u64,
        took: Duration,
    ) {
        self.in_flight.dec();
        let labels = RequestLabels {
            method: method_label(method),
            route,
            code,
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&RouteLabels { route })
            .observe(took.as_secs_f64());
        self.sent.inc_by(len);
    }

    /// Bytes of a blob were received.
    pub fn received(&self, len: u64) {
        self.received.inc_by(len);
    }

    /// A collection has finished.
    pub fn collected(&self, report: &GcReport) {
        self.collections.inc();
        self.freed.inc_by(report.bytes);
    }

    /// All of it, in OpenMetrics' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Any client can invent methods; none of them may make a counter.
fn method_label(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        _ => "other",
    }
}
