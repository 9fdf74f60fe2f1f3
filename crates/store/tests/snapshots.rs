//! The contract of storage drivers, run on each that this machine has.

mod common;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{apply_to, tree, zoo};
use hull_oci::runtime::Mount;
use hull_state::Db;
use hull_store::Error;
use hull_store::layer::{ApplyOptions, ChangeKind, IdMaps, IdRange, Pending, apply, changes, diff};
use hull_store::snapshot::{Kind, Snapshotter, open};
use hull_testkit::TempRoot;
use hull_testkit::image::{Attributes, Tar};

/// devicemapper's pool would be larger than the machine that it is tested in.
fn options(name: &str) -> Vec<String> {
    let options: &[&str] = match name {
        "devicemapper" => &[
            "dm.basesize=64M",
            "dm.loopdatasize=512M",
            "dm.loopmetadatasize=16M",
        ],
        _ => &[],
    };
    options.iter().map(|&option| option.to_owned()).collect()
}

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
        let driver = open(
            Some(name),
            &options(name),
            &root.join("snapshots"),
            db.clone(),
        )
        .unwrap();
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
        // fuse-overlayfs counts a file's names as it meets them: look at all of them once before.
        tree(&self.path(""));
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
    mapped_owners(&bench);
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

    let archive = diff(&source, &[], &IdMaps::default(), Vec::new()).unwrap();
    assert_eq!(
        archive,
        diff(&source, &[], &IdMaps::default(), Vec::new()).unwrap(),
        "the same files give the same bytes"
    );
    let names = |archive: &[u8], name: &[u8]| {
        archive
            .windows(name.len())
            .filter(|bytes| *bytes == name)
            .count()
    };
    let hidden = diff(
        &source,
        &["zoo/a/file", "dir/kept"],
        &IdMaps::default(),
        Vec::new(),
    )
    .unwrap();
    assert!(names(&archive, b"zoo/a/file") > 0, "{name}");
    assert_eq!(
        names(&hidden, b"zoo/a/file"),
        0,
        "{name}: added, and hidden"
    );
    assert!(
        names(&hidden, b"dir/kept") > 0,
        "{name}: a change is never hidden"
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

/// `--userns-remap`: owners are the range's on disk and in the mount, and the container's own in what is read back.
fn mapped_owners(bench: &Bench) {
    use std::os::unix::fs::{MetadataExt, chown};
    let (driver, name) = (&bench.driver, bench.name);
    let range = || {
        vec![IdRange {
            inside: 0,
            outside: 100_000,
            length: 65_536,
        }]
    };
    let ids = IdMaps {
        uids: range(),
        gids: range(),
    };
    let owned = Attributes {
        mode: 0o600,
        uid: 1000,
        gid: 50,
    };
    let archive = Tar::new()
        .folder("home", 0o755)
        .file_with("home/own", owned, "1")
        .file("home/roots", 0o644, "2")
        .finish();
    let dir = driver.stage("stage-mapped").unwrap();
    let options = ApplyOptions {
        ids: ids.clone(),
        ..ApplyOptions::default()
    };
    let root = std::fs::File::open(&dir).unwrap();
    let applied = apply(&archive[..], root.as_fd(), &options).unwrap();
    driver
        .commit_layer("mapped", "stage-mapped", None, &applied.pending)
        .unwrap();
    let mounted = Mounted::new(&driver.prepare("mapped-box", Some("mapped")).unwrap());
    let owner = |path: &str| {
        let stat = std::fs::metadata(mounted.path(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(owner("home/own"), (101_000, 100_050), "{name}");
    assert_eq!(owner("home/roots"), (100_000, 100_000), "{name}");
    std::fs::write(mounted.path("home/new"), "3").unwrap();
    chown(mounted.path("home/new"), Some(100_007), Some(100_008)).unwrap();
    std::fs::write(mounted.path("home/own"), "changed").unwrap();
    drop(mounted);
    let source = driver.diff_source("mapped-box").unwrap();
    let archive = diff(&source, &[], &ids, Vec::new()).unwrap();
    let again = TempRoot::new("store");
    apply_to(&archive, again.path()).unwrap();
    let owner = |path: &str| {
        let stat = std::fs::metadata(again.join(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(owner("home/new"), (7, 8), "{name}");
    assert_eq!(owner("home/own"), (1000, 50), "{name}: copied up");
    drop(source);
    driver.remove("mapped-box").unwrap();
    driver.remove("mapped").unwrap();
}

fn sweeping(bench: &Bench) {
    bench.layer("kept", None, &base());
    let dir = bench.root.join("snapshots").join(bench.name);
    std::fs::create_dir_all(dir.join("new-0123/fs/deep")).unwrap();
    std::fs::create_dir_all(dir.join("4711/fs")).unwrap();
    assert_eq!(bench.driver.sweep().unwrap(), 2);
    assert_eq!(bench.dirs(), 1);
    let again = open(None, &[], &bench.root.join("snapshots"), bench.db.clone()).unwrap();
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
fn fuse_overlayfs_keeps_the_contract() {
    let usable = Path::new("/dev/fuse").exists();
    match hull_testkit::skips::program("fuse-overlayfs").filter(|_| usable) {
        Some(_) => contract("fuse-overlayfs", TempRoot::new("store").path()),
        None => hull_testkit::skip!("no fuse-overlayfs, or no /dev/fuse"),
    }
}

/// File-backed erofs needs a file system with buffered reads below it: not tmpfs.
#[test]
fn erofs_keeps_the_contract() {
    let Some(disk) = Loop::new("mkfs.ext4") else {
        hull_testkit::skip!("no loop device with ext4");
        return;
    };
    let db = Db::open(disk.mount.join("probe.db")).unwrap();
    match open(Some("erofs"), &[], &disk.mount.join("snapshots"), db) {
        Ok(_) => {
            contract("erofs", &disk.mount);
            part_of_an_image(&disk.mount);
        }
        Err(error) => hull_testkit::skip!("{error}"),
    }
}

/// A folder and a file of images that lie nowhere on the host unpacked.
fn part_of_an_image(root: &Path) {
    let root = root.join("part");
    std::fs::create_dir(&root).unwrap();
    let bench = Bench::open("erofs", &root);
    bench.layer("base", None, &base());
    bench.layer("top", Some("base"), &top());
    let view = bench.driver.view("look", "top").unwrap();
    let part = |path: &str| {
        let mut mount = view[0].clone();
        mount
            .options
            .push(format!("{}{path}", hull_sys::mount::SUBPATH));
        let options = &mount.options;
        hull_sys::mount::detached(
            mount.kind.as_deref().unwrap(),
            mount.source.as_deref(),
            options,
        )
    };
    let dir = Mounted(part("dir").unwrap());
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(dir.path("kept")), "1");
    assert_eq!(read(dir.path("changed")), "22");
    assert!(!dir.path("gone").exists());
    assert!(std::fs::write(dir.path("new"), "x").is_err(), "read-only");
    let file = part("dir/changed").unwrap();
    assert_eq!(
        read(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
        "22"
    );
    assert!(part("dir/gone").is_err());
    bench.driver.remove("look").unwrap();
}

#[test]
fn zfs_keeps_the_contract() {
    let temp = TempRoot::new("store");
    let db = Db::open(temp.join("state.db")).unwrap();
    match open(Some("zfs"), &[], &temp.join("snapshots"), db) {
        Ok(_) => contract("zfs", temp.path()),
        Err(error) => hull_testkit::skip!("{error}"),
    }
}

#[test]
fn aufs_keeps_the_contract() {
    let temp = TempRoot::new("store");
    let db = Db::open(temp.join("state.db")).unwrap();
    match open(Some("aufs"), &[], &temp.join("snapshots"), db) {
        Ok(_) => contract("aufs", temp.path()),
        Err(error) => hull_testkit::skip!("{error}"),
    }
}

/// Whether this is the virtual machine, whose kernel has the device mapper and quotas.
fn inside() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| name.trim() == "hull-vm")
}

/// In the virtual machine: the contract of devicemapper, and overlay2's sizes on xfs with project quotas.
#[test]
fn what_only_the_virtual_machine_has() {
    if inside() {
        return;
    }
    if let Some(reason) = hull_testkit::vm::missing() {
        hull_testkit::skip!("no virtual machine: {reason}");
        return;
    }
    let mut machine = hull_testkit::vm::Vm::new().unwrap().memory_mib(2048);
    for name in [
        "dmsetup",
        "losetup",
        "mkfs.ext4",
        "e2fsck",
        "resize2fs",
        "mkfs.xfs",
    ] {
        let Some(program) = hull_testkit::skips::program(name) else {
            hull_testkit::skip!("{name} is not installed");
            return;
        };
        machine = machine
            .program(&format!("usr/sbin/{name}"), program)
            .unwrap();
    }
    let this = std::env::current_exe().unwrap();
    let report = machine
        .program("usr/bin/inside", this)
        .map(|vm| vm.copy("etc/mke2fs.conf", "/etc/mke2fs.conf"))
        .unwrap()
        .unwrap()
        .case(
            "contract",
            "mkdir -p /tmp; mount -t tmpfs none /tmp; \
             for module in loop ext4 dm_mod dm_thin_pool; do modprobe $module || exit 1; done; \
             inside --nocapture --exact devicemapper_keeps_the_contract",
        )
        .case(
            "quota",
            "modprobe xfs && modprobe overlay || exit 1; mkdir -p /disk; truncate -s 400M /tmp/xfs; mkfs.xfs -q /tmp/xfs && \
             mount -o loop,pquota /tmp/xfs /disk && inside --nocapture --exact overlay2_keeps_sizes_where_there_are_quotas",
        )
        .run()
        .unwrap();
    report.case("contract").ok();
    report.case("quota").ok();
}

#[test]
fn devicemapper_keeps_the_contract() {
    if inside() {
        contract("devicemapper", &TempRoot::on_disk("store").folder("root"));
    }
}

/// On `/disk`, which is xfs with `pquota` in the virtual machine.
#[test]
fn overlay2_keeps_sizes_where_there_are_quotas() {
    if !inside() {
        return;
    }
    let bench = Bench::open("overlay2", Path::new("/disk"));
    bench.layer("base", None, &base());
    let fill = |mounted: &Mounted| {
        (0..64).find_map(|index| {
            let file = mounted.path(&format!("file-{index}"));
            let outcome = std::fs::write(&file, vec![index as u8; 1 << 20])
                .and_then(|()| std::fs::File::open(&file)?.sync_all());
            outcome.err()
        })
    };
    let mounts = bench.driver.prepare("box", Some("base")).unwrap();
    bench.driver.limit("box", 4 << 20).unwrap();
    let mounted = Mounted::new(&mounts);
    let other = Mounted::new(&bench.driver.prepare("other", Some("base")).unwrap());
    // Copied up through the work directory, which is of the same project.
    std::fs::write(mounted.path("dir/kept"), "changed").unwrap();
    let full = fill(&mounted).expect("64 MiB went into 4 MiB");
    assert!(
        matches!(
            full.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ),
        "{full:?}"
    );
    assert!(fill(&other).is_none(), "only the one is limited");
    drop((mounted, other));
    bench.driver.remove("other").unwrap();
    // What was committed may be built upon without the limit.
    bench.driver.commit("boxed", "box").unwrap();
    let above = Mounted::new(&bench.driver.prepare("above", Some("boxed")).unwrap());
    assert!(fill(&above).is_none());
    drop(above);
    bench.driver.remove("above").unwrap();
    let db = Db::open("/disk/other.db").unwrap();
    let options = ["overlay2.size=2M".to_owned()];
    let driver = open(Some("overlay2"), &options, Path::new("/disk/sized"), db).unwrap();
    let mounted = Mounted::new(&driver.prepare("box", None).unwrap());
    assert!(fill(&mounted).is_some(), "the daemon's own size");
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

/// Why each driver that is not here cannot be had: the reason, and never another error.
#[test]
fn drivers_that_cannot_be_had_say_why() {
    let temp = TempRoot::new("store");
    let db = Db::open(temp.join("state.db")).unwrap();
    for (name, why) in [
        ("zfs", "zfs"),
        ("aufs", "the kernel has no aufs"),
        ("devicemapper", "dmsetup|device mapper"),
        ("btrfs", "does not lie on a btrfs file system"),
        ("erofs", "erofs|not on tmpfs"),
        (
            "nonsense",
            "there is no such driver; choose one of overlay2, ",
        ),
    ] {
        let error = match open(Some(name), &[], &temp.join("snapshots"), db.clone()) {
            Err(error) => error,
            Ok(_) => {
                hull_testkit::skip!("{name} can be had here");
                continue;
            }
        };
        assert!(matches!(error, Error::Driver { .. }), "{error:?}");
        let said = error.to_string();
        let start = format!("storage driver \"{name}\" cannot be used: ");
        let rest = said.strip_prefix(&start).expect(&said);
        assert!(why.split('|').any(|part| rest.contains(part)), "{said}");
    }
}

#[test]
fn storage_options_are_known_or_refused() {
    let temp = TempRoot::new("store");
    let db = Db::open(temp.join("state.db")).unwrap();
    let open = |driver, option: &str| {
        let options = [option.to_owned()];
        open(Some(driver), &options, &temp.join("snapshots"), db.clone())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        open("overlay2", "overlay2.override_kernel_check=true"),
        Ok(())
    );
    for (driver, option, why) in [
        (
            "overlay2",
            "overlay2.nonsense=1",
            "unknown option overlay2.nonsense",
        ),
        ("overlay2", "overlay2.size=1G", ")"),
        ("vfs", "overlay2.size=1G", "unknown option overlay2.size"),
        (
            "vfs",
            "nonsense",
            "Unable to parse key/value option: nonsense",
        ),
    ] {
        let error = open(driver, option).unwrap_err();
        assert!(error.ends_with(why), "{error}");
    }
}

/// A size that the driver cannot hold is refused in Docker's words.
#[test]
fn a_size_is_kept_or_refused() {
    let temp = TempRoot::new("store");
    for (name, why) in [
        (
            "overlay2",
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ),
        ("vfs", "--storage-opt is not supported for vfs"),
    ] {
        let bench = Bench::open(name, &temp.folder(name));
        bench.layer("base", None, &base());
        bench.driver.prepare("box", Some("base")).unwrap();
        let error = bench.driver.limit("box", 1 << 30).unwrap_err();
        assert_eq!(error.to_string(), why);
    }
    let Some(disk) = Loop::new("mkfs.btrfs") else {
        hull_testkit::skip!("no btrfs: neither mkfs.btrfs nor the kernel's module");
        return;
    };
    let bench = Bench::open("btrfs", &disk.mount);
    bench.layer("base", None, &base());
    let mounted = Mounted::new(&bench.driver.prepare("box", Some("base")).unwrap());
    bench.driver.limit("box", 4 << 20).unwrap();
    let mut written = 0;
    let full = (0..64).find_map(|index| {
        let file = mounted.path(&format!("file-{index}"));
        let outcome = std::fs::write(&file, vec![index as u8; 1 << 20])
            .and_then(|()| std::fs::File::open(&file)?.sync_all());
        written += 1;
        outcome.err()
    });
    let full = full.expect("64 MiB went into 4 MiB");
    assert!(
        matches!(full.kind(), std::io::ErrorKind::QuotaExceeded),
        "{full:?} after {written} MiB"
    );
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
