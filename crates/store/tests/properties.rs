//! Properties of layers on the real file system: whatever is packed comes out the same from its own diff, and nothing that
//! a layer says reaches a file outside its root.

mod common;

use std::path::Path;

use std::os::fd::AsRawFd;

use common::{apply_to, tree};
use hull_state::Db;
use hull_store::layer::tar::{Entry, Kind, Writer};
use hull_store::layer::{IdMaps, diff};
use hull_store::snapshot::{DiffSource, Snapshotter, open};
use hull_testkit::TempRoot;
use proptest::prelude::*;

/// Few names, so that members meet one another; some of them lead up, out or nowhere.
fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")],
        1 => prop_oneof![Just(".."), Just("."), Just(""), Just("outside"), Just("\u{e9}")],
        1 => prop_oneof![Just(".wh.a"), Just(".wh.b"), Just(".wh..wh..opq"), Just(".wh."), Just(".wh...")],
    ]
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), proptest::collection::vec(name(), 1..5)).prop_map(|(absolute, parts)| {
        format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::File),
        3 => Just(Kind::Directory),
        3 => Just(Kind::Symlink),
        2 => Just(Kind::HardLink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharDevice),
    ]
}

fn member() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let attributes = (
        0u32..0o10000,
        0u64..70_000,
        0u64..70_000,
        -10i64..2_000_000_000,
        0u32..1_000_000_000,
    );
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    (kind(), path(), path(), attributes, content).prop_map(
        |(kind, path, link, attributes, content)| {
            let (mode, uid, gid, seconds, nanos) = attributes;
            let content = if kind == Kind::File && !path.ends_with('/') {
                content
            } else {
                Vec::new()
            };
            let has_link = matches!(kind, Kind::Symlink | Kind::HardLink);
            let entry = Entry {
                kind,
                path: path.into_bytes(),
                link: if has_link {
                    link.into_bytes()
                } else {
                    Vec::new()
                },
                mode,
                uid,
                gid,
                size: content.len() as u64,
                mtime: (seconds, nanos),
                dev_major: u32::from(kind == Kind::CharDevice),
                dev_minor: if kind == Kind::CharDevice { 3 } else { 0 },
                ..Entry::default()
            };
            (entry, content)
        },
    )
}

fn pack(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in members {
        writer.member(entry).unwrap();
        writer.data(content).unwrap();
    }
    writer.finish().unwrap()
}

/// The tree without whiteouts' times, which are nobody's, and without directories that had no entry of their own.
fn stable(root: &Path, implicit: &[Vec<u8>]) -> Vec<String> {
    let implicit: Vec<String> = implicit
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    let own = |line: &String| {
        !implicit
            .iter()
            .any(|path| line.starts_with(&format!("{path} d ")))
    };
    let timeless = |line: String| match line.split_once(" c dev=0:0 ") {
        Some((path, _)) => format!("{path} whiteout"),
        None => line,
    };
    tree(root).into_iter().filter(own).map(timeless).collect()
}

/// Commits the layers one on the other, up to the first that is refused; gives how many there are and what is seen of them.
fn stacked(driver: &'static str, root: &Path, layers: &[Vec<u8>]) -> (usize, Vec<String>) {
    let db = Db::open(root.join("state.db")).unwrap();
    let driver = open(Some(driver), &[], &root.join("snapshots"), db).unwrap();
    let mut top: Option<String> = None;
    let mut count = 0;
    for archive in layers {
        let (key, name) = (format!("stage-{count}"), format!("layer-{count}"));
        let dir = driver.stage(&key).unwrap();
        let Ok(applied) = apply_to(archive, &dir) else {
            break;
        };
        if driver
            .commit_layer(&name, &key, top.as_deref(), &applied.pending)
            .is_err()
        {
            break;
        }
        top = Some(name);
        count += 1;
    }
    let seen = top.map_or_else(Vec::new, |top| seen(&*driver, &top));
    (count, seen)
}

