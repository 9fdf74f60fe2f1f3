//! Images made on the spot from Debian's `busybox-static`: byte for byte the same on every run.

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// When everything in a fixture was made: 2024-01-01T00:00:00Z.
pub const CREATED: &str = "2024-01-01T00:00:00Z";
const CREATED_UNIX_S: u64 = 1_704_067_200;

/// A tar archive under construction, with nothing of the machine or the moment in it.
#[derive(Debug, Default)]
pub struct Tar {
    entries: Vec<u8>,
}

/// What is beside the name and content of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Permission bits, with setuid and the like.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Attributes {
    /// Owned by root with these permission bits.
    pub fn mode(mode: u32) -> Attributes {
        Attributes {
            mode,
            uid: 0,
            gid: 0,
        }
    }
}

impl Tar {
    /// An empty archive.
    pub fn new() -> Tar {
        Tar::default()
    }

    /// Adds a directory (a name with or without `/` at its end).
    pub fn folder(self, path: &str, mode: u32) -> Tar {
        self.entry(
            tar::EntryType::Directory,
            path,
            "",
            &[],
            Attributes::mode(mode),
        )
    }

    /// Adds a regular file.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Tar {
        self.file_with(path, Attributes::mode(mode), content)
    }

    /// Adds a regular file with an owner.
    pub fn file_with(self, path: &str, attributes: Attributes, content: impl AsRef<[u8]>) -> Tar {
        self.entry(
            tar::EntryType::Regular,
            path,
            "",
            content.as_ref(),
            attributes,
        )
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(
            tar::EntryType::Symlink,
            path,
            target,
            &[],
            Attributes::mode(0o777),
        )
    }

    /// Adds a hard link to an entry added before.
    pub fn hardlink(self, path: &str, target: &str) -> Tar {
        self.entry(
            tar::EntryType::Link,
            path,
            target,
            &[],
            Attributes::mode(0o755),
        )
    }

    /// Adds a fifo.
    pub fn fifo(self, path: &str) -> Tar {
        self.entry(tar::EntryType::Fifo, path, "", &[], Attributes::mode(0o644))
    }

    /// Removes `path` of the layers below: an OCI whiteout.
    pub fn whiteout(self, path: &str) -> Tar {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let marker = if folder.is_empty() {
            format!(".wh.{name}")
        } else {
            format!("{folder}/.wh.{name}")
        };
        self.file(&marker, 0o644, "")
    }

    /// Hides everything that the layers below have in the directory `path`: an OCI opaque whiteout.
    pub fn opaque(self, path: &str) -> Tar {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// Adds any entry, hostile ones included: the names are written as they are given.
    pub fn entry(
        mut self,
        kind: tar::EntryType,
        path: &str,
        link: &str,
        content: &[u8],
        attributes: Attributes,
    ) -> Tar {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(u64::from(attributes.uid));
        header.set_gid(u64::from(attributes.gid));
        header.set_mtime(CREATED_UNIX_S);
        header.set_size(content.len() as u64);
        // Straight into the fields: the library's setters refuse "..", a leading "/" and other things that a test wants.
        let fields = header.as_gnu_mut().expect("made as a GNU header");
        put(&mut fields.name, path);
        put(&mut fields.linkname, link);
        header.set_cksum();
        self.entries.extend_from_slice(header.as_bytes());
        self.entries.extend_from_slice(content);
        self.entries
            .resize(self.entries.len().next_multiple_of(512), 0);
        self
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries.resize(self.entries.len() + 1024, 0);
        self.entries
    }
}

#[track_caller]
fn put(field: &mut [u8; 100], text: &str) {
    assert!(
        text.len() <= field.len(),
        "a fixture's path is longer than 100 bytes: {text}"
    );
    field[..text.len()].copy_from_slice(text.as_bytes());
}

/// The root file system of busybox as a layer: `/bin/busybox`, its commands as links, `/etc/passwd` and what programs expect to exist.
pub fn busybox_layer() -> Vec<u8> {
    let program =
        fs::read("/bin/busybox").expect("read /bin/busybox (Debian package busybox-static)");
    let mut tar = Tar::new();
    for (folder, mode) in [
        "bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/run",
    ]
    .map(|f| (f, 0o755))
    {
        tar = tar.folder(folder, mode);
    }
    tar = tar
        .folder("tmp", 0o1777)
        .file("bin/busybox", 0o755, program);
    for name in busybox_commands() {
        tar = tar.hardlink(&format!("bin/{name}"), "bin/busybox");
    }
    tar.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
        .file("etc/group", 0o644, "root:x:0:\ndaemon:x:1:\nusers:x:100:nobody\nnobody:x:65534:\n")
        .finish()
}

