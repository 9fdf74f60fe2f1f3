//! Authorization plugins: each request, and each answer, is shown to every plugin, and one refusal is enough
//! (docs.docker.com/engine/extend/plugins_authorization). A plugin is found by name as dockerd finds it: a socket in
//! `/run/docker/plugins`, or a `.spec` file with its address.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;

use crate::http::answer::full;
use crate::http::call::text;
use crate::http::{Answer, Body, Failure, Outcome};

/// Where plugins put their sockets.
const SOCKET_DIRECTORY: &str = "/run/docker/plugins";
/// Where files with plugins' addresses are.
const SPEC_DIRECTORIES: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];
/// The longest body that plugins are shown.
const SHOWN_BODY_MAX: usize = 1 << 20;
/// The longest answer of a plugin.
const ANSWER_MAX: usize = 1 << 20;
/// How long a plugin may take.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(30);
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// The configured plugins, asked in their order.
pub struct Authorization {
    plugins: Vec<Plugin>,
}

struct Plugin {
    name: String,
    activated: OnceCell<Address>,
}

enum Address {
    Unix(String),
    Tcp(String),
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
    pub fn new(names: &[String]) -> Self {
        let plugin = |name: &String| Plugin {
            name: name.clone(),
            activated: OnceCell::new(),
        };
        Self {
            plugins: names.iter().map(plugin).collect(),
        }
    }

    /// Is there no plugin?
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
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
        self.ask("/AuthZPlugin.AuthZReq", &shown).await?;
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
        self.ask("/AuthZPlugin.AuthZRes", &shown).await?;
        Ok(rest.unwrap_or(Answer::Plain(Response::from_parts(head, body))))
    }

    async fn ask(&self, path: &str, shown: &Shown) -> Result<(), Failure> {
        for plugin in &self.plugins {
            let failed = |why: String| {
                let message = format!("plugin {} failed with error: {why}", plugin.name);
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            };
            let address = plugin
                .activated
                .get_or_try_init(|| activate(&plugin.name))
                .await
                .map_err(failed)?;
            let body = serde_json::to_vec(shown).map_err(|e| failed(e.to_string()))?;
            let answer = call(address, path, body).await.map_err(failed)?;
            let verdict: Verdict =
                hull_api::json::from_slice(&answer).map_err(|e| failed(e.to_string()))?;
            if !verdict.err.is_empty() {
                return Err(failed(verdict.err));
            }
            if !verdict.allow {
                let message = format!(
                    "authorization denied by plugin {}: {}",
                    plugin.name, verdict.msg
                );
                return Err(Failure::new(StatusCode::FORBIDDEN, message));
            }
        }
        Ok(())
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

/// Finds a plugin and asks whether it authorizes.
async fn activate(name: &str) -> Result<Address, String> {
    let address = locate(name)?;
    let answer = call(&address, "/Plugin.Activate", Vec::new()).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|e| format!("activate: {e}"))?;
    let implements = answer.get("Implements").and_then(Value::as_array);
    match implements.is_some_and(|list| list.iter().any(|item| item == "authz")) {
        true => Ok(address),
        false => Err("the plugin does not implement authz".to_owned()),
    }
}

fn locate(name: &str) -> Result<Address, String> {
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(format!("invalid plugin name {name:?}"));
    }
    for path in [
        format!("{SOCKET_DIRECTORY}/{name}.sock"),
        format!("{SOCKET_DIRECTORY}/{name}/{name}.sock"),
    ] {
        if Path::new(&path).exists() {
            return Ok(Address::Unix(path));
        }
    }
    for directory in SPEC_DIRECTORIES {
        let Ok(spec) = std::fs::read_to_string(format!("{directory}/{name}.spec")) else {
            continue;
        };
        return match spec.trim().split_once("://") {
            Some(("unix", path)) => Ok(Address::Unix(path.to_owned())),
            Some(("tcp", address)) => Ok(Address::Tcp(address.trim_end_matches('/').to_owned())),
            _ => Err(format!("unsupported address {:?}", spec.trim())),
        };
    }
    Err(format!("plugin {name:?} not found"))
}

async fn call(address: &Address, path: &str, body: Vec<u8>) -> Result<Bytes, String> {
    let exchange = async {
        match address {
            Address::Unix(socket) => {
                let stream = UnixStream::connect(socket)
                    .await
                    .map_err(|e| format!("connect {socket}: {e}"))?;
                exchange(stream, path, body).await
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect(host)
                    .await
                    .map_err(|e| format!("connect {host}: {e}"))?;
                exchange(stream, path, body).await
            }
        }
    };
    match tokio::time::timeout(PLUGIN_TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "{path}: no answer in {} s",
            PLUGIN_TIMEOUT.as_secs()
        )),
    }
}

async fn exchange<S: crate::http::io::Stream>(
    stream: S,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, String> {
    let said = |e: hyper::Error| format!("{path}: {e}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    let driver = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", "plugin")
        .header("content-type", MEDIA_TYPE)
        .header("accept", MEDIA_TYPE)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| format!("{path}: {e}"))?;
    let response = sender.send_request(request).await.map_err(said)?;
    let status = response.status();
    let read = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await;
    driver.abort();
    let bytes = read.map_err(|e| format!("{path}: {e}"))?.to_bytes();
    match status.is_success() {
        true => Ok(bytes),
        false => Err(format!(
            "{path}: status {status}: {}",
            String::from_utf8_lossy(&bytes)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A plugin that allows GET only.
    async fn plugin(socket: std::path::PathBuf) {
        let listener = UnixListener::bind(socket).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let answer = match request.contains("\"RequestMethod\":\"GET\"") {
                true => r#"{"Allow":true}"#,
                false => r#"{"Allow":false,"Msg":"only reading"}"#,
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
        let authorization = Authorization::new(&["p".to_owned()]);
        let address = Address::Unix(socket.display().to_string());
        assert!(authorization.plugins[0].activated.set(address).is_ok());
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
        let authorization = Authorization::new(&["hull-test-no-such-plugin".to_owned()]);
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
