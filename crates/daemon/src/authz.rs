//! Authorization plugins: each request, and each answer, is shown to every plugin, and one refusal is enough
//! (docs.docker.com/engine/extend/plugins_authorization).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hull_plugin::{Missing, Plugins};
use hyper::body::Body as _;
use serde::{Deserialize, Serialize};

use crate::http::answer::full;
use crate::http::call::text;
use crate::http::{Answer, Body, Failure, Outcome};

/// What such a plugin says it implements.
const INTERFACE: &str = "authz";
/// The longest body that plugins are shown.
const SHOWN_BODY_MAX: usize = 1 << 20;
/// How long a plugin may take.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The configured plugins, asked in their order.
pub struct Authorization {
    names: Vec<String>,
    plugins: Arc<Plugins>,
}

/// What a plugin is shown, in its protocol's words.
#[derive(Serialize, Clone)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    request_method: String,
    request_uri: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_body: String,
    request_headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status_code: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    response_body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    response_headers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Verdict {
    allow: bool,
    msg: String,
    err: String,
}

impl Authorization {
    /// Plugins by name; they are looked for when the first request comes.
    pub fn new(names: &[String], plugins: Arc<Plugins>) -> Self {
        Self {
            names: names.to_owned(),
            plugins,
        }
    }

    /// Is there no plugin?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their names, in the order in which they are asked.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Shows a request to the plugins; gives its body back, and what to show with the answer.
    ///
    /// # Errors
    /// 403 where a plugin refuses, 500 where one fails.
    pub async fn request(&self, head: &Parts, body: Body) -> Result<(Body, Shown), Failure> {
        let json = text(&head.headers, "content-type").starts_with("application/json");
        let small = body
            .size_hint()
            .exact()
            .is_some_and(|len| len <= SHOWN_BODY_MAX as u64);
        let (shown_body, body) = show(body, json && small).await?;
        let shown = Shown {
            request_method: head.method.to_string(),
            request_uri: head.uri.to_string(),
            request_body: shown_body,
            request_headers: headers(&head.headers),
            response_status_code: None,
            response_body: String::new(),
            response_headers: BTreeMap::new(),
        };
        self.ask("AuthZPlugin.AuthZReq", &shown).await?;
        Ok((body, shown))
    }

    /// Shows an answer; streams and hijacked connections are shown without their bytes.
    ///
    /// # Errors
    /// As [`Authorization::request`].
    pub async fn answer(&self, mut shown: Shown, outcome: Outcome) -> Outcome {
        let (response, rest) = match outcome {
            Ok(Answer::Plain(response)) => (response, None),
            Ok(other) => (Response::new(crate::http::answer::empty()), Some(other)),
            Err(failure) => (failure.response(), None),
        };
        let (head, body) = response.into_parts();
        let small = body
            .size_hint()
            .exact()
            .is_some_and(|len| len <= SHOWN_BODY_MAX as u64);
        let (shown_body, body) = show(body, small).await?;
        shown.response_status_code = Some(head.status.as_u16());
        shown.response_headers = headers(&head.headers);
        shown.response_body = shown_body;
        self.ask("AuthZPlugin.AuthZRes", &shown).await?;
        Ok(rest.unwrap_or(Answer::Plain(Response::from_parts(head, body))))
    }

    async fn ask(&self, method: &str, shown: &Shown) -> Result<(), Failure> {
        for name in &self.names {
            let failed = |why: String| {
                let message = format!("plugin {name} failed with error: {why}");
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            };
            let verdict = self.verdict(name, method, shown).await.map_err(failed)?;
            if !verdict.err.is_empty() {
                return Err(failed(verdict.err));
            }
            if !verdict.allow {
                let message = format!("authorization denied by plugin {name}: {}", verdict.msg);
                return Err(Failure::new(StatusCode::FORBIDDEN, message));
            }
        }
        Ok(())
    }

    async fn verdict(&self, name: &str, method: &str, shown: &Shown) -> Result<Verdict, String> {
        let said = |error: hull_plugin::Error| error.to_string();
        let plugin = self.plugins.get(name, INTERFACE, Missing::Fails).await;
        let body = serde_json::to_vec(shown).map_err(|e| e.to_string())?;
        let answer = plugin
            .map_err(said)?
            .call(method, body, PLUGIN_TIMEOUT)
            .await
            .map_err(said)?;
        hull_api::json::from_slice(&answer).map_err(|e| e.to_string())
    }
}

/// A body as base64 where it is to be shown, and the body itself.
async fn show(body: Body, shown: bool) -> Result<(String, Body), Failure> {
    use base64::Engine;
    if !shown {
        return Ok((String::new(), body));
    }
    let bytes = crate::http::call::read_all(body, SHOWN_BODY_MAX).await?;
    Ok((
        base64::engine::general_purpose::STANDARD.encode(&bytes),
        full(bytes),
    ))
}

/// Headers as a plugin is shown them: without registry credentials, as in dockerd.
fn headers(map: &HeaderMap) -> BTreeMap<String, String> {
    map.iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-registry-auth" | "x-registry-config"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A plugin that allows GET only.
    async fn plugin(socket: std::path::PathBuf) {
        let listener = UnixListener::bind(socket).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let answer = if request.contains("/Plugin.Activate") {
                r#"{"Implements":["authz"]}"#
            } else if request.contains("\"RequestMethod\":\"GET\"") {
                r#"{"Allow":true}"#
            } else {
                r#"{"Allow":false,"Msg":"only reading"}"#
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.len()
            );
            stream.write_all((head + answer).as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_refusal_is_403_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("p.sock");
        tokio::spawn(plugin(socket.clone()));
        tokio::task::yield_now().await;
        let plugins = Plugins::new(hull_plugin::Options {
            directories: hull_plugin::Directories::at(dir.path()),
            ..hull_plugin::Options::default()
        });
        let authorization = Authorization::new(&["p".to_owned()], Arc::new(plugins));
        let ask = async |method: &str| {
            let (head, ()) = Request::builder()
                .method(method)
                .uri("/info")
                .body(())
                .unwrap()
                .into_parts();
            authorization
                .request(&head, crate::http::answer::empty())
                .await
                .map(|_| ())
                .map_err(|f| (f.status.as_u16(), f.message))
        };
        assert_eq!(ask("GET").await, Ok(()));
        assert_eq!(
            ask("POST").await,
            Err((
                403,
                "authorization denied by plugin p: only reading".to_owned()
            ))
        );
    }

    #[tokio::test]
    async fn an_unknown_plugin_refuses_everything() {
        let names = ["hull-test-no-such-plugin".to_owned()];
        let authorization = Authorization::new(&names, Arc::default());
        let (head, ()) = Request::get("/info").body(()).unwrap().into_parts();
        let refused = authorization
            .request(&head, crate::http::answer::empty())
            .await
            .err()
            .unwrap();
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.message.contains("not found"), "{}", refused.message);
    }
}
