//! Tools of the image tests: a service on a throwaway root, and what it holds.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hull_image::{Image, Images, ImagesOptions, Progress, ProgressSink, RegistryConfig};
use hull_oci::Reference;
use hull_state::Db;
use hull_store::content::Content;
use hull_store::layer::tar::{Entry, Reader};
use hull_store::snapshot;
use hull_testkit::TempRoot;

/// An image service with its own data root.
pub struct Store {
    pub temp: TempRoot,
    pub images: Images,
    pub db: Db,
    pub content: Content,
    pub snapshotter: Arc<dyn snapshot::Snapshotter>,
}

/// Short waits, so that tests of failures take no longer than they must.
pub fn quick() -> RegistryConfig {
    RegistryConfig {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(2),
        retry_delay: Duration::from_millis(20),
        ..RegistryConfig::default()
    }
}

impl Store {
    pub fn new() -> Self {
        Self::with(quick())
    }

    pub fn with(registries: RegistryConfig) -> Self {
        Self::at(TempRoot::new("image"), registries)
    }

    pub fn at(temp: TempRoot, registries: RegistryConfig) -> Self {
        let db = Db::open(temp.join("state.db")).unwrap();
        let content = Content::open(temp.join("blobs")).unwrap();
        let snapshotter = snapshot::open(None, &[], &temp.join("snapshots"), db.clone()).unwrap();
        let options = ImagesOptions {
            registries,
            ..ImagesOptions::new(db.clone(), content.clone(), snapshotter.clone())
        };
        let images = Images::new(options).unwrap();
        Store {
            temp,
            images,
            db,
            content,
            snapshotter,
        }
    }

    /// Closes everything and opens it again, as a restart does.
    pub fn reopen(self) -> Self {
        let Store {
            temp,
            images,
            db,
            content,
            snapshotter,
        } = self;
        drop((images, db, content, snapshotter));
        Self::at(temp, quick())
    }

    /// The directory of the image's uppermost layer.
    pub fn top_layer(&self, image: &Image) -> std::path::PathBuf {
        self.snapshotter
            .upper_dir(&image.chain_id.clone().unwrap().to_string())
            .unwrap()
            .to_path_buf()
    }

    /// Nothing may be left but what the rows name, to the byte, and what a further pull goes on with.
    pub fn assert_tidy(&self) {
        let rows = self.db.read(hull_state::content::list).unwrap();
        let mut known: Vec<(String, u64)> = rows
            .into_iter()
            .map(|blob| (blob.digest, blob.size))
            .collect();
        let mut files: Vec<(String, u64)> = self
            .content
            .walk()
            .unwrap()
            .iter()
            .map(|blob| (blob.digest.to_string(), blob.size))
            .collect();
        known.sort();
        files.sort();
        assert_eq!(files, known, "blobs and their rows");
        let blobs = known.iter().map(|(_, size)| size).sum::<u64>();
        let partial = self.content.partial_bytes().unwrap();
        assert_eq!(
            bytes_below(&self.temp.join("blobs")),
            blobs + partial,
            "bytes of blobs"
        );
        for layer in self.db.read(hull_state::layers::list).unwrap() {
            let usage = self.snapshotter.usage(&layer.snapshot_key).unwrap();
            assert_eq!(usage.bytes, layer.size, "bytes of {}", layer.chain_id);
            let files = self.snapshotter.upper_dir(&layer.snapshot_key).unwrap();
            assert_eq!(bytes_below(&files), layer.size, "{}", layer.chain_id);
        }
        let staged = self
            .snapshotter
            .walk()
            .unwrap()
            .into_iter()
            .filter(|info| info.key.starts_with("stage-"))
            .count();
        assert_eq!(staged, 0, "half-unpacked layers");
        let dirs = std::fs::read_dir(self.temp.join("snapshots").join(self.snapshotter.name()))
            .unwrap()
            .count();
        assert_eq!(
            dirs,
            self.snapshotter.walk().unwrap().len(),
            "snapshot directories"
        );
    }
}

/// The lengths of all regular files below a directory, a file with several names once.
fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut files = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.is_file() {
                files.insert(metadata.ino(), metadata.len());
            }
        }
    }
    files.values().sum()
}

/// The service on a root that somebody else looks after.
pub fn open(root: &Path, registries: RegistryConfig) -> (Images, Arc<dyn snapshot::Snapshotter>) {
    let db = Db::open(root.join("state.db")).unwrap();
    let content = Content::open(root.join("blobs")).unwrap();
    let snapshots = snapshot::open(None, &[], &root.join("snapshots"), db.clone()).unwrap();
    let options = ImagesOptions {
        registries,
        ..ImagesOptions::new(db, content, snapshots.clone())
    };
    (Images::new(options).unwrap(), snapshots)
}

pub fn reference(text: &str) -> Reference {
    Reference::parse_normalized(text).unwrap()
}

/// Runs an operation and returns its outcome with the lines of progress.
pub async fn watched<T>(run: impl AsyncFnOnce(ProgressSink) -> T) -> (T, Vec<Progress>) {
    let (sink, mut receiver) = ProgressSink::channel(64);
    let collect = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    });
    let outcome = run(sink).await;
    (outcome, collect.await.unwrap())
}

/// The words of progress without counters.
pub fn words(lines: &[Progress]) -> Vec<String> {
    let states = lines.iter().filter(|line| line.current.is_none());
    states
        .map(|line| {
            line.id
                .iter()
                .map(|id| format!("{id}: "))
                .collect::<String>()
                + &line.status
        })
        .collect()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The files of a saved archive; its index, and every manifest and blob below, are in it and have their digests.
pub fn check_blobs(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut reader = Reader::new(std::io::BufReader::new(archive));
    let mut entry = Entry::default();
    while reader.next(&mut entry).unwrap() {
        let mut bytes = Vec::new();
        loop {
            let chunk = reader.chunk().unwrap();
            if chunk.is_empty() {
                break;
            }
            let count = chunk.len();
            bytes.extend_from_slice(chunk);
            reader.consume(count);
        }
        files.insert(String::from_utf8(entry.path.clone()).unwrap(), bytes);
    }
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let blob = |descriptor: &serde_json::Value| {
        let name = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", name.replace(':', "/"))];
        assert_eq!(hull_testkit::image::digest(bytes), name);
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
        bytes.clone()
    };
    for entry in index["manifests"].as_array().unwrap() {
        let manifest: serde_json::Value = serde_json::from_slice(&blob(entry)).unwrap();
        blob(&manifest["config"]);
        for layer in manifest["layers"].as_array().unwrap() {
            blob(layer);
        }
    }
    files
}
