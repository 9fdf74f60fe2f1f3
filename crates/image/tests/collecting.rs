//! Collecting garbage: while everything else goes on, and to the byte.

mod common;

use std::collections::BTreeSet;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::server::{Served, Server};
use common::{Store, check_blobs, reference};
use hull_image::{ImportOptions, LoadOptions, ProgressSink, PullOptions};
use hull_testkit::image::{Image as Fixture, Tar};

fn layer(name: &str) -> Vec<u8> {
    Tar::new()
        .folder(name, 0o755)
        .file(&format!("{name}/file"), 0o644, name.repeat(3000))
        .hardlink(&format!("{name}/again"), &format!("{name}/file"))
        .symlink(&format!("{name}/link"), "file")
        .finish()
}

/// All of them stand on the same lowest layer.
fn fixture(name: &str) -> Fixture {
    Fixture::new(&format!("{name}:1"))
        .layer(layer("base"))
        .layer(layer(name))
}

fn load(store: &Store, fixture: &Fixture) {
    let archive = Cursor::new(fixture.docker_archive());
    store
        .images
        .load(archive, &LoadOptions::default(), &ProgressSink::none())
        .unwrap();
}

fn whole(store: &Store, name: &str) {
    let saved = store.images.save(&[name.to_owned()], Vec::new());
    check_blobs(&saved.unwrap_or_else(|error| panic!("{name}: {}", error.sentence())));
    let image = store.images.resolve(name).unwrap();
    for layer in &image.layers {
        let key = layer.chain_id.to_string();
        assert!(
            store
                .snapshotter
                .upper_dir(&key)
                .unwrap()
                .join(".")
                .exists(),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_being_made_is_collected() {
    const ROUNDS: usize = 12;
    let image = Served::new(&fixture("pulled"));
    let server = Server::start(move |asked| image.answer(asked)).await;
    let store = &Store::new();
    let done = &AtomicBool::new(false);
    let none = &ProgressSink::none();
    let runtime = &tokio::runtime::Handle::current();
    let name = &format!("{}/x/pulled:1", server.host);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let mut makers = Vec::new();
            makers.push(scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let options = PullOptions::default();
                    runtime
                        .block_on(store.images.pull(&reference(name), &options, none))
                        .unwrap();
                    whole(store, name);
                    store.images.remove(name, true, true, &[]).unwrap();
                }
            }));
            makers.push(scope.spawn(move || {
                for _ in 0..ROUNDS {
                    load(store, &fixture("loaded"));
                    whole(store, "loaded:1");
                    store.images.remove("loaded:1", true, true, &[]).unwrap();
                }
            }));
            makers.push(scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let options = ImportOptions {
                        reference: Some(reference("imported:1")),
                        ..ImportOptions::default()
                    };
                    store
                        .images
                        .import(Cursor::new(layer("base")), &options)
                        .unwrap();
                    whole(store, "imported:1");
                    store.images.remove("imported:1", true, true, &[]).unwrap();
                }
            }));
            let collector = scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    store.images.collect_garbage().unwrap();
                    store.images.prune(&|_| false, false, &[]).unwrap();
                }
            });
            let outcomes: Vec<_> = makers.into_iter().map(|maker| maker.join()).collect();
            done.store(true, Ordering::Relaxed);
            collector.join().unwrap();
            for outcome in outcomes {
                outcome.unwrap();
            }
        });
    });
    store.images.collect_garbage().unwrap();
    assert!(store.content.walk().unwrap().is_empty());
    assert!(store.snapshotter.walk().unwrap().is_empty());
    store.assert_tidy();
}

/// Bytes of the files below, a hard link once, as `du --apparent-size` counts them without directories.
fn du(dir: &Path, seen: &mut BTreeSet<u64>) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let found = entry.path().symlink_metadata().unwrap();
        if found.is_dir() {
            bytes += du(&entry.path(), seen);
        } else if found.is_file() && seen.insert(found.ino()) {
            bytes += found.size();
        }
    }
    bytes
}

#[test]
fn what_a_prune_says_is_what_the_disk_gets() {
    let store = Store::new();
    for name in ["one", "two", "three"] {
        load(&store, &fixture(name));
    }
    let used = || {
        let mut seen = BTreeSet::new();
        du(&store.temp.join("blobs"), &mut seen) + du(&store.temp.join("snapshots"), &mut seen)
    };
    let mut before = used();
    let two = store.images.resolve("two:1").unwrap().id;
    // Without `all` nothing: every image has a name.
    let nothing = store.images.prune(&|_| false, false, &[]).unwrap();
    assert_eq!(
        (nothing.removed.len(), nothing.reclaimed, used()),
        (0, 0, before)
    );
    // A filter keeps one; what it shares with the others stays too.
    let pruned = store
        .images
        .prune(&|image| image.id == two, true, &[])
        .unwrap();
    assert_eq!(pruned.reclaimed, before - used());
    assert!(pruned.reclaimed > 0);
    let left: Vec<_> = store
        .images
        .list()
        .unwrap()
        .into_iter()
        .map(|image| image.id)
        .collect();
    assert_eq!(left, std::slice::from_ref(&two));
    whole(&store, "two:1");
    before = used();
    let user = hull_image::ImageUser {
        container_id: "c".repeat(64),
        image_id: two,
        running: false,
    };
    let used_by = store
        .images
        .prune(&|_| false, true, std::slice::from_ref(&user))
        .unwrap();
    assert_eq!((used_by.removed.len(), used_by.reclaimed), (0, 0));
    let last = store.images.prune(&|_| false, true, &[]).unwrap();
    assert_eq!(last.reclaimed, before);
    assert_eq!(used(), 0);
}

/// What an interrupted download has left is counted, and goes with a prune to the byte; one under way is left alone.
#[test]
fn partial_downloads_are_counted_and_pruned() {
    use std::io::Write as _;
    let store = Store::new();
    let digest = |bytes: &[u8]| hull_oci::Digest::sha256_of(bytes);
    let begin = |bytes: &[u8], of: &[u8]| {
        let mut writer = store
            .content
            .resume(digest(of), Some(of.len() as u64))
            .unwrap();
        writer.write_all(bytes).unwrap();
        writer
    };
    let (cut, whole) = (vec![1; 300_000], vec![2; 50_000]);
    drop(begin(&cut[..270_000], &cut));
    let under_way = begin(&whole, &whole);
    assert_eq!(store.images.partial_bytes().unwrap(), 320_000);
    let outcome = store.images.prune(&|_| false, false, &[]).unwrap();
    assert_eq!(outcome.reclaimed, 270_000);
    assert_eq!(store.images.partial_bytes().unwrap(), 50_000);
    assert_eq!(under_way.commit().unwrap(), digest(&whole));
    // What was pruned is begun anew.
    let again = store
        .content
        .resume(digest(&cut), Some(cut.len() as u64))
        .unwrap();
    assert_eq!(again.resume_offset(), 0);
}
