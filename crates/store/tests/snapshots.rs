//! The contract of storage drivers, run on each that this machine has.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{apply_to, tree, zoo};
use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_store::Error;
use hull_store::layer::{ChangeKind, Pending, changes, diff};
use hull_store::snapshot::{Kind, Snapshotter, open};
use hull_testkit::TempRoot;
use hull_testkit::image::Tar;

/// A driver on a root of its own, and the database beside it.
struct Bench {
    root: PathBuf,
    db: Db,
    driver: Arc<dyn Snapshotter>,
    name: &'static str,
}

impl Bench {
    fn open(name: &'static str, root: &Path) -> Bench {
        let db = Db::open(root.join("state.db")).unwrap();
        let driver = open(Some(name), &root.join("snapshots"), db.clone()).unwrap();
        assert_eq!(driver.name(), name);
        Bench {
            root: root.to_owned(),
            db,
            driver,
            name,
        }
    }

    fn layer(&self, name: &str, parent: Option<&str>, archive: &[u8]) {
        let key = format!("stage-{name}");
        let dir = self.driver.stage(&key).unwrap();
        let applied = apply_to(archive, &dir).unwrap();
        self.driver
            .commit_layer(name, &key, parent, &applied.pending)
            .unwrap();
    }

    fn dirs(&self) -> usize {
        std::fs::read_dir(self.root.join("snapshots").join(self.name))
            .unwrap()
            .count()
    }
}

/// A mounted snapshot: nothing but a descriptor.
struct Mounted(OwnedFd);

