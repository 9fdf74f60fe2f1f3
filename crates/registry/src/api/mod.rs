//! Requests to responses. [`App::answer`] is the way in; one module per noun below it.

mod blobs;
mod lists;
mod manifests;
mod response;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Response};
use hyper::Request;
use hyper::body::Incoming;

use crate::access_log::{AccessLog, Line};
use crate::auth::{Auth, Scope};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::net::body::{Body, RequestBody};
use crate::net::conn::Files;
use crate::net::pace::Pace;
use crate::proxy::Proxy;
use crate::rest::Rest;
use crate::route::{Query, Route};
use crate::storage::Storage;

pub use response::Answer;

/// What the server was told to allow.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Manifests, tags and blobs may be deleted.
    pub delete: bool,
    /// How slow a client may be.
    pub pace: Pace,
}

/// All that answers requests.
pub struct App {
    /// The files.
    pub storage: Arc<Storage>,
    /// What is allowed.
    pub policy: Policy,
    /// Who is allowed it.
    pub auth: Auth,
    /// Where to fetch what is not here.
    pub proxy: Option<Proxy>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is done when nothing is asked.
    pub rest: Rest,
    /// What is written down of each request.
    pub access_log: AccessLog,
}

/// A request, taken apart.
pub struct Call<'a> {
    /// The method; GET or HEAD, where a route has them, are told apart only at the end.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The query.
    pub query: Query<'a>,
    /// Where the connection takes files to send.
    pub files: Option<Files>,
}

impl Call<'_> {
    /// A header's value, if it is there once and is text.
    pub fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether only the head is wanted.
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

