//! A plain HTTP/1.1 client: what goes over the wire is what the test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hull_oci::Digest;

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status and the first error's code, as `404 BLOB_UNKNOWN`.
    pub fn error(&self) -> String {
        let code = self.json()["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        format!("{} {code}", self.status)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// A server's address.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub port: u16,
}

impl Client {
    pub fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("timeout");
        stream
    }

    /// One request on a connection of its own.
    pub fn send(self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let chunked = headers.iter().any(|(name, _)| *name == "Transfer-Encoding");
        let has_length = headers.iter().any(|(name, _)| *name == "Content-Length");
        if !chunked
            && !has_length
            && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH"))
        {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("send head");
        // A server that refuses early may hang up while the body is being sent.
        let _ = stream.write_all(body);
        read_response(&mut BufReader::new(stream), method)
    }

    pub fn get(self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    /// Pushes a blob by POST and PUT; its digest.
    pub fn push_blob(self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256_of(bytes);
        let location = self.start(name);
        let created = self
            .send("PUT", &format!("{location}?digest={digest}"), &[], bytes)
            .expect(201);
        assert_eq!(created.header("docker-content-digest"), digest.to_string());
        digest
    }

    /// Begins an upload; its location.
    pub fn start(self, name: &str) -> String {
        let begun = self
            .send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"")
            .expect(202);
        begun.header("location").to_owned()
    }

    /// Pushes an image of one layer; the manifest's digest and bytes.
    pub fn push_image(self, name: &str, tag: &str, layer: &[u8]) -> (Digest, String) {
        let layer = (self.push_blob(name, layer), layer.len());
        let config = self.push_blob(name, b"{}");
        let manifest = manifest(&config, 2, &[layer]);
        let path = format!("/v2/{name}/manifests/{tag}");
        let pushed = self
            .send(
                "PUT",
                &path,
                &[("Content-Type", MANIFEST)],
                manifest.as_bytes(),
            )
            .expect(201);
        (
            pushed
                .header("docker-content-digest")
                .parse()
                .expect("digest"),
            manifest,
        )
    }
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest's bytes.
pub fn manifest(config: &Digest, config_len: usize, layers: &[(Digest, usize)]) -> String {
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, len)| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": len})
        })
        .collect();
    serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_len},
        "layers": layers,
    })
    .to_string()
}

/// Reads a response; `panic`s when the server hangs up without one.
pub fn read_response(reader: &mut BufReader<TcpStream>, method: &str) -> Response {
    try_read_response(reader, method).expect("a response")
}

/// Reads a response; nothing when the connection ends before it does.
pub fn try_read_response(reader: &mut BufReader<TcpStream>, method: &str) -> Option<Response> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if method == "HEAD" || status == 204 || status == 304 {
        return Some(response);
    }
    if response.header("transfer-encoding") == "chunked" {
        reader.read_to_end(&mut response.body).ok()?;
        return Some(response);
    }
    let len: usize = response.header("content-length").parse().ok()?;
    response.body = vec![0; len];
    reader.read_exact(&mut response.body).ok()?;
    Some(response)
}