/// The commands that this busybox has, without itself.
pub fn busybox_commands() -> Vec<String> {
    let output = std::process::Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("run busybox --list");
    let names = String::from_utf8_lossy(&output.stdout);
    names
        .lines()
        .filter(|name| !name.is_empty() && *name != "busybox")
        .map(str::to_owned)
        .collect()
}

/// Lays the same files out in a directory.
///
/// The program itself is copied by another process: had this one written it, a child that another thread starts at that moment would
/// hold it open for writing until its own execve, and whoever executes it first would get ETXTBSY.
pub fn busybox_rootfs(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("bin"))?;
    let copied = std::process::Command::new("/bin/busybox")
        .args(["cp", "/bin/busybox"])
        .arg(folder.join("bin/busybox"))
        .status()?;
    if !copied.success() {
        return Err(io::Error::other("cp of /bin/busybox failed"));
    }
    let mut archive = tar::Archive::new(io::Cursor::new(busybox_layer()));
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() || entry.path()? != Path::new("bin/busybox") {
            entry.unpack_in(folder)?;
        }
    }
    Ok(())
}

/// An image: plain tar layers, lowest first, and the `config` object of its configuration.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name with tag, as archives record it.
    pub reference: String,
    /// Layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// `config` of the image configuration (`Cmd`, `Env`, ...).
    pub config: Value,
    /// As the image's configuration names it.
    pub architecture: String,
    /// Further members of the image's configuration, in place of those that it would have.
    pub members: serde_json::Map<String, Value>,
}

/// The bytes that name an image: blobs by their content.
struct Blobs {
    config: Vec<u8>,
    manifest: Vec<u8>,
    /// Compressed layers.
    layers: Vec<Vec<u8>>,
}

impl Image {
    /// An image without layers.
    pub fn new(reference: &str) -> Image {
        Image {
            reference: reference.to_owned(),
            layers: Vec::new(),
            config: json!({}),
            architecture: "amd64".to_owned(),
            members: serde_json::Map::new(),
        }
    }

