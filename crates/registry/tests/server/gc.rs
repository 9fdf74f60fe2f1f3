//! Collection: what goes, what stays, while pushes go on and whatever was asked before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hull_oci::{Algorithm, Digest};
use hull_registry::name::{Name, Reference, Tag};
use hull_registry::storage::{GcOptions, Storage};
use hull_testkit::TempRoot;
use proptest::prelude::*;

use crate::client::{MANIFEST, manifest};
use crate::process::Server;

/// Nothing is spared for its age.
const AT_ONCE: GcOptions = GcOptions {
    grace: Duration::ZERO,
    upload_age_max: Duration::ZERO,
    untagged: false,
    unused: None,
    size_max: None,
};

fn name(text: &str) -> Name {
    Name::new(text).expect("name")
}

fn open() -> (TempRoot, Storage) {
    let temp = TempRoot::new("hull-registry-test");
    let storage = Storage::open(&temp.join("root")).expect("open");
    (temp, storage)
}

fn push_blob(storage: &Storage, repository: &Name, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256_of(bytes);
    let mut upload = storage
        .start_upload(repository, Algorithm::Sha256)
        .expect("start");
    upload.write(bytes).expect("write");
    storage
        .finish_upload(repository, upload, &digest)
        .expect("finish");
    digest
}

/// Blobs first, then the manifest, as a client does. Fails when a blob was collected in between.
fn push_image(
    storage: &Storage,
    repository: &Name,
    reference: &Reference,
    layer: &[u8],
) -> hull_registry::Result<Digest> {
    let config = push_blob(storage, repository, b"{}");
    let layer = (push_blob(storage, repository, layer), layer.len());
    let text = Bytes::from(manifest(&config, 2, &[layer]));
    let reference = match reference {
        Reference::Tag(_) => reference.clone(),
        Reference::Digest(_) => Reference::Digest(Digest::sha256_of(&text)),
    };
    let pushed = storage.put_manifest(repository, &reference, &[], Some(MANIFEST), &text)?;
    Ok(pushed.digest)
}

fn tagged(tag: &str) -> Reference {
    Reference::Tag(Tag::new(tag).expect("tag"))
}

#[test]
fn what_goes_and_what_stays() {
    let (_temp, storage) = open();
    let repository = name("r");
    let image = push_image(&storage, &repository, &tagged("v1"), b"layer").expect("push");
    let loose = push_blob(&storage, &repository, b"nobody needs me");
    let upload = storage
        .start_upload(&repository, Algorithm::Sha256)
        .expect("start")
        .id()
        .clone();
    let young = storage
        .collect_garbage(&GcOptions::default())
        .expect("collect");
    assert_eq!(
        (young.blobs, young.links, young.uploads),
        (0, 0, 0),
        "all is young"
    );
    let report = storage.collect_garbage(&AT_ONCE).expect("collect");
    assert_eq!(
        (report.blobs, report.links, report.uploads, report.bytes),
        (1, 1, 1, 15)
    );
    assert!(!storage.content().has(&loose));
    assert!(storage.upload_status(&repository, &upload).is_err());
    storage.manifest(&repository, &tagged("v1")).expect("stays");
    assert!(
        storage
            .open_blob(&repository, &Digest::sha256_of(b"layer"))
            .is_ok()
    );
    storage
        .delete_manifest(&repository, &Reference::Digest(image.clone()))
        .expect("delete");
    storage.collect_garbage(&AT_ONCE).expect("collect");
    assert_eq!(
        storage.content().walk().expect("walk"),
        [],
        "nothing is left"
    );
}

#[test]
fn untagged_manifests_go_only_when_asked() {
    let (_temp, storage) = open();
    let repository = name("r");
    let old = push_image(&storage, &repository, &tagged("latest"), b"old").expect("push");
    let new = push_image(&storage, &repository, &tagged("latest"), b"new").expect("push");
    storage.collect_garbage(&AT_ONCE).expect("collect");
    storage
        .manifest(&repository, &Reference::Digest(old.clone()))
        .expect("stays");
    let report = storage
        .collect_garbage(&GcOptions {
            untagged: true,
            ..AT_ONCE
        })
        .expect("collect");
    assert_eq!(report.manifests, 1);
    assert!(
        storage
            .manifest(&repository, &Reference::Digest(old))
            .is_err()
    );
    storage
        .manifest(&repository, &Reference::Digest(new))
        .expect("stays");
    assert!(!storage.content().has(&Digest::sha256_of(b"old")));
}