impl App {
    /// Answers a request. Never fails: an error is an answer. A listener for metrics answers nothing else.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        files: Option<Files>,
        metrics_only: bool,
    ) -> Response<Body> {
        let started = Instant::now();
        self.metrics.begin();
        self.rest.disturb();
        let (head, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, self.policy.pace);
        let call = Call {
            method: &head.method,
            headers: &head.headers,
            query: Query::parse(head.uri.query()),
            files,
        };
        let mut user = None;
        let (label, result) = match Route::parse(&head.method, head.uri.path()) {
            Ok(route) => {
                let result = self
                    .guarded(&route, &call, body, metrics_only, &mut user)
                    .await;
                (route.label(), result)
            }
            Err(error) => ("none", Err(error)),
        };
        let answer = result.unwrap_or_else(|error| {
            log_failure(&error);
            Answer::error(&error)
        });
        let (status, len) = (answer.status().as_u16(), answer.body_len(call.is_head()));
        let response = answer.finish(call.is_head());
        let took = started.elapsed();
        self.metrics.end(call.method, label, status, len, took);
        self.access_log.write(&Line {
            peer,
            user: user.as_deref(),
            head: &head,
            status,
            len,
            took,
        });
        response
    }

    /// Lets a request through to its route if policy and authentication allow it.
    async fn guarded(
        self: &Arc<Self>,
        route: &Route,
        call: &Call<'_>,
        body: RequestBody,
        metrics_only: bool,
        user: &mut Option<String>,
    ) -> Result<Answer> {
        if metrics_only {
            return match route {
                Route::Metrics => Ok(self.metrics_text()),
                Route::Health => self.health().await,
                _ => Err(Error::NotFound),
            };
        }
        if *route != Route::Health {
            let needed = Scope::needed(route, call.method, &call.query);
            *user = self.auth.check(call.headers, &needed).await?;
        }
        self.check_policy(route, call.method)?;
        self.route(route, call, body).await
    }

    /// Any token would do, so none does: tokens are for repositories.
    fn metrics_for_users(&self) -> Result<Answer> {
        if self.auth.is_by_repository() {
            return Err(Error::Denied);
        }
        Ok(self.metrics_text())
    }

    fn metrics_text(&self) -> Answer {
        let text = self.metrics.text();
        let len = text.len() as u64;
        Answer::ok()
            .with(
                http::header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )
            .body(Body::Bytes(text.into()), len)
    }

    async fn route(
        self: &Arc<Self>,
        route: &Route,
        call: &Call<'_>,
        body: RequestBody,
    ) -> Result<Answer> {
        self.check_policy(route, call.method)?;
        match (route, call.method) {
            (Route::Base, &Method::GET | &Method::HEAD) => Ok(Answer::ok().json("{}")),
            (Route::Health, &Method::GET | &Method::HEAD) => self.health().await,
            (Route::Metrics, &Method::GET | &Method::HEAD) => self.metrics_for_users(),
            (Route::Catalog, &Method::GET | &Method::HEAD) => self.catalog(call).await,
            (Route::Tags(name), &Method::GET | &Method::HEAD) => self.tags(call, name).await,
            (Route::Referrers(name, subject), &Method::GET | &Method::HEAD) => {
                self.referrers(call, name, subject).await
            }
            (Route::Manifest(name, reference), &Method::GET | &Method::HEAD) => {
                self.get_manifest(call, name, reference).await
            }
            (Route::Manifest(name, reference), &Method::PUT) => {
                self.put_manifest(call, name, reference, body).await
            }
            (Route::Manifest(name, reference), &Method::DELETE) => {
                self.delete_manifest(name, reference).await
            }
            (Route::Blob(name, digest), &Method::GET | &Method::HEAD) => {
                self.get_blob(call, name, digest).await
            }
            (Route::Blob(name, digest), &Method::DELETE) => self.delete_blob(name, digest).await,
            (Route::Uploads(name), &Method::POST) => self.start_upload(call, name, body).await,
            (Route::Upload(name, id), &Method::GET | &Method::HEAD) => {
                self.upload_status(name, id).await
            }
            (Route::Upload(name, id), &Method::PATCH) => {
                self.append_upload(call, name, id, body).await
            }
            (Route::Upload(name, id), &Method::PUT) => {
                self.finish_upload(call, name, id, body).await
            }
            (Route::Upload(name, id), &Method::DELETE) => self.cancel_upload(name, id).await,
            (Route::Manifest(..), _) => Err(Error::MethodNotAllowed("GET, HEAD, PUT, DELETE")),
            (Route::Blob(..), _) => Err(Error::MethodNotAllowed("GET, HEAD, DELETE")),
            (Route::Uploads(_), _) => Err(Error::MethodNotAllowed("POST")),
            (Route::Upload(..), _) => Err(Error::MethodNotAllowed("GET, HEAD, PATCH, PUT, DELETE")),
            (Route::Base | Route::Health | Route::Metrics | Route::Catalog, _)
            | (Route::Tags(_) | Route::Referrers(..), _) => {
                Err(Error::MethodNotAllowed("GET, HEAD"))
            }
        }
    }

    fn check_policy(&self, route: &Route, method: &Method) -> Result<()> {
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        if self.proxy.is_some() {
            return Err(Error::Unsupported(
                "this registry is a pull-through cache: push to the registry behind it",
            ));
        }
        if self.policy.read_only {
            return Err(Error::Unsupported("this registry is read-only"));
        }
        let deletes =
            *method == Method::DELETE && matches!(route, Route::Manifest(..) | Route::Blob(..));
        if deletes && !self.policy.delete {
            return Err(Error::Unsupported("deleting is disabled in this registry"));
        }
        Ok(())
    }

    /// Runs something that blocks on the storage.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || work(&storage)).await?
    }

    /// Whether the storage can be used: reads its directory, and writes nothing.
    async fn health(&self) -> Result<Answer> {
        self.blocking(|storage| storage.check()).await?;
        Ok(Answer::ok().json(r#"{"status":"ok"}"#))
    }
}

/// An error of ours is logged where it becomes an answer; a client's mistake is told to the client alone.
fn log_failure(error: &Error) {
    if error.status().is_server_error() {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(cause, "{error}");
    }
}
