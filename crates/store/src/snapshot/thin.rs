//! `devicemapper`: each tree an ext4 file system on a thin volume, made as a snapshot of its parent's volume.
//!
//! `<root>/<n>/volume` has the number of the thin volume and its size in sectors; it is written before the volume is made,
//! so that whatever removes the directory finds the volume. Volume 0 is an empty file system from which all others come.
//! The pool is the one named by `dm.thinpooldev`, or is made on two sparse files in `<root>/devicemapper-pool`, as Docker's
//! loop-lvm mode does. A volume's device comes when it is first mounted and goes with its snapshot; the pool stays until the
//! host goes down, for containers outlive the daemon. Kernel: Documentation/admin-guide/device-mapper/thin-provisioning.rst.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hull_oci::runtime::Mount;

use super::options::{Options, shown_size};
use super::trees::Kin;
use super::{Tree, commands};
use crate::{Error, Result};

const DRIVER: &str = "devicemapper";
const SECTOR: u64 = 512;
/// Docker's defaults of `dm.basesize`, `dm.loopdatasize`, `dm.loopmetadatasize`.
const BASE_SIZE: u64 = 10 << 30;
const DATA_SIZE: u64 = 100 << 30;
const METADATA_SIZE: u64 = 2 << 30;
/// Thin volumes are numbered with 24 bits.
const VOLUMES_MAX: u32 = 1 << 24;
/// The empty file system.
const BASE: u32 = 0;

pub(super) struct Pool {
    name: String,
    /// Where what is not a snapshot lies.
    dir: PathBuf,
    sectors: u64,
}

/// A thin volume, as its snapshot's directory names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Volume {
    id: u32,
    sectors: u64,
}

impl Volume {
    fn read(dir: &Path) -> Result<Volume> {
        let path = dir.join("volume");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let mut words = text.split_whitespace();
        let id = words.next().and_then(|word| word.parse().ok());
        let sectors = words.next().and_then(|word| word.parse().ok());
        match (id, sectors) {
            (Some(id), Some(sectors)) => Ok(Volume { id, sectors }),
            _ => Err(Error::io("understand", &path)(std::io::Error::from(
                std::io::ErrorKind::InvalidData,
            ))),
        }
    }

    fn write(self, dir: &Path) -> Result<()> {
        let path = dir.join("volume");
        fs::write(&path, format!("{} {}\n", self.id, self.sectors))
            .map_err(Error::io("write", &path))
    }
}

/// What the kernel or the host lacks for this driver.
pub(super) fn missing() -> Option<String> {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    if !misc.split_whitespace().any(|word| word == "device-mapper") {
        return Some(
            "the kernel has no device mapper (try: modprobe dm_thin_pool); use overlay2".to_owned(),
        );
    }
    for (program, package) in [
        ("dmsetup", "dmsetup"),
        ("losetup", "mount"),
        ("mkfs.ext4", "e2fsprogs"),
    ] {
        if commands::find(program).is_none() {
            return Some(format!(
                "{program} is not installed (Debian's package {package})"
            ));
        }
    }
    let targets = commands::run(&["dmsetup", "targets"]).unwrap_or_default();
    (!targets.lines().any(|line| line.starts_with("thin-pool"))).then(|| {
        "the kernel's device mapper has no thin-pool target (try: modprobe dm_thin_pool)".to_owned()
    })
}

impl Pool {
    /// Opens the pool, making it if need be.
    pub fn open(root: &Path, mut options: Options) -> Result<Pool> {
        let sectors = options.size("dm.basesize")?.unwrap_or(BASE_SIZE) / SECTOR;
        let data = options.size("dm.loopdatasize")?.unwrap_or(DATA_SIZE);
        let metadata = options
            .size("dm.loopmetadatasize")?
            .unwrap_or(METADATA_SIZE);
        let device = options.take("dm.thinpooldev");
        match options.take("dm.fs").as_deref() {
            None | Some("ext4") => {}
            Some(other) => {
                return Err(Error::Driver {
                    driver: DRIVER.to_owned(),
                    why: format!("volumes are made with ext4, not with dm.fs={other}"),
                });
            }
        }
        options.finish(DRIVER)?;
        let dir = root.join("devicemapper-pool");
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let name = match device {
            Some(device) => device.trim_start_matches("/dev/mapper/").to_owned(),
            None => {
                let stat = fs::metadata(&dir).map_err(Error::io("stat", &dir))?;
                // Docker's pattern, so that an administrator knows it when they see it.
                let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
                format!("hull-{major}:{minor}-{}-pool", stat.ino())
            }
        };
        let pool = Pool { name, dir, sectors };
        if !pool.node(&pool.name).exists() {
            pool.make_on_files(data, metadata)?;
        }
        pool.make_base()?;
        Ok(pool)
    }