impl Mounted {
    fn new(mounts: &[Mount]) -> Mounted {
        let [mount] = mounts else {
            panic!("one mount expected: {mounts:?}")
        };
        if mount.kind.as_deref() == Some("bind") {
            let source = mount.source.clone().unwrap();
            return Mounted(hull_sys::path::open_dir(Path::new(&source)).unwrap());
        }
        let kind = mount.kind.clone().unwrap();
        Mounted(hull_sys::mount::detached(&kind, mount.source.as_deref(), &mount.options).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    fn tree(&self) -> Vec<String> {
        tree(&self.path(""))
    }
}

fn base() -> Vec<u8> {
    Tar::new()
        .folder("dir", 0o755)
        .file("dir/kept", 0o644, "1")
        .file("dir/gone", 0o644, "1")
        .file("dir/changed", 0o600, "1")
        .folder("hidden", 0o755)
        .file("hidden/before", 0o644, "1")
        .folder("attributes", 0o711)
        .file("target", 0o640, "linked")
        .symlink("link", "dir/kept")
        .finish()
}

fn top() -> Vec<u8> {
    Tar::new()
        .folder("dir", 0o700)
        .whiteout("dir/gone")
        .file("dir/changed", 0o640, "22")
        .folder("hidden", 0o755)
        .opaque("hidden")
        .file("hidden/after", 0o644, "2")
        .file("attributes/new", 0o644, "implicit parent")
        .hardlink("second", "target")
        .whiteout("link")
        .finish()
}

/// Everything that every driver must do.
fn contract(name: &'static str, root: &Path) {
    let bench = Bench::open(name, root);
    let driver = &bench.driver;
    assert!(matches!(
        driver.stat("nothing"),
        Err(Error::SnapshotNotFound(_))
    ));
    assert!(matches!(
        driver.prepare("x", Some("nothing")),
        Err(Error::SnapshotNotFound(_))
    ));
    bench.layer("base", None, &base());
    bench.layer("top", Some("base"), &top());
    assert_eq!(driver.stat("top").unwrap().kind, Kind::Committed);
    assert_eq!(driver.stat("top").unwrap().parent.as_deref(), Some("base"));

    let lines = Mounted::new(&driver.view("look", "top").unwrap()).tree();
    let has = |start: &str, part: &str| {
        lines
            .iter()
            .any(|line| line.starts_with(start) && line.contains(part))
    };
    for (start, part) in [
        ("dir d", "mode=700"),
        ("dir/kept f", "size=1"),
        ("dir/changed f", "size=2"),
        ("hidden/after f", "size=1"),
        ("attributes d", "mode=711"),
        ("second f", "mode=640"),
    ] {
        assert!(has(start, part), "{name}: {start} {part}: {lines:#?}");
    }
    for gone in ["dir/gone ", "hidden/before ", "link "] {
        assert!(!has(gone, ""), "{name}: {gone}: {lines:#?}");
    }
    assert!(matches!(
        driver.view("look", "top"),
        Err(Error::SnapshotExists(_))
    ));
    driver.remove("look").unwrap();

    container(&bench);
    removal(&bench);
    sweeping(&bench);
}

/// A writable snapshot: its changes, their tar, and the same tree from that tar.
fn container(bench: &Bench) {
    let (driver, name) = (&bench.driver, bench.name);
    let mounts = driver.prepare("box", Some("top")).unwrap();
    assert!(
        matches!(
            driver.prepare("y", Some("box")),
            Err(Error::SnapshotState { .. })
        ),
        "an active one is no parent"
    );
    let mounted = Mounted::new(&mounts);
    assert!(
        changes(&driver.diff_source("box").unwrap())
            .unwrap()
            .is_empty(),
        "{name}: nothing was changed"
    );
    std::fs::write(mounted.path("dir/kept"), "changed").unwrap();
    std::fs::remove_file(mounted.path("dir/changed")).unwrap();
    std::fs::remove_dir_all(mounted.path("hidden")).unwrap();
    std::fs::create_dir(mounted.path("hidden")).unwrap();
    std::fs::write(mounted.path("hidden/third"), "3").unwrap();
    std::fs::create_dir(mounted.path("zoo")).unwrap();
    zoo(&mounted.path("zoo"));
    let seen = mounted.tree();
    drop(mounted);
    let source = driver.diff_source("box").unwrap();
    let list = changes(&source).unwrap();
    let kind = |path: &str| {
        list.iter()
            .find(|change| change.path == path)
            .map(|change| change.kind)
    };
    assert_eq!(
        kind("/dir/kept"),
        Some(ChangeKind::Modified),
        "{name}: {list:#?}"
    );
    assert_eq!(kind("/dir/changed"), Some(ChangeKind::Deleted), "{name}");
    assert_eq!(kind("/dir"), Some(ChangeKind::Modified), "{name}");
    assert_eq!(kind("/zoo/a/file"), Some(ChangeKind::Added), "{name}");
    assert_eq!(kind("/attributes"), None, "{name}");

    let archive = diff(&source, Vec::new()).unwrap();
    assert_eq!(
        archive,
        diff(&source, Vec::new()).unwrap(),
        "the same files give the same bytes"
    );
    bench.layer("again", Some("top"), &archive);
    let again = Mounted::new(&driver.view("again-look", "again").unwrap()).tree();
    assert_eq!(
        without_dir_times(again),
        without_dir_times(seen),
        "{name}: unpacked from its own diff"
    );
    driver.remove("again-look").unwrap();
    assert!(driver.usage("box").unwrap().inodes > 10);
    driver.commit("boxed", "box").unwrap();
    assert_eq!(driver.stat("boxed").unwrap().kind, Kind::Committed);
    assert!(matches!(
        driver.commit("twice", "boxed"),
        Err(Error::SnapshotState { .. })
    ));
}

/// Directories above changes may be younger in one tree than in the other.
fn without_dir_times(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .map(|line| match line.split_once(" time=") {
            Some((start, rest)) if start.contains(" d mode=") => {
                format!(
                    "{start} {}",
                    rest.split_once(' ').map_or("", |(_, rest)| rest)
                )
            }
            _ => line,
        })
        .collect()
}

fn removal(bench: &Bench) {
    let driver = &bench.driver;
    assert!(
        matches!(driver.remove("base"), Err(Error::SnapshotState { .. })),
        "it has children"
    );
    for key in ["again", "boxed", "top", "base"] {
        driver.remove(key).unwrap();
    }
    assert!(matches!(
        driver.remove("base"),
        Err(Error::SnapshotNotFound(_))
    ));
    assert_eq!((driver.walk().unwrap().len(), bench.dirs()), (0, 0));
}

fn sweeping(bench: &Bench) {
    bench.layer("kept", None, &base());
    let dir = bench.root.join("snapshots").join(bench.name);
    std::fs::create_dir_all(dir.join("new-0123/fs/deep")).unwrap();
    std::fs::create_dir_all(dir.join("4711/fs")).unwrap();
    assert_eq!(bench.driver.sweep().unwrap(), 2);
    assert_eq!(bench.dirs(), 1);
    let again = open(None, &bench.root.join("snapshots"), bench.db.clone()).unwrap();
    assert_eq!(
        again.name(),
        bench.name,
        "the driver in use is chosen again"
    );
    assert!(again.stat("kept").is_ok());
}

#[test]
fn overlay2_keeps_the_contract() {
    contract("overlay2", TempRoot::new("store").path());
}

#[test]
fn vfs_keeps_the_contract() {
    contract("vfs", TempRoot::new("store").path());
}

/// A file system in a file, mounted on a loop device.
struct Loop {
    mount: PathBuf,
    _temp: TempRoot,
}

impl Loop {
    fn new(maker: &str) -> Option<Loop> {
        let program = hull_testkit::skips::program(maker)?;
        let temp = TempRoot::on_disk("store");
        let image = temp.join("image");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        let made = std::process::Command::new(program)
            .arg("-q")
            .arg(&image)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mount = temp.folder("mount");
        let mounted = std::process::Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&mount)
            .output()
            .unwrap();
        mounted
            .status
            .success()
            .then_some(Loop { mount, _temp: temp })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(&self.mount)
            .status();
    }
}

#[test]
fn btrfs_keeps_the_contract() {
    match Loop::new("mkfs.btrfs") {
        Some(disk) => contract("btrfs", &disk.mount),
        None => hull_testkit::skip!("no btrfs: neither mkfs.btrfs nor the kernel's module"),
    }
}

#[test]
fn overlay2_keeps_the_contract_on_ext4() {
    match Loop::new("mkfs.ext4") {
        Some(disk) => contract("overlay2", &disk.mount),
        None => hull_testkit::skip!("no loop device with ext4"),
    }
}

#[test]
fn many_layers() {
    let temp = TempRoot::new("store");
    let bench = Bench::open("overlay2", temp.path());
    let mut parent: Option<String> = None;
    for index in 0..500 {
        let name = format!("l{index}");
        let archive = Tar::new().file(&format!("f{index}"), 0o644, "x").file(
            "last",
            0o644,
            index.to_string(),
        );
        bench.layer(&name, parent.as_deref(), &archive.finish());
        parent = Some(name);
    }
    let mounted = Mounted::new(&bench.driver.prepare("box", Some("l499")).unwrap());
    assert_eq!(
        std::fs::read_to_string(mounted.path("last")).unwrap(),
        "499"
    );
    assert!(mounted.path("f0").exists() && mounted.path("f499").exists());
    drop(mounted);
    bench.layer(
        "l500",
        Some("l499"),
        &Tar::new().file("f", 0o644, "").finish(),
    );
    let refused = bench.driver.prepare("too-many", Some("l500")).unwrap_err();
    assert!(refused.to_string().contains("500 layers"), "{refused}");
}

#[test]
fn drivers_that_cannot_be_had_say_why() {
    let temp = TempRoot::new("store");
    let db = Db::open(temp.join("state.db")).unwrap();
    for name in [
        "zfs",
        "aufs",
        "devicemapper",
        "fuse-overlayfs",
        "btrfs",
        "nonsense",
    ] {
        let Err(error) = open(Some(name), &temp.join("snapshots"), db.clone()) else {
            panic!("{name} was opened")
        };
        assert!(matches!(error, Error::Driver { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with(&format!("storage driver \"{name}\" cannot be used: ")),
            "{error}"
        );
    }
}

#[test]
fn a_hard_link_to_nothing_is_refused() {
    let temp = TempRoot::new("store");
    let bench = Bench::open("overlay2", temp.path());
    bench.layer("base", None, &base());
    let dir = bench.driver.stage("s").unwrap();
    let applied = apply_to(&Tar::new().hardlink("h", "no/such").finish(), &dir).unwrap();
    assert_ne!(applied.pending, Pending::default());
    let refused = bench
        .driver
        .commit_layer("bad", "s", Some("base"), &applied.pending)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "layer entry \"h\" refused: a hard link to a file that does not exist"
    );
}
