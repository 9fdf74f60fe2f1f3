//! `zfs`: each tree a dataset, made as a clone of a snapshot of its parent's.
//!
//! `<root>/<n>/dataset` names it. What is asked of the program `zfs` is a [`Step`], a value that becomes the command's words:
//! that is what is tested here, for Linux itself has no zfs (zfs(8), zfs-clone(8), zfs-destroy(8)).

use std::fs;
use std::path::Path;

use hull_oci::runtime::Mount;

use super::options::Options;
use super::trees::Kin;
use super::{Tree, commands};
use crate::{Error, Result};

const DRIVER: &str = "zfs";

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The dataset below which a path lies.
    Find { path: String },
    /// A dataset without content.
    Create { dataset: String },
    /// The state of `origin` now, named after the dataset that is made of it.
    Snapshot { origin: String, name: String },
    /// A writable dataset of that state.
    Clone { origin: String, dataset: String },
    /// The state goes as soon as nothing is made of it any more.
    Release { origin: String, name: String },
    /// A dataset goes, with what hangs on it.
    Destroy { dataset: String },
    /// A dataset may refer to so many bytes.
    Quota { dataset: String, bytes: u64 },
}

impl Step {
    fn words(&self) -> Vec<String> {
        let name = |parent: &str, name: &str| {
            let short = name.rsplit('/').next().unwrap_or(name);
            format!("{parent}@{short}")
        };
        let words: Vec<&str> = match self {
            Step::Find { path } => vec!["list", "-H", "-o", "name", path],
            Step::Create { dataset } => vec!["create", "-o", "mountpoint=legacy", dataset],
            Step::Snapshot { origin, name: new } => return zfs(&["snapshot", &name(origin, new)]),
            Step::Clone { origin, dataset } => {
                let from = name(origin, dataset);
                return zfs(&["clone", "-o", "mountpoint=legacy", &from, dataset]);
            }
            Step::Release { origin, name: new } => {
                return zfs(&["destroy", "-d", &name(origin, new)]);
            }
            Step::Destroy { dataset } => vec!["destroy", "-r", dataset],
            Step::Quota { dataset, bytes } => {
                return zfs(&["set", &format!("quota={bytes}"), dataset]);
            }
        };
        zfs(&words)
    }

    fn run(&self) -> Result<String> {
        commands::run(&self.words())
    }
}

fn zfs(words: &[&str]) -> Vec<String> {
    std::iter::once(&"zfs")
        .chain(words)
        .map(|&word| word.to_owned())
        .collect()
}

/// A new dataset, empty or a clone of `origin`.
fn plant_steps(dataset: &str, origin: Option<&str>) -> Vec<Step> {
    let dataset = dataset.to_owned();
    let Some(origin) = origin.map(str::to_owned) else {
        return vec![Step::Create { dataset }];
    };
    let snapshot = Step::Snapshot {
        origin: origin.clone(),
        name: dataset.clone(),
    };
    let release = Step::Release {
        origin: origin.clone(),
        name: dataset.clone(),
    };
    vec![snapshot, Step::Clone { origin, dataset }, release]
}

/// What the kernel or the host lacks for this driver.
pub(super) fn missing() -> Option<String> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == DRIVER) {
        return Some(
            "the kernel has no zfs (its module is not part of Linux); use overlay2".to_owned(),
        );
    }
    commands::find(DRIVER)
        .is_none()
        .then(|| "zfs is not installed (Debian's package zfsutils-linux)".to_owned())
}

pub(super) struct Zfs {
    /// The dataset below which all others are made.
    parent: String,
}

impl Zfs {
    pub fn open(root: &Path, mut options: Options) -> Result<Zfs> {
        let given = options.take("zfs.fsname");
        options.finish(DRIVER)?;
        let parent = match given {
            Some(name) => name,
            None => Step::Find {
                path: root.display().to_string(),
            }
            .run()?
            .trim()
            .to_owned(),
        };
        Ok(Zfs { parent })
    }

    fn dataset(dir: &Path) -> Result<String> {
        let path = dir.join("dataset");
        fs::read_to_string(&path).map_err(Error::io("read", path))
    }
}

impl Kin for Zfs {
    fn name(&self) -> &'static str {
        DRIVER
    }

    fn plant(&self, dir: &Path, parent: Option<&Path>) -> Result<()> {
        let dataset = format!("{}/{:016x}", self.parent, rand::random::<u64>());
        let path = dir.join("dataset");
        // Before the dataset, so that whatever removes the directory finds it.
        fs::write(&path, &dataset).map_err(Error::io("write", &path))?;
        let origin = parent.map(Zfs::dataset).transpose()?;
        for step in plant_steps(&dataset, origin.as_deref()) {
            step.run()?;
        }
        Ok(())
    }

    fn tree(&self, dir: &Path) -> Result<Tree> {
        let dataset = Zfs::dataset(dir)?;
        hull_sys::mount::detached(DRIVER, Some(&dataset), &["rw"])
            .map(Tree::mounted)
            .map_err(|error| Error::Io {
                operation: "mount",
                path: dataset.into(),
                source: std::io::Error::other(error.to_string()),
            })
    }

    fn mount(&self, dir: &Path, writable: bool) -> Result<Mount> {
        Ok(Mount {
            kind: Some(DRIVER.to_owned()),
            source: Some(Zfs::dataset(dir)?),
            options: vec![if writable { "rw" } else { "ro" }.to_owned()],
            ..Mount::default()
        })
    }

    fn uproot(&self, dir: &Path) -> Result<()> {
        if !dir.join("dataset").exists() {
            return Ok(());
        }
        let dataset = Zfs::dataset(dir)?;
        match (Step::Destroy { dataset }).run() {
            Err(Error::Program { said, .. }) if said.contains("dataset does not exist") => Ok(()),
            other => other.map(drop),
        }
    }

    fn limit(&self, dir: &Path, bytes: u64) -> Result<()> {
        let dataset = Zfs::dataset(dir)?;
        Step::Quota { dataset, bytes }.run().map(drop)
    }

    fn status(&self) -> Vec<(String, String)> {
        vec![("Parent Dataset".to_owned(), self.parent.clone())]
    }

    fn inspect(&self, dir: &Path) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("Dataset", Zfs::dataset(dir)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, plant_steps};

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.words().join(" ")).collect()
    }

    #[test]
    fn the_commands() {
        assert_eq!(
            lines(&plant_steps("tank/hull/aa", None)),
            ["zfs create -o mountpoint=legacy tank/hull/aa"]
        );
        assert_eq!(
            lines(&plant_steps("tank/hull/bb", Some("tank/hull/aa"))),
            [
                "zfs snapshot tank/hull/aa@bb",
                "zfs clone -o mountpoint=legacy tank/hull/aa@bb tank/hull/bb",
                "zfs destroy -d tank/hull/aa@bb",
            ]
        );
        let dataset = "tank/hull/bb".to_owned();
        let rest = [
            Step::Find {
                path: "/var/lib/hull".to_owned(),
            },
            Step::Quota {
                dataset: dataset.clone(),
                bytes: 1 << 30,
            },
            Step::Destroy { dataset },
        ];
        assert_eq!(
            lines(&rest),
            [
                "zfs list -H -o name /var/lib/hull",
                "zfs set quota=1073741824 tank/hull/bb",
                "zfs destroy -r tank/hull/bb",
            ]
        );
    }
}