#[test]
fn a_cache_forgets_what_nobody_uses() {
    let (temp, storage) = open();
    let repository = name("r");
    let old = push_image(&storage, &repository, &tagged("old"), b"old").expect("push");
    let used = push_image(&storage, &repository, &tagged("used"), b"used").expect("push");
    for digest in [&old, &used] {
        let link = temp
            .join("root/repositories/r/_manifests/sha256")
            .join(digest.hex());
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(100_000);
        std::fs::File::open(link)
            .and_then(|file| file.set_modified(long_ago))
            .expect("age");
    }
    storage.use_manifest(&repository, &used);
    let unused = Some(Duration::from_secs(50_000));
    let report = storage
        .collect_garbage(&GcOptions { unused, ..AT_ONCE })
        .expect("collect");
    assert_eq!(report.manifests, 1);
    assert!(storage.manifest(&repository, &tagged("old")).is_err());
    storage.collect_garbage(&AT_ONCE).expect("collect");
    assert!(!storage.content().has(&Digest::sha256_of(b"old")));
    storage
        .manifest(&repository, &tagged("used"))
        .expect("stays");
    assert!(
        storage
            .open_blob(&repository, &Digest::sha256_of(b"used"))
            .is_ok()
    );
}

#[test]
fn a_cache_keeps_to_its_size() {
    let (temp, storage) = open();
    let repository = name("r");
    let layers = [b'a', b'b', b'c', b'd'].map(|byte| vec![byte; 10_000]);
    for (index, layer) in layers.iter().enumerate() {
        let tag = tagged(&format!("t{index}"));
        let digest = push_image(&storage, &repository, &tag, layer).expect("push");
        let link = temp
            .join("root/repositories/r/_manifests/sha256")
            .join(digest.hex());
        let used = std::time::SystemTime::now() - Duration::from_secs(1000 - index as u64);
        std::fs::File::open(link)
            .and_then(|file| file.set_modified(used))
            .expect("age");
    }
    let collect = |size_max| {
        let options = GcOptions {
            size_max: Some(size_max),
            ..AT_ONCE
        };
        storage.collect_garbage(&options).expect("collect")
    };
    assert_eq!(collect(1 << 20).manifests, 0, "there is place for all");
    // Two layers and what belongs to them; not three.
    assert_eq!(collect(25_000).manifests, 2);
    for (index, layer) in layers.iter().enumerate() {
        let stays = index >= 2;
        let tag = tagged(&format!("t{index}"));
        assert_eq!(
            storage.manifest(&repository, &tag).is_ok(),
            stays,
            "{index}"
        );
        let digest = Digest::sha256_of(layer);
        assert_eq!(storage.content().has(&digest), stays, "{index}");
    }
}

/// Collects as fast as it can, sparing nothing for its age, while images are pushed: a push may be told that a blob is missing (and
/// a client pushes that again), but an image that was taken is whole.
#[test]
fn pushes_and_collections_at_the_same_time() {
    let (_temp, storage) = open();
    let storage = Arc::new(storage);
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let (storage, done) = (storage.clone(), done.clone());
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                storage
                    .collect_garbage(&GcOptions {
                        upload_age_max: Duration::from_secs(60),
                        ..AT_ONCE
                    })
                    .expect("collect");
                rounds += 1;
            }
            rounds
        })
    };
    let pushers: Vec<_> = (0..3_u8)
        .map(|pusher| {
            let storage = storage.clone();
            std::thread::spawn(move || {
                let repository = name(&format!("r{}", pusher % 2));
                let mut taken = Vec::new();
                for n in 0..60_u8 {
                    let layer = [n, pusher / 2];
                    if push_image(
                        &storage,
                        &repository,
                        &tagged(&format!("t{pusher}-{n}")),
                        &layer,
                    )
                    .is_ok()
                    {
                        taken.push((repository.clone(), format!("t{pusher}-{n}"), layer));
                    }
                }
                taken
            })
        })
        .collect();
    let taken: Vec<_> = pushers
        .into_iter()
        .flat_map(|pusher| pusher.join().expect("pusher"))
        .collect();
    done.store(true, Ordering::Relaxed);
    let rounds: usize = collector.join().expect("collector");
    storage.collect_garbage(&AT_ONCE).expect("collect");
    assert!(
        rounds > 0 && !taken.is_empty(),
        "{rounds} rounds, {} images",
        taken.len()
    );
    for (repository, tag, layer) in taken {
        storage
            .manifest(&repository, &tagged(&tag))
            .expect("manifest");
        storage
            .open_blob(&repository, &Digest::sha256_of(&layer))
            .expect("layer");
        storage
            .open_blob(&repository, &Digest::sha256_of(b"{}"))
            .expect("config");
    }
}

