//! A small HTTP server that lies, cuts, stalls and redirects as a test tells it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for.
    pub fn offset(&self) -> usize {
        let range = self
            .header("range")
            .and_then(|range| range.strip_prefix("bytes="));
        range
            .and_then(|range| range.trim_end_matches('-').parse().ok())
            .unwrap_or(0)
    }
}

/// What it gets.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut or goes silent.
    pub only: Option<usize>,
    /// Goes silent instead of cutting.
    pub silent: bool,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status: 200,
            body: body.into(),
            ..Answer::default()
        }
    }

    pub fn status(status: u16) -> Answer {
        Answer {
            status,
            ..Answer::default()
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Answer {
            body: body.into_bytes(),
            ..Answer::status(status)
        }
    }
}

/// A running server; it ends with the runtime of its test.
pub struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (asked.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), answer.clone()));
            }
        });
        Server { host, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// One connection; an error of the client's ends it.
async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked) -> Answer>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut asked = Asked {
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        let length = asked
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        asked.body.resize(length, 0);
        stream.read_exact(&mut asked.body).await?;
        seen.lock().unwrap().push(asked.clone());
        let reply = answer(&asked);
        let mut text = format!(
            "HTTP/1.1 {} Status\r\ncontent-length: {}\r\n",
            reply.status,
            reply.body.len()
        );
        for (name, value) in &reply.headers {
            text += &format!("{name}: {value}\r\n");
        }
        stream.write_all((text + "\r\n").as_bytes()).await?;
        if asked.method == "HEAD" {
            continue;
        }
        stream
            .write_all(&reply.body[..reply.only.unwrap_or(reply.body.len())])
            .await?;
        if reply.silent {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if reply.only.is_some() {
            return Ok(());
        }
    }
}

/// An image as a registry has it: its manifest and its blobs.
#[derive(Clone)]
pub struct Served {
    pub manifest: Vec<u8>,
    pub manifest_type: String,
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Served {
    pub fn new(image: &hull_testkit::image::Image) -> Served {
        let layout = hull_testkit::TempRoot::new("image");
        image.write_oci_layout(layout.path()).unwrap();
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let name = Path::file_name(&path)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            blobs.insert(format!("sha256:{name}"), std::fs::read(&path).unwrap());
        }
        let manifest = blobs[&image.manifest_digest()].clone();
        Served {
            manifest,
            manifest_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            blobs,
        }
    }

    /// The largest blob: the busybox layer.
    pub fn largest(&self) -> String {
        self.blobs
            .iter()
            .max_by_key(|(_, bytes)| bytes.len())
            .unwrap()
            .0
            .clone()
    }

    /// The layer of the manifest that has the most bytes.
    pub fn largest_layer(&self) -> String {
        let manifest: serde_json::Value = serde_json::from_slice(&self.manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let largest = layers
            .iter()
            .max_by_key(|layer| layer["size"].as_u64())
            .unwrap();
        largest["digest"].as_str().unwrap().to_owned()
    }

    /// Serves another manifest.
    pub fn set_manifest(&mut self, manifest: serde_json::Value) {
        self.manifest = manifest.to_string().into_bytes();
        let digest = hull_testkit::image::digest(&self.manifest);
        self.blobs.insert(digest, self.manifest.clone());
    }

    /// What an honest registry answers.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if asked.path.contains("/manifests/") {
            let bytes = if last.starts_with("sha256:") {
                self.blobs.get(last)
            } else {
                Some(&self.manifest)
            };
            let Some(bytes) = bytes else {
                return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
            };
            let digest = hull_testkit::image::digest(bytes);
            return Answer::ok(bytes.clone())
                .header("content-type", &self.manifest_type)
                .header("docker-content-digest", &digest);
        }
        let Some(blob) = self.blobs.get(last) else {
            return Answer::error(404, "BLOB_UNKNOWN", "blob unknown");
        };
        let offset = asked.offset();
        if offset == 0 {
            return Answer::ok(blob.clone());
        }
        let range = format!("bytes {offset}-{}/{}", blob.len() - 1, blob.len());
        Answer {
            status: 206,
            ..Answer::ok(blob[offset..].to_vec())
        }
        .header("content-range", &range)
    }
}