    fn node(&self, name: &str) -> PathBuf {
        Path::new("/dev/mapper").join(name)
    }

    fn make_on_files(&self, data: u64, metadata: u64) -> Result<()> {
        let mut devices = Vec::new();
        for (name, size) in [("data", data), ("metadata", metadata)] {
            let path = self.dir.join(name);
            let file = fs::File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(Error::io("create", &path))?;
            let length = file.metadata().map_err(Error::io("stat", &path))?.len();
            if length < size {
                file.set_len(size).map_err(Error::io("grow", &path))?;
            }
            let path = path.display().to_string();
            let device = commands::run(&["losetup", "--find", "--show", path.as_str()])?;
            devices.push((device.trim().to_owned(), length.max(size) / SECTOR));
        }
        let (data, metadata) = (&devices[0], &devices[1]);
        let table = pool_table(data.1, &metadata.0, &data.0);
        commands::run(&[
            "dmsetup",
            "create",
            &self.name,
            "--verifyudev",
            "--table",
            &table,
        ])
        .map(drop)
    }

    /// Makes the empty file system, if there is none; one that was not finished is made anew.
    fn make_base(&self) -> Result<()> {
        let base = Volume {
            id: BASE,
            sectors: self.sectors,
        };
        if self.dir.join("volume").exists() {
            return Ok(());
        }
        // Nothing there is as good as removed.
        let _ = self.message(&format!("delete {BASE}"));
        self.message(&format!("create_thin {BASE}"))?;
        let node = self.activate(base)?.display().to_string();
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        commands::run(&["mkfs.ext4", "-q", "-E", options, "-m", "0", node.as_str()])?;
        let tree = self.mounted(base)?;
        let found = tree.join("lost+found");
        fs::remove_dir(&found).map_err(Error::io("remove", &found))?;
        drop(tree);
        self.deactivate(BASE)?;
        base.write(&self.dir)
    }

    fn message(&self, text: &str) -> Result<()> {
        commands::run(&["dmsetup", "message", &self.name, "0", text]).map(drop)
    }

    fn volume_name(&self, id: u32) -> String {
        format!("{}-{id}", self.name.trim_end_matches("-pool"))
    }

    fn activate(&self, volume: Volume) -> Result<PathBuf> {
        let name = self.volume_name(volume.id);
        let node = self.node(&name);
        if !node.exists() {
            let pool = self.node(&self.name);
            let table = format!("0 {} thin {} {}", volume.sectors, pool.display(), volume.id);
            commands::run(&[
                "dmsetup",
                "create",
                &name,
                "--verifyudev",
                "--table",
                &table,
            ])?;
        }
        Ok(node)
    }

    fn deactivate(&self, id: u32) -> Result<()> {
        let name = self.volume_name(id);
        if !self.node(&name).exists() {
            return Ok(());
        }
        commands::run(&["dmsetup", "remove", "--retry", "--verifyudev", &name]).map(drop)
    }

    fn mounted(&self, volume: Volume) -> Result<Tree> {
        let node = self.activate(volume)?;
        hull_sys::mount::detached("ext4", node.to_str(), &["rw"])
            .map(Tree::mounted)
            .map_err(|error| Error::Io {
                operation: "mount",
                path: node,
                source: std::io::Error::other(error.to_string()),
            })
    }
}

/// The pool's table: sectors, blocks of 64 KiB, a warning when 2 GiB are left, and no zeroing of blocks that a file system
/// writes anyway.
fn pool_table(sectors: u64, metadata: &str, data: &str) -> String {
    format!("0 {sectors} thin-pool {metadata} {data} 128 32768 1 skip_block_zeroing")
}

