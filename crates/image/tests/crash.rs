//! kill -9 in the middle of pull and load: the next start sweeps, nothing referenced is lost, nothing else is left.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::server::{Served, Server};
use common::{Store, quick, read, reference};
use hull_image::{Images, ImagesOptions, LoadOptions, ProgressSink, PullOptions};
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar};

/// What the process that is to be killed does: `operation`, root and what, separated by spaces.
const WORK: &str = "HULL_TEST_CRASH_WORK";

/// Not a test: this program started again, to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let [operation, root, what] = work.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{work}")
    };
    let root = std::path::Path::new(root);
    let db = hull_state::Db::open(root.join("state.db")).unwrap();
    let content = hull_store::content::Content::open(root.join("blobs")).unwrap();
    let driver =
        hull_store::snapshot::open(None, &[], &root.join("snapshots"), db.clone()).unwrap();
    let options = ImagesOptions {
        registries: quick(),
        ..ImagesOptions::new(db, content, driver)
    };
    let images = Images::new(options).unwrap();
    let none = ProgressSink::none();
    match operation {
        "pull" => drop(
            images
                .pull(&reference(what), &PullOptions::default(), &none)
                .await
                .unwrap(),
        ),
        _ => {
            let file = std::fs::File::open(what).unwrap();
            let load = move || images.load(file, &LoadOptions::default(), &none).map(drop);
            tokio::task::spawn_blocking(load).await.unwrap().unwrap();
        }
    }
}

fn start(operation: &str, root: &Path, what: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker"])
        .env(WORK, format!("{operation} {} {what}", root.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// An image with enough in it to be killed in the middle.
fn fixture() -> Fixture {
    let layer = |name: &str| {
        let mut tar = Tar::new().folder(name, 0o755);
        for index in 0..400 {
            tar = tar.file(
                &format!("{name}/{index}"),
                0o644,
                format!("{name} {index}").repeat(200),
            );
        }
        tar.finish()
    };
    Fixture::layered("crash/app:1")
        .layer(layer("x"))
        .layer(layer("y"))
}

/// Opens what a killed process left, as the next start does, and checks it.
fn check(temp: TempRoot, kept: &str) -> TempRoot {
    let store = Store::at(temp, quick());
    store.assert_tidy();
    let image = store
        .images
        .resolve(kept)
        .expect("what was there before is still there");
    assert_eq!(
        read(&store.top_layer(&image).join("bin/busybox-or-not")),
        "kept"
    );
    let Store { temp, .. } = store;
    temp
}

/// Kills the operation at many moments between its start and its end.
fn kill_everywhere(mut temp: TempRoot, operation: &str, what: &str, whole: Duration) -> TempRoot {
    const STEPS: u32 = 16;
    for step in 0..STEPS {
        let mut child = start(operation, temp.path(), what);
        std::thread::sleep(whole * step / STEPS);
        child.kill().unwrap();
        child.wait().unwrap();
        temp = check(temp, "kept:1");
    }
    temp
}

/// How long the operation takes when nobody kills it.
fn duration(operation: &str, what: &str) -> Duration {
    let scratch = TempRoot::new("image");
    let started = Instant::now();
    assert!(
        start(operation, scratch.path(), what)
            .wait()
            .unwrap()
            .success()
    );
    started.elapsed()
}

fn kept() -> TempRoot {
    let store = Store::new();
    let image = Fixture::new("kept:1").layer(
        Tar::new()
            .file("bin/busybox-or-not", 0o644, "kept")
            .finish(),
    );
    let archive = std::io::Cursor::new(image.docker_archive());
    store
        .images
        .load(archive, &LoadOptions::default(), &ProgressSink::none())
        .unwrap();
    let Store { temp, .. } = store;
    temp
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull() {
    let image = Served::new(&fixture());
    let server = Server::start(move |asked| image.answer(asked)).await;
    let name = format!("{}/crash/app:1", server.host);
    let target = name.clone();
    let killed = move || kill_everywhere(kept(), "pull", &target, duration("pull", &target));
    let store = Store::at(tokio::task::spawn_blocking(killed).await.unwrap(), quick());
    let outcome = store
        .images
        .pull(
            &reference(&name),
            &PullOptions::default(),
            &ProgressSink::none(),
        )
        .await
        .unwrap();
    assert_eq!(outcome.image_id.to_string(), fixture().id());
    let image = store.images.resolve(&name).unwrap();
    assert_eq!(
        std::fs::read_dir(store.top_layer(&image).join("y"))
            .unwrap()
            .count(),
        400
    );
    store.assert_tidy();
}

#[test]
fn a_killed_load() {
    let scratch = TempRoot::new("image");
    let archive = scratch.file("archive.tar", fixture().docker_archive());
    let path = archive.to_str().unwrap();
    let temp = kill_everywhere(kept(), "load", path, duration("load", path));
    let store = Store::at(temp, quick());
    let file = std::fs::File::open(&archive).unwrap();
    store
        .images
        .load(file, &LoadOptions::default(), &ProgressSink::none())
        .unwrap();
    assert_eq!(store.images.resolve("crash/app:1").unwrap().layers.len(), 5);
    store.assert_tidy();
}
