//! EIO and ENOSPC at any write, and kill -9 at any system call that changes files, in load, import, pull, push, save, remove,
//! prune and commit.
//!
//! `strace` injects both into a process of its own. Whatever it was: the next start sweeps, nothing that was there before
//! is lost or changed, what says that it is there can be saved bit for bit, and nothing is left over: the bytes on disk are
//! those that the rows tell.
//! `HULL_FAULTS=all` tries every call up to the 150th; otherwise a few.

mod common;

use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::server::{Answer, Served, Server};
use common::{Store, check_blobs, quick, read, reference};
use hull_image::{
    CommitOptions, Image, Images, ImportOptions, LoadOptions, ProgressSink, PullOptions,
    PushOptions,
};
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar};

/// What the process that suffers does: `operation`, root and what, separated by spaces.
const WORK: &str = "HULL_TEST_FAULT_WORK";
/// Calls that change files, by descriptor or by name; those of a plain `write` come apart, for async runtimes wake by them.
const CHANGES: &str = "pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,linkat,symlinkat,mknodat,fsetxattr,setxattr";
/// A process that hangs because of its fault is a failure.
const LIMIT: Duration = Duration::from_secs(60);

fn fixture(name: &str) -> Fixture {
    let layer = |name: &str| {
        Tar::new()
            .folder(name, 0o755)
            .file(&format!("{name}/file"), 0o644, name.repeat(40_000))
            .symlink(&format!("{name}/link"), "file")
            .finish()
    };
    Fixture::new(name).layer(layer("x")).layer(layer(name))
}

fn load(images: &Images, fixture: &Fixture) {
    let archive = Cursor::new(fixture.docker_archive());
    images
        .load(archive, &LoadOptions::default(), &ProgressSink::none())
        .unwrap();
}

/// Not a test: this program started again, to suffer. Without an async runtime where it can be.
#[test]
fn worker() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let [operation, root, what] = work.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{work}")
    };
    // Whoever waits for us may be gone.
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        std::process::exit(9);
    });
    let (images, snapshots) = common::open(Path::new(root), quick());
    let none = ProgressSink::none();
    match operation {
        "load" => {
            let file = std::fs::File::open(what).unwrap();
            images.load(file, &LoadOptions::default(), &none).unwrap();
        }
        "import" => {
            let file = std::fs::File::open(what).unwrap();
            let options = ImportOptions {
                reference: Some(reference("new:1")),
                ..ImportOptions::default()
            };
            images.import(file, &options).unwrap();
        }
        "save" => {
            let file = std::fs::File::create(Path::new(root).join(what)).unwrap();
            let mut file = images.save(&["kept:1".to_owned()], file).unwrap();
            std::io::Write::flush(&mut file).unwrap();
        }
        "remove" => {
            images.remove(what, true, true, &[]).unwrap();
        }
        "prune" => {
            let keep = |image: &Image| image.names.iter().any(|name| name.familiar() == "kept:1");
            images.prune(&keep, true, &[]).unwrap();
        }
        "commit" => {
            let parent = images.resolve("kept:1").unwrap();
            let chain = parent.chain_id.clone().unwrap().to_string();
            snapshots.prepare("container", Some(&chain)).unwrap();
            let upper = snapshots.upper_dir("container").unwrap();
            std::fs::write(upper.join("made"), "here").unwrap();
            let options = CommitOptions {
                snapshot_key: "container".to_owned(),
                parent: Some(parent.id),
                reference: Some(reference(what)),
                ..CommitOptions::default()
            };
            images.commit(&options).unwrap();
        }
        _ => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let name = reference(what);
            runtime.block_on(async {
                match operation {
                    "pull" => {
                        let options = PullOptions::default();
                        images.pull(&name, &options, &none).await.map(drop)
                    }
                    _ => {
                        let options = PushOptions::default();
                        images.push(&name, &options, &none).await.map(drop)
                    }
                }
                .unwrap();
            });
        }
    }
}

/// Runs the operation with a fault at the n-th call of a thread; whether it said that all went well.
fn suffer(strace: &Path, work: &str, calls: &str, action: &str, n: u32) -> bool {
    let mut child = Command::new(strace)
        .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e"])
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:{action}:when={n}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "worker"])
        .env(WORK, work)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = hull_testkit::process::wait(&mut child, LIMIT).unwrap();
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{work}: hangs after {action} at call {n}");
    };
    status.success()
}

/// Opens what is left, as the next start does, and checks all of it.
fn check(root: TempRoot, what: &str, succeeded: bool, expected: &dyn Fn(&Store)) {
    let store = Store::at(root, quick());
    store.assert_tidy();
    let kept = store
        .images
        .resolve("kept:1")
        .unwrap_or_else(|_| panic!("{what}: lost"));
    assert_eq!(
        read(&store.top_layer(&kept).join("kept:1/file")),
        "kept:1".repeat(40_000),
        "{what}"
    );
    for image in store.images.list().unwrap() {
        let archive = store.images.save(&[image.id.to_string()], Vec::new());
        check_blobs(&archive.unwrap_or_else(|error| panic!("{what}: {}", error.sentence())));
        for layer in &image.layers {
            let key = layer.chain_id.to_string();
            assert!(
                store
                    .snapshotter
                    .upper_dir(&key)
                    .unwrap()
                    .join(".")
                    .exists(),
                "{what}"
            );
        }
    }
    if succeeded {
        expected(&store);
    }
    // Taken away as a whole, nothing stays.
    let _ = store.snapshotter.remove("container");
    store.images.prune(&|_| false, true, &[]).unwrap();
    assert!(store.content.walk().unwrap().is_empty(), "{what}");
    assert!(store.snapshotter.walk().unwrap().is_empty(), "{what}");
    store.assert_tidy();
}