impl Kin for Pool {
    fn name(&self) -> &'static str {
        DRIVER
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let from = Volume::read(parent.unwrap_or(&self.dir))?;
        let origin = self.volume_name(from.id);
        // A volume in use is held still while its snapshot is made; its file system is then consistent.
        let in_use = self.node(&origin).exists();
        if in_use {
            commands::run(&["dmsetup", "suspend", &origin])?;
        }
        let made = (0..8).find_map(|_| {
            let volume = Volume {
                id: rand::random_range(1..VOLUMES_MAX),
                sectors: from.sectors,
            };
            let made = volume
                .write(dir)
                .and_then(|()| self.message(&format!("create_snap {} {}", volume.id, from.id)));
            match made {
                // The number is taken by another snapshot: it must not be removed with this directory.
                Err(Error::Program { said, .. }) if said.contains("File exists") => {
                    let _ = fs::remove_file(dir.join("volume"));
                    None
                }
                other => Some(other),
            }
        });
        if in_use {
            commands::run(&["dmsetup", "resume", &origin])?;
        }
        made.unwrap_or_else(|| {
            Err(Error::Driver {
                driver: DRIVER.to_owned(),
                why: "the pool has no free volume numbers".to_owned(),
            })
        })
    }

    fn tree(&self, dir: &Path) -> Result<Tree> {
        self.mounted(Volume::read(dir)?)
    }

    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount> {
        let node = self.activate(Volume::read(dir)?)?;
        Ok(Mount {
            kind: Some("ext4".to_owned()),
            source: Some(node.display().to_string()),
            options: vec![if writable { "rw" } else { "ro" }.to_owned()],
            ..Mount::default()
        })
    }

    fn uproot(&self, dir: &Path) -> Result<()> {
        if !dir.join("volume").exists() {
            return Ok(());
        }
        let volume = Volume::read(dir)?;
        self.deactivate(volume.id)?;
        match self.message(&format!("delete {}", volume.id)) {
            // A crash may have come between the file and the volume.
            Err(Error::Program { said, .. }) if said.contains("No data available") => Ok(()),
            other => other,
        }
    }

    fn limit(&self, dir: &Path, bytes: u64) -> Result<()> {
        let volume = Volume::read(dir)?;
        if bytes < volume.sectors * SECTOR {
            let least = shown_size(volume.sectors * SECTOR);
            return Err(Error::NoLimit(format!(
                "size: Container size cannot be smaller than {least}"
            )));
        }
        self.deactivate(volume.id)?;
        let grown = Volume {
            sectors: bytes / SECTOR,
            ..volume
        };
        grown.write(dir)?;
        let node = self.activate(grown)?.display().to_string();
        // resize2fs grows only what was checked since it was last mounted.
        commands::run(&["e2fsck", "-f", "-p", node.as_str()])?;
        commands::run(&["resize2fs", node.as_str()]).map(drop)
    }

    fn status(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("Pool Name", self.name.clone()),
            pair("Pool Blocksize", "65.54kB".to_owned()),
            pair("Base Device Size", shown_size(self.sectors * SECTOR)),
            pair("Backing Filesystem", "ext4".to_owned()),
        ]
    }

    fn inspect(&self, dir: &Path) -> Result<Vec<(&'static str, String)>> {
        let volume = Volume::read(dir)?;
        Ok(vec![
            ("DeviceId", volume.id.to_string()),
            ("DeviceName", self.volume_name(volume.id)),
            ("DeviceSize", (volume.sectors * SECTOR).to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::{Volume, pool_table};

    #[test]
    fn the_pools_table() {
        assert_eq!(
            pool_table(2048, "/dev/loop1", "/dev/loop0"),
            "0 2048 thin-pool /dev/loop1 /dev/loop0 128 32768 1 skip_block_zeroing"
        );
    }

    #[test]
    fn a_volume_is_read_as_it_was_written() {
        let dir = std::env::temp_dir().join(format!("store-volume-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let volume = Volume {
            id: 77,
            sectors: 20480,
        };
        volume.write(&dir).unwrap();
        assert_eq!(Volume::read(&dir).unwrap(), volume);
        std::fs::write(dir.join("volume"), "77").unwrap();
        assert!(Volume::read(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
