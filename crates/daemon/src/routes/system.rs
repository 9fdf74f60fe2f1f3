//! The daemon itself: ping, version, info, events, disk usage, registry login.

use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode};
use hull_api::auth::AuthConfig;
use hull_api::version::{Version, adapt_event, adapt_info, shows_event};
use hull_engine::system::DiskUsageOptions;
use jiff::Timestamp;

use super::images::encode;
use crate::http::answer::{full, json_line, stream};
use crate::http::{Answer, BoxError, Call, Failure, Outcome};

pub(super) async fn ping(call: Call) -> Outcome {
    let body = if call.head.method == Method::HEAD {
        ""
    } else {
        "OK"
    };
    let experimental = match call.daemon.engine.experimental() {
        true => "true",
        false => "false",
    };
    let mut answer = Answer::body("text/plain; charset=utf-8", full(body))?;
    if let Answer::Plain(response) = &mut answer {
        let headers = response.headers_mut();
        for (name, value) in [
            ("Builder-Version", "1"),
            ("Docker-Experimental", experimental),
            ("Cache-Control", "no-cache, no-store, must-revalidate"),
            ("Pragma", "no-cache"),
            ("Swarm", "inactive"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    Ok(answer)
}

pub(super) async fn version(call: Call) -> Outcome {
    Answer::json(&call.daemon.engine.system.version().await?)
}

pub(super) async fn info(call: Call) -> Outcome {
    let mut info = call.daemon.engine.system.info().await?;
    info.plugins.authorization = call.daemon.authorization().names().to_vec();
    let mut info = encode(&info)?;
    adapt_info(call.version, &mut info);
    Answer::json(&info)
}

/// `since` or `until`: empty for none.
pub(super) fn time_parameter(call: &Call, key: &str) -> Result<Option<Timestamp>, Failure> {
    match call.query.get(key) {
        "" => Ok(None),
        text => hull_api::time::parse_timestamp(text, Timestamp::now())
            .map(Some)
            .map_err(|why| Failure::invalid(format!("invalid value for {key:?}: {why}"))),
    }
}

const JSON_SEQUENCE: &str = "application/json-seq";

/// What events are sent as: the first that the client names, else JSON lines, which up to 1.51 were called JSON.
fn events_type(version: Version, accept: &str) -> &'static str {
    let known = ["application/jsonl", "application/x-ndjson", JSON_SEQUENCE];
    let named = accept.split(',').find_map(|one| {
        let essence = one.split(';').next().unwrap_or_default().trim();
        known
            .into_iter()
            .find(|kind| kind.eq_ignore_ascii_case(essence))
    });
    named.unwrap_or(match version < Version::V1_52 {
        true => "application/json",
        false => known[0],
    })
}

pub(super) async fn events(call: Call) -> Outcome {
    let (since, until) = (
        time_parameter(&call, "since")?,
        time_parameter(&call, "until")?,
    );
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let (since, until) = (call.query.get("since"), call.query.get("until"));
        return Err(Failure::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let version = call.version;
    let events = call
        .daemon
        .engine
        .events
        .subscribe(since, until, call.query.filters()?)?;
    let shown = events.filter(move |event| {
        let shown = match event {
            Ok(event) => shows_event(version, event),
            Err(_) => true,
        };
        futures_util::future::ready(shown)
    });
    let media_type = events_type(version, call.header("accept"));
    let lines = shown.map(move |event| {
        let mut event = event.map_err(|e| e.message)?;
        adapt_event(version, &mut event);
        let line = json_line(&event, b"\n")?;
        Ok::<_, BoxError>(match media_type {
            // RFC 7464: a record separator before each document.
            JSON_SEQUENCE => [b"\x1e", &line[..]].concat().into(),
            _ => line,
        })
    });
    Answer::body(media_type, stream(lines))
}

pub(super) async fn disk_usage(call: Call) -> Outcome {
    let mut options = DiskUsageOptions::default();
    // Before 1.42 there was no such parameter.
    let kinds = call
        .query
        .all("type")
        .filter(|_| call.version >= Version::new(42));
    for kind in kinds {
        match kind {
            "image" => options.images = true,
            "container" => options.containers = true,
            "volume" => options.volumes = true,
            "build-cache" => options.build_cache = true,
            other => return Err(Failure::invalid(format!("unknown object type: {other}"))),
        }
    }
    let verbose = call.query.flag("verbose");
    Answer::json(
        &call
            .daemon
            .engine
            .system
            .disk_usage(options)
            .await?
            .render(call.version, verbose),
    )
}

pub(super) async fn auth(mut call: Call) -> Outcome {
    let auth: AuthConfig = call.json().await?;
    Answer::json(&call.daemon.engine.images.login(auth).await?)
}

/// `X-Registry-Auth`: base64 (URL-safe or not, padded or not) of JSON. As in Docker, what cannot be read counts as none.
pub(super) fn registry_auth(call: &Call) -> Option<AuthConfig> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let text = call.header("x-registry-auth").trim_end_matches('=');
    if text.is_empty() {
        return None;
    }
    let json = URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()?;
    let auth: AuthConfig = hull_api::json::from_slice(&json).ok()?;
    (auth != AuthConfig::default()).then_some(auth)
}

pub(super) fn required<'a>(call: &'a Call, key: &str) -> Result<&'a str, Failure> {
    match call.query.get(key) {
        "" => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            format!("bad parameter: {key} cannot be empty"),
        )),
        value => Ok(value),
    }
}