/// Another test that forks at this moment holds the lock's descriptor until it executes its program.
fn open_again(root: &std::path::Path) -> Storage {
    for _ in 0..500 {
        if let Ok(storage) = Storage::open(root) {
            return storage;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Storage::open(root).expect("open again")
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    PushBlob(u8, u8),
    PushImage(u8, u8, Option<u8>),
    Mount(u8, u8, u8),
    DeleteTag(u8, u8),
    DeleteManifest(u8, u8),
    DeleteBlob(u8, u8),
    Collect(bool),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..2_u8, 0..4_u8).prop_map(|(r, b)| Step::PushBlob(r, b)),
        (0..2_u8, 0..4_u8, prop::option::of(0..3_u8))
            .prop_map(|(r, b, t)| Step::PushImage(r, b, t)),
        (0..2_u8, 0..2_u8, 0..4_u8).prop_map(|(r, f, b)| Step::Mount(r, f, b)),
        (0..2_u8, 0..3_u8).prop_map(|(r, t)| Step::DeleteTag(r, t)),
        (0..2_u8, 0..4_u8).prop_map(|(r, b)| Step::DeleteManifest(r, b)),
        (0..2_u8, 0..4_u8).prop_map(|(r, b)| Step::DeleteBlob(r, b)),
        any::<bool>().prop_map(Step::Collect),
        Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

fn layer_bytes(blob: u8) -> [u8; 2] {
    [b'L', blob]
}

fn image_digest(blob: u8) -> Digest {
    let layer = layer_bytes(blob);
    let text = manifest(
        &Digest::sha256_of(b"{}"),
        2,
        &[(Digest::sha256_of(&layer), layer.len())],
    );
    Digest::sha256_of(text.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// After any history, the content of every manifest that is there is there, unless the blob itself was deleted.
    #[test]
    fn no_collection_takes_what_a_manifest_needs(history in steps()) {
        let temp = TempRoot::new("hull-registry-test");
        let root = temp.join("root");
        let mut storage = Storage::open(&root).expect("open");
        let mut deleted = std::collections::HashSet::new();
        for step in history {
            let repository = |r: u8| name(&format!("r{r}"));
            match step {
                Step::PushBlob(r, b) => {
                    push_blob(&storage, &repository(r), &layer_bytes(b));
                    deleted.remove(&(r, b));
                }
                Step::PushImage(r, b, tag) => {
                    let reference = tag.map_or(Reference::Digest(image_digest(b)), |t| tagged(&format!("t{t}")));
                    let pushed = push_image(&storage, &repository(r), &reference, &layer_bytes(b)).expect("push");
                    prop_assert_eq!(pushed, image_digest(b));
                    deleted.remove(&(r, b));
                }
                Step::Mount(r, from, b) => {
                    let digest = Digest::sha256_of(&layer_bytes(b));
                    if storage.mount(&repository(r), Some(&repository(from)), &digest).expect("mount") {
                        deleted.remove(&(r, b));
                    }
                }
                Step::DeleteTag(r, t) => _ = storage.delete_manifest(&repository(r), &tagged(&format!("t{t}"))),
                Step::DeleteManifest(r, b) => {
                    _ = storage.delete_manifest(&repository(r), &Reference::Digest(image_digest(b)));
                }
                Step::DeleteBlob(r, b) => {
                    if storage.delete_blob(&repository(r), &Digest::sha256_of(&layer_bytes(b))).is_ok() {
                        deleted.insert((r, b));
                    }
                }
                Step::Collect(untagged) => {
                    storage.collect_garbage(&GcOptions { untagged, ..AT_ONCE }).expect("collect");
                }
                Step::Restart => {
                    drop(storage);
                    storage = open_again(&root);
                }
            }
            for (r, b) in (0..2_u8).flat_map(|r| (0..4_u8).map(move |b| (r, b))) {
                let reference = Reference::Digest(image_digest(b));
                if storage.find_manifest(&repository(r), &reference).is_err() {
                    continue;
                }
                prop_assert!(storage.manifest(&repository(r), &reference).is_ok());
                let config = Digest::sha256_of(b"{}");
                prop_assert!(storage.open_blob(&repository(r), &config).is_ok());
                let layer = Digest::sha256_of(&layer_bytes(b));
                // Deleted from the repository by name: the bytes stay as long as the manifest.
                prop_assert!(storage.content().has(&layer));
                prop_assert!(storage.open_blob(&repository(r), &layer).is_ok() || deleted.contains(&(r, b)));
            }
            for t in 0..3_u8 {
                for r in 0..2_u8 {
                    if let Ok(Some(_)) = storage.tag(&repository(r), &Tag::new(&format!("t{t}")).expect("tag")) {
                        let tag = tagged(&format!("t{t}"));
                        prop_assert!(storage.manifest(&repository(r), &tag).is_ok());
                    }
                }
            }
        }
    }
}

#[test]
fn a_running_server_collects_when_asked() {
    let server = Server::start(&["--gc-grace", "0s", "--gc-interval", "0"]);
    let (_, text) = server.push_image("a", "v1", b"wanted");
    let loose = server.push_blob("a", b"nobody needs me");
    let asked = std::process::Command::new("kill")
        .args(["-USR1", &server.pid().to_string()])
        .status();
    assert!(asked.expect("kill").success());
    let file = server.root.join("blobs/sha256").join(loose.hex());
    assert!(hull_testkit::process::eventually(
        Duration::from_secs(10),
        || !file.exists()
    ));
    assert_eq!(
        server.get(&format!("/v2/a/blobs/{loose}")).error(),
        "404 BLOB_UNKNOWN"
    );
    assert_eq!(server.get("/v2/a/manifests/v1").expect(200).text(), text);
    server
        .get(&format!("/v2/a/blobs/{}", Digest::sha256_of(b"wanted")))
        .expect(200);
}