    /// Busybox in one layer, with `sh` as its command.
    pub fn busybox(reference: &str) -> Image {
        Image::new(reference)
            .layer(busybox_layer())
            .config(json!({"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]}))
    }

    /// Busybox with two more layers that change, whiten out and make opaque: the final tree has `/data/new` = "2",
    /// `/data/kept` = "1", no `/data/gone`, and only `/opaque/after`.
    pub fn layered(reference: &str) -> Image {
        let first = Tar::new()
            .folder("data", 0o755)
            .file("data/kept", 0o644, "1")
            .file("data/gone", 0o644, "1")
            .file("data/new", 0o600, "1")
            .folder("opaque", 0o755)
            .file("opaque/before", 0o644, "1");
        let second = Tar::new()
            .folder("data", 0o700)
            .file_with(
                "data/new",
                Attributes {
                    mode: 0o4755,
                    uid: 1000,
                    gid: 100,
                },
                "2",
            )
            .whiteout("data/gone")
            .folder("opaque", 0o755)
            .opaque("opaque")
            .file("opaque/after", 0o644, "2");
        Image::busybox(reference)
            .layer(first.finish())
            .layer(second.finish())
    }

    /// Adds a layer on top.
    pub fn layer(mut self, tar: Vec<u8>) -> Image {
        self.layers.push(tar);
        self
    }

    /// Sets the `config` object.
    pub fn config(mut self, config: Value) -> Image {
        self.config = config;
        self
    }

    /// Says that it is for another processor than amd64.
    pub fn architecture(mut self, name: &str) -> Image {
        name.clone_into(&mut self.architecture);
        self
    }

    /// Sets a member of the image's configuration beside `config`: `author`, `history`, `created`, ...
    pub fn member(mut self, name: &str, value: Value) -> Image {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The image's configuration as it is stored; its digest is the image id.
    pub fn config_bytes(&self) -> Vec<u8> {
        let history: Vec<Value> = (0..self.layers.len())
            .map(|index| json!({"created": CREATED, "created_by": format!("layer {index}")}))
            .collect();
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let mut config = json!({
            "created": CREATED,
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        for (name, value) in &self.members {
            config[name.as_str()] = value.clone();
        }
        config.to_string().into_bytes()
    }

    /// The image id, `sha256:..`.
    pub fn id(&self) -> String {
        digest(&self.config_bytes())
    }

    fn blobs(&self) -> Blobs {
        let config = self.config_bytes();
        let layers: Vec<Vec<u8>> = self.layers.iter().map(|layer| gzip(layer)).collect();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(layer), "size": layer.len()}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
            "layers": descriptors,
        });
        Blobs {
            config,
            manifest: manifest.to_string().into_bytes(),
            layers,
        }
    }

    /// The digest of the OCI manifest.
    pub fn manifest_digest(&self) -> String {
        digest(&self.blobs().manifest)
    }

    /// Writes an OCI image layout into `folder`, with gzip layers and the tag as `org.opencontainers.image.ref.name`.
    pub fn write_oci_layout(&self, folder: &Path) -> io::Result<()> {
        let store = folder.join("blobs/sha256");
        fs::create_dir_all(&store)?;
        let blobs = self.blobs();
        for blob in blobs.layers.iter().chain([&blobs.config, &blobs.manifest]) {
            fs::write(store.join(hex(blob)), blob)?;
        }
        let tag = self
            .reference
            .rsplit_once(':')
            .map_or("latest", |(_, tag)| tag);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest(&blobs.manifest),
                "size": blobs.manifest.len(),
                "annotations": {"io.containerd.image.name": self.reference, "org.opencontainers.image.ref.name": tag},
            }],
        });
        fs::write(folder.join("index.json"), index.to_string())?;
        fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
    }

    /// The archive that `docker save` wrote before version 25 and every `docker load` reads.
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hex(&config));
        let layer_names: Vec<String> = self
            .layers
            .iter()
            .map(|layer| format!("{}/layer.tar", hex(layer)))
            .collect();
        let mut tar = Tar::new().file(&config_name, 0o644, &config);
        for (name, layer) in layer_names.iter().zip(&self.layers) {
            tar = tar
                .folder(name.trim_end_matches("/layer.tar"), 0o755)
                .file(name, 0o644, layer);
        }
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": layer_names}]);
        tar.file("manifest.json", 0o644, manifest.to_string())
            .finish()
    }

    /// Writes [`Image::docker_archive`] to a file.
    pub fn write_docker_archive(&self, path: &Path) -> io::Result<()> {
        fs::write(path, self.docker_archive())
    }
}

/// gzip without a time in its header.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::fast());
    writer
        .write_all(bytes)
        .and_then(|()| writer.finish())
        .expect("compress into memory")
}

/// `sha256:<hex>` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// The SHA-256 of bytes, in lower hex.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_the_same_every_time() {
        let image = Image::layered("hull.test/layered:1");
        assert_eq!(
            image.docker_archive(),
            Image::layered("hull.test/layered:1").docker_archive()
        );
        assert_eq!(image.layers.len(), 3);
    }

    #[test]
    fn rootfs_runs() {
        let root = crate::TempRoot::new("hull-rootfs");
        busybox_rootfs(root.path()).expect("unpack busybox");
        let output = std::process::Command::new(root.join("bin/echo"))
            .arg("hello")
            .output()
            .expect("run echo");
        assert_eq!(output.stdout, b"hello\n");
    }

    #[test]
    fn others_read_the_layout_and_the_archive() {
        let Some(skopeo) = crate::skips::program("skopeo") else {
            crate::skip!("skopeo is not installed");
            return;
        };
        let root = crate::TempRoot::new("hull-image");
        let image = Image::layered("hull.test/layered:1");
        image
            .write_oci_layout(&root.folder("layout"))
            .expect("write the layout");
        image
            .write_docker_archive(&root.join("image.tar"))
            .expect("write the archive");
        for source in ["oci:layout:1", "docker-archive:image.tar"] {
            let mut command = std::process::Command::new(&skopeo);
            command
                .args(["inspect", "--config", "--raw", source])
                .current_dir(root.path());
            let output = crate::process::run(&mut command, std::time::Duration::from_secs(60))
                .expect("run skopeo");
            assert_eq!(digest(output.ok().as_bytes()), image.id(), "{source}");
        }
    }
}