/// The whole tree of a committed layer and those below. Times of directories and attributes of the root are not compared: a
/// directory's time changes with what is done in it, and a layer need not have an entry for its root.
fn seen(driver: &dyn Snapshotter, layer: &str) -> Vec<String> {
    let mounts = driver.view("look", layer).unwrap();
    let [mount] = mounts.as_slice() else {
        panic!("one mount: {mounts:?}")
    };
    let source = mount.source.clone().unwrap_or_default();
    let root = match mount.kind.as_deref() {
        Some("bind") => hull_sys::path::open_dir(Path::new(&source)).unwrap(),
        kind => {
            let kind = kind.unwrap_or_default();
            hull_sys::mount::detached(kind, Some(&source), &mount.options).unwrap()
        }
    };
    let timeless = |line: String| match line.split_once(" time=") {
        Some((start, rest)) if start.contains(" d mode=") => {
            let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
            format!("{start} {rest}").replace("trusted.overlay.opaque=79", "")
        }
        _ => line,
    };
    let path = format!("/proc/self/fd/{}/.", root.as_raw_fd());
    tree(Path::new(&path))
        .into_iter()
        .filter(|line| !line.starts_with(" d "))
        .map(timeless)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whiteouts, opaque directories, hard links into layers below, files over directories and back: a driver that joins
    /// layers and one that lays them over a copy show the same.
    #[test]
    fn drivers_show_the_same_of_any_layers(
        layers in proptest::collection::vec(proptest::collection::vec(member(), 1..12), 1..4)
    ) {
        let temp = TempRoot::new("store");
        let layers: Vec<Vec<u8>> = layers.iter().map(|members| pack(members)).collect();
        let joined = stacked("overlay2", &temp.folder("joined"), &layers);
        let copied = stacked("vfs", &temp.folder("copied"), &layers);
        prop_assert_eq!(joined, copied);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_stays_in_its_root(members in proptest::collection::vec(member(), 1..25)) {
        let temp = TempRoot::new("store");
        let outside = temp.folder("outside");
        std::fs::write(outside.join("a"), "untouched").unwrap();
        let root = temp.folder("root/layer");
        let before = (tree(&outside), std::fs::read_dir(temp.path()).unwrap().count());
        let _ = apply_to(&pack(&members), &root);
        prop_assert_eq!((tree(&outside), std::fs::read_dir(temp.path()).unwrap().count()), before);
        prop_assert_eq!(std::fs::read_dir(temp.join("root")).unwrap().count(), 1);
        let back = std::fs::symlink_metadata(&root).unwrap();
        prop_assert!(back.is_dir());
    }

    #[test]
    fn unpacked_packed_and_unpacked_again_is_the_same(members in proptest::collection::vec(member(), 1..25)) {
        let temp = TempRoot::new("store");
        let (first, second) = (temp.folder("first"), temp.folder("second"));
        let Ok(applied) = apply_to(&pack(&members), &first) else { return Ok(()) };
        let source = DiffSource::Upper { upper: first.clone().into(), lowers: Vec::new() };
        let archive = diff(&source, &[], &IdMaps::default(), Vec::new()).unwrap();
        let again = apply_to(&archive, &second).unwrap();
        prop_assert!(again.pending.links.is_empty() && again.pending.implicit_dirs.is_empty());
        let opaque = |line: &String| !line.contains("trusted.overlay.opaque");
        let mut expected = stable(&first, &applied.pending.implicit_dirs);
        let mut found = stable(&second, &applied.pending.implicit_dirs);
        // With nothing below, an opaque mark says nothing and is not packed.
        expected.retain(opaque);
        found.retain(|line| expected.iter().any(|other| other.split(' ').next() == line.split(' ').next()));
        // The layer's own attributes are the root's, which a diff does not have.
        expected.retain(|line| !line.starts_with(" d "));
        found.retain(|line| !line.starts_with(" d "));
        prop_assert_eq!(found, expected);
    }
}