/// The base that every run starts from, copied.
fn copy(base: &Path) -> TempRoot {
    let root = TempRoot::new("image");
    let copied = Command::new("cp")
        .args(["-a", "--"])
        .arg(base.join("."))
        .arg(root.path())
        .status()
        .unwrap();
    assert!(copied.success());
    root
}

fn at() -> Vec<u32> {
    match std::env::var("HULL_FAULTS").as_deref() {
        Ok("all") => (1..=150).collect(),
        _ => vec![2, 5, 9, 14, 25, 45],
    }
}

/// All faults in one operation. `prepare` makes the base; `expected` looks at what a success must have left.
fn everywhere(
    operation: &str,
    what: &str,
    calls: &str,
    prepare: impl Fn(&Store),
    expected: impl Fn(&Store),
) {
    let Some(strace) = hull_testkit::skips::program("strace") else {
        hull_testkit::skip!("strace is not installed");
        return;
    };
    let base = Store::new();
    load(&base.images, &fixture("kept:1"));
    prepare(&base);
    let Store {
        temp: base,
        images,
        db,
        content,
        snapshotter,
    } = base;
    drop((images, db, content, snapshotter));
    let mut failed = 0;
    for action in ["signal=SIGKILL", "error=EIO", "error=ENOSPC"] {
        for n in at() {
            let root = copy(base.path());
            let work = format!("{operation} {} {what}", root.path().display());
            let succeeded = suffer(&strace, &work, calls, action, n);
            failed += u32::from(!succeeded);
            let described = format!("{operation}, {action} at call {n}");
            check(root, &described, succeeded, &expected);
        }
    }
    assert!(failed > 0, "{operation}: no fault hit anything");
}

#[test]
fn loading() {
    let scratch = TempRoot::new("image");
    let archive = scratch.file("archive.tar", fixture("new:1").docker_archive());
    let calls = format!("write,{CHANGES}");
    everywhere(
        "load",
        archive.to_str().unwrap(),
        &calls,
        |_| {},
        |store| {
            let image = store.images.resolve("new:1").unwrap();
            assert_eq!(image.id.to_string(), fixture("new:1").id());
        },
    );
}

#[test]
fn removing() {
    let calls = format!("write,{CHANGES}");
    let prepare = |store: &Store| load(&store.images, &fixture("gone:1"));
    everywhere("remove", "gone:1", &calls, prepare, |store| {
        store.images.resolve("gone:1").unwrap_err();
    });
}

#[test]
fn importing() {
    let scratch = TempRoot::new("image");
    let tree = Tar::new().file("made", 0o644, "here").finish();
    let archive = scratch.file("tree.tar", tree);
    let calls = format!("write,{CHANGES}");
    everywhere(
        "import",
        archive.to_str().unwrap(),
        &calls,
        |_| {},
        |store| {
            let image = store.images.resolve("new:1").unwrap();
            assert_eq!(read(&store.top_layer(&image).join("made")), "here");
        },
    );
}

/// What is written elsewhere changes nothing here; a save that says nothing has written everything.
#[test]
fn saving() {
    let calls = format!("write,{CHANGES}");
    everywhere(
        "save",
        "saved.tar",
        &calls,
        |_| {},
        |store| {
            let archive = std::fs::read(store.temp.join("saved.tar")).unwrap();
            check_blobs(&archive);
        },
    );
}

#[test]
fn pruning() {
    let calls = format!("write,{CHANGES}");
    let prepare = |store: &Store| {
        load(&store.images, &fixture("gone:1"));
        load(&store.images, &fixture("gone:2"));
    };
    everywhere("prune", "-", &calls, prepare, |store| {
        assert_eq!(store.images.list().unwrap().len(), 1);
    });
}

#[test]
fn committing() {
    let calls = format!("write,{CHANGES}");
    everywhere(
        "commit",
        "made:1",
        &calls,
        |_| {},
        |store| {
            let image = store.images.resolve("made:1").unwrap();
            assert_eq!(read(&store.top_layer(&image).join("made")), "here");
        },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pulling() {
    let image = Served::new(&fixture("new:1"));
    let server = Server::start(move |asked| image.answer(asked)).await;
    let name = format!("{}/x/new:1", server.host);
    let run = move || {
        everywhere(
            "pull",
            &name,
            CHANGES,
            |_| {},
            |store| {
                let image = store.images.resolve(&name).unwrap();
                assert_eq!(image.id.to_string(), fixture("new:1").id());
            },
        );
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// A push changes what is here too: the layers are compressed.
#[tokio::test(flavor = "multi_thread")]
async fn pushing() {
    let server = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Answer::status(404),
        "POST" => Answer::status(202).header("location", "/upload"),
        "PUT" => Answer::status(201),
        _ => Answer::status(200),
    })
    .await;
    let name = format!("{}/x/new:1", server.host);
    let run = move || {
        let prepare = |store: &Store| {
            load(&store.images, &fixture("new:1"));
            store.images.tag("new:1", &reference(&name)).unwrap();
        };
        everywhere("push", &name, CHANGES, prepare, |store| {
            assert_eq!(store.images.resolve(&name).unwrap().repo_digests.len(), 1);
        });
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}
