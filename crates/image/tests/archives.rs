//! Load, save, import, commit, tag, remove: all on the real file system.

mod common;

use std::io::Cursor;
use std::process::Command;

use common::{Store, read, reference};
use hull_image::{
    CommitOptions, ImageUser, ImportOptions, Kind, LoadOptions, ProgressSink, Removed,
};
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar, gzip};

fn load(store: &Store, archive: Vec<u8>) -> hull_image::Result<Vec<hull_image::Loaded>> {
    store.images.load(
        Cursor::new(archive),
        &LoadOptions::default(),
        &ProgressSink::none(),
    )
}

fn tar_of(folder: &std::path::Path) -> Vec<u8> {
    let output = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .args(["-cf", "-", "."])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn docker_archives_and_layouts_in_every_compression() {
    let fixture = Fixture::layered("team/app:2");
    let layout = TempRoot::new("image");
    fixture.write_oci_layout(layout.path()).unwrap();
    let archives = [
        ("docker", fixture.docker_archive()),
        ("layout", tar_of(layout.path())),
    ];
    for (form, archive) in archives {
        for compressor in ["cat", "gzip", "xz", "bzip2", "zstd"] {
            let Some(program) = hull_testkit::skips::program(compressor) else {
                hull_testkit::skip!("{compressor} is not installed");
                continue;
            };
            let store = Store::new();
            let file = store.temp.file("archive", &archive);
            let args: &[&str] = if compressor == "cat" { &[] } else { &["-c"] };
            let packed = Command::new(program)
                .args(args)
                .arg(&file)
                .output()
                .unwrap()
                .stdout;
            let loaded = load(&store, packed).unwrap();
            assert_eq!(loaded.len(), 1, "{form} {compressor}");
            assert_eq!(loaded[0].image_id.to_string(), fixture.id());
            assert_eq!(loaded[0].names, [reference("team/app:2")]);
            let image = store.images.resolve("team/app:2").unwrap();
            assert_eq!(read(&store.top_layer(&image).join("data/new")), "2");
            store.assert_tidy();
        }
    }
}

#[test]
fn what_is_saved_loads_bit_identical() {
    let first = Store::new();
    load(&first, Fixture::layered("a:1").docker_archive()).unwrap();
    load(&first, Fixture::busybox("b:1").docker_archive()).unwrap();
    first.images.tag("a:1", &reference("a:2")).unwrap();
    let names = |list: &[&str]| {
        list.iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let archive = first
        .images
        .save(&names(&["a", "b:1"]), Vec::new())
        .unwrap();
    assert_eq!(
        archive,
        first
            .images
            .save(&names(&["a", "b:1"]), Vec::new())
            .unwrap()
    );
    let second = Store::new();
    let loaded = load(&second, archive.clone()).unwrap();
    assert!(loaded.len() >= 2, "{loaded:?}");
    for name in ["a:1", "a:2", "b:1"] {
        let (here, there) = (
            first.images.resolve(name).unwrap(),
            second.images.resolve(name).unwrap(),
        );
        assert_eq!(
            (here.id, here.target.digest),
            (there.id, there.target.digest)
        );
    }
    assert_eq!(
        second
            .images
            .save(&names(&["a", "b:1"]), Vec::new())
            .unwrap(),
        archive
    );
    second.assert_tidy();
    let unknown = first
        .images
        .save(&names(&["nothing"]), Vec::new())
        .unwrap_err();
    assert_eq!(unknown.to_string(), "No such image: nothing:latest");
}

#[test]
fn other_programs_read_what_is_saved() {
    let Some(skopeo) = hull_testkit::skips::program("skopeo") else {
        hull_testkit::skip!("skopeo is not installed");
        return;
    };
    let store = Store::new();
    load(&store, Fixture::layered("a:1").docker_archive()).unwrap();
    let archive = store.images.save(&["a:1".to_owned()], Vec::new()).unwrap();
    let file = store.temp.file("saved.tar", archive);
    for form in ["docker-archive", "oci-archive"] {
        let target = store.temp.folder(format!("out-{form}"));
        let output = Command::new(&skopeo)
            .args(["copy", "--insecure-policy", "--quiet"])
            .arg(format!("{form}:{}", file.display()))
            .arg(format!("dir:{}", target.display()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{form}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let store = Store::new();
    let tar = Tar::new()
        .folder("etc", 0o755)
        .file("etc/motd", 0o644, "hello")
        .finish();
    let options = ImportOptions {
        reference: Some(reference("imported")),
        message: "Imported from -".to_owned(),
        ..ImportOptions::default()
    };
    let id = store
        .images
        .import(Cursor::new(gzip(&tar)), &options)
        .unwrap();
    let image = store.images.resolve("imported:latest").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(
        image.layers[0].diff_id.to_string(),
        hull_testkit::image::digest(&tar)
    );
    assert_eq!(read(&store.top_layer(&image).join("etc/motd")), "hello");
    let history = store.images.history("imported").unwrap();
    assert_eq!(
        (history.len(), history[0].size, history[0].comment.as_str()),
        (1, 5, "Imported from -")
    );
    store.assert_tidy();
}

#[test]
fn commit_adds_a_layer() {
    let store = Store::new();
    load(&store, Fixture::layered("base:1").docker_archive()).unwrap();
    let base = store.images.resolve("base:1").unwrap();
    let parent = base.chain_id.clone().unwrap().to_string();
    store.snapshotter.prepare("box", Some(&parent)).unwrap();
    let upper = store.snapshotter.upper_dir("box").unwrap();
    std::fs::write(upper.join("made"), "by the container").unwrap();
    let options = CommitOptions {
        snapshot_key: "box".to_owned(),
        parent: Some(base.id.clone()),
        reference: Some(reference("made:1")),
        author: "anna".to_owned(),
        comment: "why".to_owned(),
        config: base.config.config.clone().unwrap(),
        ..CommitOptions::default()
    };
    let id = store.images.commit(&options).unwrap();
    let made = store.images.resolve("made:1").unwrap();
    assert_eq!(
        (made.id.clone(), made.layers.len()),
        (id, base.layers.len() + 1)
    );
    assert_eq!(made.layers[..base.layers.len()], base.layers);
    assert_eq!(
        read(&store.top_layer(&made).join("made")),
        "by the container"
    );
    let history = store.images.history("made:1").unwrap();
    assert_eq!((history[0].comment.as_str(), history[0].size), ("why", 16));
    // As dockerd: what the layers below are an image of by themselves is named.
    assert_eq!(history[1].id, Some(base.id));
    store.snapshotter.remove("box").unwrap();
    store.assert_tidy();
}

fn user(image: &hull_image::Image, running: bool) -> ImageUser {
    ImageUser {
        container_id: "c".repeat(64),
        image_id: image.id.clone(),
        running,
    }
}

#[test]
fn removal_follows_dockers_rules() {
    let store = Store::new();
    load(&store, Fixture::layered("a:1").docker_archive()).unwrap();
    let image = store.images.tag("a:1", &reference("b:1")).unwrap();
    let short = image.id.short();
    let message = |outcome: hull_image::Result<Vec<Removed>>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        error.to_string()
    };
    assert_eq!(
        message(store.images.remove(short, false, true, &[])),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    assert_eq!(
        store.images.remove("b:1", false, true, &[]).unwrap(),
        [Removed::Untagged("b:1".to_owned())]
    );
    assert_eq!(
        message(
            store
                .images
                .remove("a:1", false, true, &[user(&image, false)])
        ),
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    assert_eq!(
        message(
            store
                .images
                .remove(short, true, true, &[user(&image, true)])
        ),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
        )
    );
    let removed = store.images.remove("a:1", false, true, &[]).unwrap();
    let layers = image
        .layers
        .iter()
        .rev()
        .map(|layer| Removed::Deleted(layer.chain_id.clone()));
    let expected: Vec<_> = [
        Removed::Untagged("a:1".to_owned()),
        Removed::Deleted(image.id.clone()),
    ]
    .into_iter()
    .chain(layers)
    .collect();
    assert_eq!(removed, expected);
    assert!(store.images.list().unwrap().is_empty() && store.content.walk().unwrap().is_empty());
    assert!(store.snapshotter.walk().unwrap().is_empty());
    let unknown = store.images.remove("a:1", false, true, &[]).unwrap_err();
    assert_eq!(
        (unknown.kind(), unknown.to_string().as_str()),
        (Kind::NotFound, "No such image: a:1")
    );
}

#[test]
fn a_forced_removal_leaves_the_container_its_layers() {
    let store = Store::new();
    load(&store, Fixture::layered("a:1").docker_archive()).unwrap();
    let image = store.images.resolve("a:1").unwrap();
    store
        .snapshotter
        .prepare("box", Some(&image.chain_id.clone().unwrap().to_string()))
        .unwrap();
    store
        .images
        .remove("a:1", true, true, &[user(&image, false)])
        .unwrap();
    assert_eq!(store.snapshotter.walk().unwrap().len(), 4);
    store.snapshotter.remove("box").unwrap();
    assert!(store.images.collect_garbage().unwrap() > 0);
    assert!(store.snapshotter.walk().unwrap().is_empty());
}

#[test]
fn prune_takes_what_nobody_uses() {
    let store = Store::new();
    load(&store, Fixture::layered("a:1").docker_archive()).unwrap();
    load(&store, Fixture::busybox("b:1").docker_archive()).unwrap();
    let kept = store.images.prune(&|_| false, false, &[]).unwrap();
    assert!(kept.removed.is_empty(), "nothing is dangling");
    let used = store.images.resolve("b:1").unwrap();
    let pruned = store
        .images
        .prune(&|_| false, true, &[user(&used, false)])
        .unwrap();
    assert!(
        pruned
            .removed
            .contains(&Removed::Untagged("a:1".to_owned()))
            && pruned.reclaimed > 0
    );
    assert_eq!(store.images.list().unwrap().len(), 1);
    store.assert_tidy();
}

#[test]
fn names_and_ids_resolve_as_dockers_do() {
    let store = Store::new();
    load(&store, Fixture::layered("team/a:1").docker_archive()).unwrap();
    let id = store.images.resolve("team/a:1").unwrap().id;
    for text in [
        "docker.io/team/a:1",
        &id.to_string(),
        id.hex(),
        id.short(),
        &id.to_string()[..12],
    ] {
        assert_eq!(store.images.resolve(text).unwrap().id, id, "{text}");
    }
    for (text, message) in [
        ("team/a", "No such image: team/a:latest"),
        (
            "Upper",
            "invalid reference format: repository name (library/Upper) must be lowercase",
        ),
        ("sha256:0000", "No such image: sha256:0000"),
    ] {
        assert_eq!(store.images.resolve(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn bad_archives_leave_nothing() {
    let store = Store::new();
    let whole = Fixture::layered("a:1").docker_archive();
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("rubbish", vec![b'x'; 4096]),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("no manifest", Tar::new().file("x", 0o644, "y").finish()),
        (
            "bad manifest",
            Tar::new().file("manifest.json", 0o644, "{").finish(),
        ),
        (
            "missing layer",
            Tar::new()
                .file("c.json", 0o644, "{}")
                .file(
                    "manifest.json",
                    0o644,
                    r#"[{"Config":"c.json","Layers":["no/layer.tar"]}]"#,
                )
                .finish(),
        ),
        (
            "wrong layer",
            Tar::new()
                .file(
                    "c.json",
                    0o644,
                    format!(
                        r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
                        "0".repeat(64)
                    ),
                )
                .file("l.tar", 0o644, Tar::new().file("f", 0o644, "").finish())
                .file(
                    "manifest.json",
                    0o644,
                    r#"[{"Config":"c.json","Layers":["l.tar"]}]"#,
                )
                .finish(),
        ),
    ];
    for (name, archive) in broken {
        let error = load(&store, archive).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParameter, "{name}: {error}");
        assert!(store.images.list().unwrap().is_empty(), "{name}");
        store.images.collect_garbage().unwrap();
        assert_eq!(store.content.walk().unwrap(), [], "{name}");
        assert_eq!(store.snapshotter.walk().unwrap(), [], "{name}");
    }
}

#[test]
fn a_restart_sweeps_what_a_crash_left() {
    let store = Store::new();
    load(&store, Fixture::layered("a:1").docker_archive()).unwrap();
    store.snapshotter.stage("stage-crashed").unwrap();
    store.content.put(b"an orphan").unwrap();
    let store = store.reopen();
    store.assert_tidy();
    assert_eq!(store.snapshotter.walk().unwrap().len(), 3);
    assert!(store.images.resolve("a:1").is_ok());
}

#[test]
fn what_an_archive_names_and_lacks_is_said() {
    let fixture = Fixture::layered("team/app:2");
    let mut blobs = vec![fixture.id(), fixture.manifest_digest()];
    blobs.push(hull_testkit::image::digest(&gzip(&fixture.layers[1])));
    for missing in blobs {
        let store = Store::new();
        let layout = TempRoot::new("image");
        fixture.write_oci_layout(layout.path()).unwrap();
        let hex = missing.strip_prefix("sha256:").unwrap();
        std::fs::remove_file(layout.join("blobs/sha256").join(hex)).unwrap();
        let error = load(&store, tar_of(layout.path())).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParameter);
        assert_eq!(
            error.to_string(),
            format!("the archive lacks {missing}, which it names")
        );
        store.assert_tidy();
    }
}

#[test]
fn only_the_platforms_asked_for() {
    let store = Store::new();
    let platform = |text: &str| hull_oci::Platform::parse(text).unwrap();
    let options = |platforms: &[&str]| LoadOptions {
        platforms: platforms.iter().map(|text| platform(text)).collect(),
    };
    let none = ProgressSink::none();
    let archive = || Cursor::new(Fixture::busybox("b:1").docker_archive());
    let error = store
        .images
        .load(archive(), &options(&["linux/arm64", "linux/s390x"]), &none);
    assert_eq!(
        error.unwrap_err().to_string(),
        "requested platform (linux/arm64, linux/s390x) not found: the archive has no image for it"
    );
    store.assert_tidy();
    let loaded = store
        .images
        .load(archive(), &options(&["linux/arm64", "linux/amd64"]), &none);
    assert_eq!(loaded.unwrap().len(), 1);
    let names = ["b:1".to_owned()];
    store
        .images
        .select(&names, &[platform("linux/amd64")])
        .unwrap();
    let error = store
        .images
        .select(&names, &[platform("linux/arm64")])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("(linux/amd64) does not match the specified platform (linux/arm64)"),
        "{error}"
    );
}
