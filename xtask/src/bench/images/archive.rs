//! The images that are measured, as Docker archives: made of nothing but a seed, so every run has the same.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// A small generator (xorshift64*), for content that is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Half of it words that come again and again, half of it noise: gzip makes about 0.6 of it, as of programs.
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let value = self.next();
            let bytes = if value & 1 == 0 {
                value.to_le_bytes()
            } else {
                (value >> 1 & 0xff)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_le_bytes()
            };
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// What one layer holds.
#[derive(Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub files: usize,
    pub bytes: usize,
}

/// 1 GiB in 8 layers.
pub const LARGE: Shape = Shape {
    layers: 8,
    files: 32,
    bytes: 4 << 20,
};

/// 50 000 files in 5 layers.
pub const MANY: Shape = Shape {
    layers: 5,
    files: 10_000,
    bytes: 1024,
};

impl Shape {
    /// The same with fewer files.
    pub fn divided(self, by: usize) -> Shape {
        Shape {
            files: (self.files / by.max(1)).max(1),
            ..self
        }
    }

    /// Bytes of its files.
    pub fn size(self) -> u64 {
        (self.layers * self.files * self.bytes) as u64
    }
}

/// Writes the Docker archive of an image called `name`.
pub fn docker_archive(work: &Path, name: &str, shape: Shape) -> Result<PathBuf> {
    let folder = work.join(format!("make-{name}"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for number in 0..shape.layers {
        let tree = folder.join("tree");
        let mut buffer = vec![0; shape.bytes];
        for index in 0..shape.files {
            let dir = tree.join(format!("layer{number}/{}", index / 100));
            if index % 100 == 0 {
                fs::create_dir_all(&dir)?;
            }
            random.fill(&mut buffer);
            File::create(dir.join(format!("file{index}")))?.write_all(&buffer)?;
        }
        let layer = format!("layer{number}.tar");
        shell::output(
            Command::new("tar")
                .args([
                    "--sort=name",
                    "--owner=0",
                    "--group=0",
                    "--mtime=@1700000000",
                ])
                .arg("-C")
                .arg(&tree)
                .arg("-cf")
                .arg(folder.join(&layer))
                .arg("."),
        )?;
        fs::remove_dir_all(&tree)?;
        let digest = shell::output(Command::new("sha256sum").arg(folder.join(&layer)))?;
        let hex = digest.split_whitespace().next().unwrap_or_default();
        diff_ids.push(format!("\"sha256:{hex}\""));
        layers.push(layer);
    }
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{{"Cmd":["/none"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    fs::write(folder.join("config.json"), config)?;
    let quoted: Vec<String> = layers.iter().map(|layer| format!("\"{layer}\"")).collect();
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{name}:1"],"Layers":[{}]}}]"#,
        quoted.join(",")
    );
    fs::write(folder.join("manifest.json"), manifest)?;
    let archive = work.join(format!("{name}.tar"));
    shell::output(
        Command::new("tar")
            .arg("-C")
            .arg(&folder)
            .arg("-cf")
            .arg(&archive)
            .args(["manifest.json", "config.json"])
            .args(&layers),
    )?;
    fs::remove_dir_all(&folder)?;
    Ok(archive)
}
