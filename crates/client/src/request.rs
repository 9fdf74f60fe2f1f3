//! Requests: the version in the path, connections kept and used again, answers checked.

use crate::body::Answer;
use crate::connection::{self, Stream};
use crate::endpoint::Endpoint;
use crate::{API_VERSION_MAX, API_VERSION_MIN, Error, Query};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Idle connections that are kept.
const IDLE_MAX: usize = 4;

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    host: String,
    headers: HeaderMap,
    /// Version in the paths, once it is known that the daemon speaks it.
    version: OnceLock<String>,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// A connection that the daemon handed over: raw bytes both ways.
#[derive(Debug)]
pub struct Hijacked {
    /// The bytes. Shutdown is the half-close of our input.
    pub io: TokioIo<hyper::upgrade::Upgraded>,
    /// `application/vnd.docker.multiplexed-stream` or `..raw-stream`, where the daemon says it.
    pub content_type: Option<String>,
}

/// The sending end of a request body that is produced piece by piece; dropping it ends the body.
pub type Upload = mpsc::Sender<io::Result<Bytes>>;

impl Client {
    /// A client for `endpoint`; `host` is how the user writes it. `version` fixes the API version.
    pub fn new(
        endpoint: Endpoint,
        host: &str,
        version: Option<String>,
        headers: &[(String, String)],
    ) -> Client {
        let mut map = HeaderMap::new();
        map.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!(
                "Docker-Client/hull-",
                env!("CARGO_PKG_VERSION"),
                " (linux)"
            )),
        );
        map.insert(header::HOST, HeaderValue::from_static("docker"));
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                map.insert(name, value);
            }
        }
        if let Endpoint::Tcp { address, .. } = &endpoint
            && let Ok(value) = HeaderValue::try_from(address)
        {
            map.insert(header::HOST, value);
        }
        let fixed = OnceLock::new();
        if let Some(version) = version {
            let _ = fixed.set(version);
        }
        Client {
            endpoint,
            host: host.to_owned(),
            headers: map,
            version: fixed,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The host as the user writes it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The version in the paths of requests.
    pub fn version(&self) -> &str {
        self.version.get().map_or(API_VERSION_MAX, String::as_str)
    }

    /// A raw connection to the daemon, for `dial-stdio`.
    pub async fn dial(&self) -> Result<Stream, Error> {
        connection::connect(&self.endpoint, &self.host).await
    }

    /// `GET /_ping`: the answer's headers say version, OS and builder. Settles the version to be used.
    pub async fn ping(&self) -> Result<HeaderMap, Error> {
        let answer = self
            .exchange(Method::GET, "/_ping", HeaderMap::new(), empty())
            .await?;
        let headers = answer.headers().clone();
        let theirs = headers
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .unwrap_or(API_VERSION_MIN);
        let _ = self.version.set(if older(theirs, API_VERSION_MAX) {
            theirs.to_owned()
        } else {
            API_VERSION_MAX.to_owned()
        });
        Ok(headers)
    }

    /// A request with an optional JSON body; the answer's status is checked.
    ///
    /// The newest version is tried without asking first: only a daemon that finds it too new costs a second request.
    pub async fn request(
        &self,
        method: Method,
        path: &Query,
        body: Option<Bytes>,
        headers: HeaderMap,
    ) -> Result<Answer, Error> {
        let mut headers = headers;
        if body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        let send = |version: String| {
            let path = format!("/v{version}{}", path.as_str());
            let body = body.clone();
            let (method, headers) = (method.clone(), headers.clone());
            async move {
                let response = self
                    .exchange(method, &path, headers, body.map_or_else(empty, full))
                    .await?;
                check(response).await
            }
        };
        // The refusal of a version is told in a body, which HEAD has not.
        if method == Method::HEAD && self.version.get().is_none() {
            self.ping().await?;
        }
        let known = self.version.get().is_some();
        let answer = match send(self.version().to_owned()).await {
            Err(Error::Api {
                status: 400,
                message,
            }) if !known && message.contains("is too new") => {
                self.ping().await?;
                send(self.version().to_owned()).await?
            }
            answer => answer?,
        };
        let _ = self.version.set(self.version().to_owned());
        Ok(answer)
    }

    /// `GET` with a JSON answer.
    pub async fn get<T: DeserializeOwned>(&self, path: impl Into<Query>) -> Result<T, Error> {
        let mut answer = self
            .request(Method::GET, &path.into(), None, HeaderMap::new())
            .await?;
        decode(&answer.bytes().await?)
    }

    /// `GET` with the answer's text as it came (`inspect` shows it unchanged).
    pub async fn get_raw(&self, path: impl Into<Query>) -> Result<String, Error> {
        let mut answer = self
            .request(Method::GET, &path.into(), None, HeaderMap::new())
            .await?;
        String::from_utf8(answer.bytes().await?.to_vec())
            .map_err(|error| Error::Answer(error.to_string()))
    }

    /// `GET` whose answer is read as it comes.
    pub async fn get_stream(&self, path: impl Into<Query>) -> Result<Answer, Error> {
        self.request(Method::GET, &path.into(), None, HeaderMap::new())
            .await
    }

    /// `POST` without a body; the answer is read to its end and dropped.
    pub async fn post(&self, path: impl Into<Query>) -> Result<u16, Error> {
        let mut answer = self
            .request(Method::POST, &path.into(), None, HeaderMap::new())
            .await?;
        answer.bytes().await?;
        Ok(answer.status)
    }

    /// `POST` of a JSON body with a JSON answer.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: impl Into<Query>,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let mut answer = self
            .request(
                Method::POST,
                &path.into(),
                Some(encode(body)?),
                HeaderMap::new(),
            )
            .await?;
        decode(&answer.bytes().await?)
    }

    /// `DELETE` with the answer's bytes, which may be none.
    pub async fn delete(&self, path: impl Into<Query>) -> Result<Bytes, Error> {
        let mut answer = self
            .request(Method::DELETE, &path.into(), None, HeaderMap::new())
            .await?;
        answer.bytes().await
    }

    /// A request whose body comes from the returned sender while the answer is awaited.
    pub async fn upload(
        &self,
        method: Method,
        path: &Query,
        headers: HeaderMap,
        mut body: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<Answer, Error> {
        if self.version.get().is_none() {
            self.ping().await?;
        }
        let stream = futures_util::stream::poll_fn(move |cx| {
            body.poll_recv(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data)))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(stream));
        let path = format!("/v{}{}", self.version(), path.as_str());
        check(self.exchange(method, &path, headers, body).await?).await
    }

    /// `POST` that turns the connection into a raw stream (attach, exec start).
    pub async fn hijack(
        &self,
        path: impl Into<Query>,
        body: Option<Bytes>,
    ) -> Result<Hijacked, Error> {
        if self.version.get().is_none() {
            self.ping().await?;
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        if body.is_some() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        let path = format!("/v{}{}", self.version(), path.into().as_str());
        let mut sender = self.sender().await?;
        let request = self.build(Method::POST, &path, headers, body.map_or_else(empty, full))?;
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            check(response).await?;
            return Err(Error::Answer(
                "unable to upgrade to tcp, received 200".into(),
            ));
        }
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let io = TokioIo::new(hyper::upgrade::on(response).await?);
        Ok(Hijacked { io, content_type })
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Request<Body>, Error> {
        let prefix = match &self.endpoint {
            Endpoint::Tcp { path, .. } => path.as_str(),
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => "",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .body(body)
            .map_err(|error| Error::Answer(error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(headers);
        Ok(request)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<http::Response<Incoming>, Error> {
        let mut sender = self.sender().await?;
        let response = sender
            .send_request(self.build(method, path, headers, body)?)
            .await?;
        // Not yet ready for the next request: `sender` waits for the end of this body before it takes the connection again.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        }
        Ok(response)
    }

    /// An idle connection whose last answer is finished, or a new one.
    async fn sender(&self) -> Result<SendRequest<Body>, Error> {
        // A connection whose answer was just read learns of its end when its task runs.
        tokio::task::yield_now().await;
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|sender| !sender.is_closed());
            if let Some(at) = idle.iter().position(SendRequest::is_ready) {
                return Ok(idle.swap_remove(at));
            }
        }
        let stream = connection::connect(&self.endpoint, &self.host).await?;
        let (sender, connection) = Builder::new()
            .handshake::<_, Body>(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            // The request that was using the connection reports its failure.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }
}

fn empty() -> Body {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn encode(body: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Error::Answer(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Answer(error.to_string()))
}

/// Whether version `a` is below `b`.
fn older(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        text.split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0))
            .collect::<Vec<_>>()
    };
    parts(a) < parts(b)
}

async fn check(response: http::Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    let mut answer = Answer::new(response);
    if status.as_u16() < 400 {
        return Ok(answer);
    }
    let body = answer.bytes().await?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let message = match json
        .as_ref()
        .and_then(|json| json.get("message"))
        .and_then(serde_json::Value::as_str)
    {
        Some(message) => message.trim_end().to_owned(),
        None if body.is_empty() => format!(
            "request returned {status} for API route and version, check if the server supports the requested API version"
        ),
        None => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    Err(Error::Api {
        status: status.as_u16(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn versions() {
        assert!(older("1.40", "1.51") && !older("1.51", "1.51") && older("1.9", "1.40"));
    }

    /// A daemon that answers each request of one connection with the next text.
    async fn daemon(
        answers: Vec<&'static str>,
    ) -> (tempfile::TempDir, Client, tokio::task::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut seen, mut buffer) = (String::new(), [0; 4096]);
            for answer in answers {
                let count = stream.read(&mut buffer).await.unwrap();
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            seen
        });
        let client = Client::new(Endpoint::Unix(path.clone()), "unix:///x", None, &[]);
        (dir, client, served)
    }

    #[tokio::test]
    async fn one_connection_serves_requests_in_turn() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\":1}\n";
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{\"message\":\"no\"}\n";
        let (_dir, client, served) = daemon(vec![ok, gone]).await;
        let value: serde_json::Value = client.get("/x").await.unwrap();
        assert_eq!(value["a"], 1);
        // hyper learns on its next turn that the answer has ended.
        tokio::task::yield_now().await;
        let error = client
            .get::<serde_json::Value>(Query::segments(&["y z"]))
            .await
            .unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "Error response from daemon: no");
        let seen = served.await.unwrap();
        assert!(
            seen.contains("GET /v1.51/x HTTP/1.1") && seen.contains("GET /v1.51/y%20z HTTP/1.1"),
            "{seen}"
        );
    }

    #[tokio::test]
    async fn an_older_daemon_is_asked_again() {
        let old = "HTTP/1.1 400 Bad Request\r\nContent-Length: 104\r\n\r\n{\"message\":\"client version 1.51 is too new. Maximum supported API version is 1.41\",\"x\":\"0123456789012\"} ";
        let ping = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK";
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let (_dir, client, served) = daemon(vec![old, ping, ok]).await;
        let _: serde_json::Value = client.get("/x").await.unwrap();
        drop(client);
        let seen = served.await.unwrap_or_default();
        assert!(seen.contains("GET /v1.41/x"), "{seen}");
    }

    #[tokio::test]
    async fn nobody_there() {
        let client = Client::new(
            Endpoint::Unix("/nonexistent/sock".into()),
            "unix:///nonexistent/sock",
            None,
            &[],
        );
        let error = client.get::<serde_json::Value>("/x").await.unwrap_err();
        assert!(error.is_connect());
        assert_eq!(
            error.to_string(),
            "Cannot connect to the Docker daemon at unix:///nonexistent/sock. Is the docker daemon running? (start one with: hull daemon)"
        );
    }
}
