//! From a request to its handler: version, route, query.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, StatusCode};
use hull_api::version::Version;

use crate::Daemon;
use crate::authz::Authorization;
use crate::http::call::text;
use crate::http::connection::Dispatch;
use crate::http::router::{self, Pending};
use crate::http::{Answer, Body, Call, Failure, Outcome, Query};

impl Dispatch for Arc<Daemon> {
    fn call(&self, request: Request<Body>) -> Pending {
        Box::pin(dispatch(self.clone(), request))
    }
}

/// Answers a request, past the authorization plugins where there are any.
async fn dispatch(daemon: Arc<Daemon>, request: Request<Body>) -> Outcome {
    let since = Instant::now();
    let counted = daemon.clone();
    let outcome = match daemon.authorization() {
        none if none.is_empty() => answer(daemon, request).await,
        plugins => authorized(daemon, &plugins, request).await,
    };
    let status = match &outcome {
        Ok(Answer::Plain(response) | Answer::WebSocket(response, _)) => response.status(),
        Ok(Answer::Hijack(_)) => StatusCode::SWITCHING_PROTOCOLS,
        Err(failure) => failure.status,
    };
    counted.counters.request(status, since);
    outcome
}

async fn authorized(
    daemon: Arc<Daemon>,
    plugins: &Authorization,
    request: Request<Body>,
) -> Outcome {
    let (head, body) = request.into_parts();
    let (body, shown) = plugins.request(&head, body).await?;
    let outcome = answer(daemon, Request::from_parts(head, body)).await;
    plugins.answer(shown, outcome).await
}

/// Finds the route and calls its handler.
async fn answer(daemon: Arc<Daemon>, request: Request<Body>) -> Outcome {
    let (head, body) = request.into_parts();
    let split = router::split_version(head.uri.path());
    let version = match split.version {
        None => Version::CURRENT,
        Some(text) => Version::parse(text)
            .ok_or_else(|| Failure::invalid(format!("invalid API version: {text:?}")))?
            .check()
            .map_err(Failure::invalid)?,
    };
    let Some((route, params)) = router::find(super::ROUTES, &head.method, split.path, version)?
    else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "page not found"));
    };
    tracing::debug!(method = %head.method, path = head.uri.path(), agent = text(&head.headers, "user-agent"), "request");
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let handler = (route.handler)(Call {
        daemon,
        version,
        params,
        query,
        head,
        body,
    });
    if route.cancellable {
        return handler.await;
    }
    // What was begun is brought to its end even when the client goes away: it runs as a task of its own.
    match tokio::spawn(handler).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the request's handler broke off: {error}"),
        )),
    }
}
