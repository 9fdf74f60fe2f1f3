//! Random orders of load, pull, push, tag, rmi, prune, restart against a model: the same layers come packed in different
//! ways, sources vanish, and still whatever is here can be saved and pushed, and what is removed leaves nothing.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::server::{Answer, Served, Server};
use common::{Store, reference};
use hull_image::{LoadOptions, ProgressSink, PullOptions, PushOptions};
use hull_store::layer::decompress_detect;
use hull_testkit::image::{Image as Fixture, Tar, digest};
use hull_testkit::registry::{Registry, RegistryOptions};
use proptest::prelude::*;

/// Two images; the second stands on the first's lowest layer.
fn fixture(which: usize) -> Fixture {
    let layer = |name: &str| Tar::new().file(name, 0o644, name.repeat(300)).finish();
    let image = Fixture::new("seq:1").layer(layer("base"));
    match which {
        0 => image.layer(layer("a")).layer(layer("b")),
        _ => image.layer(layer("c")),
    }
}

/// How the layers of an image are packed in a source.
#[derive(Debug, Clone, Copy)]
enum Packing {
    Gzip,
    /// The same layers under other digests.
    OtherGzip,
}

fn served(which: usize, packing: Packing) -> Served {
    let fixture = fixture(which);
    let mut served = Served::new(&fixture);
    let Packing::OtherGzip = packing else {
        return served;
    };
    let mut manifest: serde_json::Value = serde_json::from_slice(&served.manifest).unwrap();
    for (index, layer) in fixture.layers.iter().enumerate() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(layer).unwrap();
        let blob = encoder.finish().unwrap();
        manifest["layers"][index]["digest"] = digest(&blob).into();
        manifest["layers"][index]["size"] = blob.len().into();
        served.blobs.insert(digest(&blob), blob);
    }
    served.manifest = manifest.to_string().into_bytes();
    served
        .blobs
        .insert(digest(&served.manifest), served.manifest.clone());
    served
}

#[derive(Debug, Clone)]
enum Step {
    LoadArchive(usize),
    LoadLayout(usize),
    Pull(usize, Packing),
    Push(usize, u8),
    Tag(usize, u8),
    Untag(u8),
    Remove(usize),
    Prune(bool),
    Vanish(bool),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let packing = || prop_oneof![Just(Packing::Gzip), Just(Packing::OtherGzip)];
    prop_oneof![
        3 => (0..2usize).prop_map(Step::LoadArchive),
        1 => (0..2usize).prop_map(Step::LoadLayout),
        4 => (0..2usize, packing()).prop_map(|(which, packing)| Step::Pull(which, packing)),
        3 => (0..2usize, 0..2u8).prop_map(|(which, to)| Step::Push(which, to)),
        1 => (0..2usize, 0..2u8).prop_map(|(which, to)| Step::Tag(which, to)),
        1 => (0..2u8).prop_map(Step::Untag),
        1 => (0..2usize).prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Prune),
        1 => any::<bool>().prop_map(Step::Vanish),
        1 => Just(Step::Reopen),
    ]
}

/// The world outside, and what should be here.
struct Model {
    source: Server,
    gone: Arc<AtomicBool>,
    target: String,
    /// Familiar name to image.
    names: BTreeMap<String, usize>,
    images: BTreeSet<usize>,
}

async fn sources(gone: Arc<AtomicBool>) -> Server {
    let mut all = BTreeMap::new();
    for which in 0..2 {
        all.insert(format!("/v2/gz/{which}/"), served(which, Packing::Gzip));
        all.insert(
            format!("/v2/other/{which}/"),
            served(which, Packing::OtherGzip),
        );
    }
    Server::start(move |asked| {
        if gone.load(Ordering::Relaxed) {
            return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let found = all
            .iter()
            .find(|(path, _)| asked.path.starts_with(path.as_str()));
        match found {
            Some((_, served)) => served.answer(asked),
            None => Answer::status(if asked.path == "/v2/" { 200 } else { 404 }),
        }
    })
    .await
}

impl Model {
    fn id(which: usize) -> String {
        fixture(which).id()
    }

    fn name(&mut self, name: &str, which: usize) {
        self.names.insert(name.to_owned(), which);
        self.images.insert(which);
    }

    async fn apply(&mut self, store: Store, step: &Step) -> Store {
        let none = ProgressSink::none();
        match step {
            Step::LoadArchive(which) | Step::LoadLayout(which) => {
                let archive = match step {
                    Step::LoadArchive(_) => fixture(*which).docker_archive(),
                    _ => layout(&fixture(*which)),
                };
                let options = LoadOptions::default();
                store
                    .images
                    .load(Cursor::new(archive), &options, &none)
                    .unwrap();
                self.name("seq:1", *which);
            }
            Step::Pull(which, packing) => {
                let dir = match packing {
                    Packing::Gzip => "gz",
                    Packing::OtherGzip => "other",
                };
                let name = format!("{}/{dir}/{which}:1", self.source.host);
                let pulled = store
                    .images
                    .pull(&reference(&name), &PullOptions::default(), &none)
                    .await;
                match self.gone.load(Ordering::Relaxed) {
                    true => assert!(pulled.is_err()),
                    false => {
                        assert_eq!(pulled.unwrap().image_id.to_string(), Self::id(*which));
                        self.name(&name, *which);
                    }
                }
            }
            Step::Push(which, to) if self.images.contains(which) => {
                let name = format!("{}/to{to}/x:1", self.target);
                store
                    .images
                    .tag(&Self::id(*which), &reference(&name))
                    .unwrap();
                self.name(&name, *which);
                let options = PushOptions::default();
                let pushed = store
                    .images
                    .push(&reference(&name), &options, &none)
                    .await
                    .unwrap();
                let other = Store::new();
                let pulled = other
                    .images
                    .pull(&reference(&name), &PullOptions::default(), &none)
                    .await
                    .unwrap();
                assert_eq!(pulled.image_id.to_string(), Self::id(*which));
                assert_eq!(pulled.digest, pushed[0].digest);
            }
            Step::Tag(which, to) if self.images.contains(which) => {
                let name = format!("tag:{to}");
                store
                    .images
                    .tag(&Self::id(*which), &reference(&name))
                    .unwrap();
                self.name(&name, *which);
            }
            Step::Untag(to) => {
                let name = format!("tag:{to}");
                let removed = store.images.remove(&name, false, true, &[]);
                match self.names.remove(&name) {
                    None => assert!(removed.is_err()),
                    Some(which) => {
                        removed.unwrap();
                        let named = self.names.values().any(|other| *other == which);
                        let image = store.images.resolve(&Self::id(which));
                        // A digest that a repository knows it by keeps it.
                        assert!(image.is_ok() || !named);
                        if image.is_err() {
                            self.images.remove(&which);
                        }
                    }
                }
            }
            Step::Remove(which) => {
                let removed = store.images.remove(&Self::id(*which), true, true, &[]);
                assert_eq!(removed.is_ok(), self.images.remove(which));
                self.names.retain(|_, other| other != which);
            }
            Step::Prune(all) => {
                store.images.prune(&|_| false, *all, &[]).unwrap();
                if *all {
                    self.names.clear();
                    self.images.clear();
                } else {
                    let named: BTreeSet<usize> = self.names.values().copied().collect();
                    self.images.retain(|which| named.contains(which));
                }
            }
            Step::Vanish(gone) => self.gone.store(*gone, Ordering::Relaxed),
            Step::Reopen => return store.reopen(),
            Step::Push(..) | Step::Tag(..) => {}
        }
        store
    }

    fn check(&self, store: &Store) {
        let list = store.images.list().unwrap();
        let here: BTreeSet<String> = list.iter().map(|image| image.id.to_string()).collect();
        let expected: BTreeSet<String> = self.images.iter().map(|which| Self::id(*which)).collect();
        assert_eq!(here, expected);
        let names: BTreeSet<String> = list
            .iter()
            .flat_map(|image| &image.names)
            .map(hull_oci::Reference::familiar)
            .collect();
        assert_eq!(names, self.names.keys().cloned().collect());
        for which in &self.images {
            let archive = store.images.save(&[Self::id(*which)], Vec::new()).unwrap();
            check_archive(&archive, &fixture(*which));
        }
        store.assert_tidy();
    }
}

fn layout(fixture: &Fixture) -> Vec<u8> {
    let folder = hull_testkit::TempRoot::new("image");
    fixture.write_oci_layout(folder.path()).unwrap();
    let output = std::process::Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .args(["-cf", "-", "."])
        .output()
        .unwrap();
    output.stdout
}

/// The archive holds every blob that it names, and the layers are those of the image.
fn check_archive(archive: &[u8], fixture: &Fixture) {
    let files = common::check_blobs(archive);
    let list: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(
        files[list[0]["Config"].as_str().unwrap()],
        fixture.config_bytes()
    );
    let layers = list[0]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), fixture.layers.len());
    for (layer, expected) in layers.iter().zip(&fixture.layers) {
        let packed = Cursor::new(files[layer.as_str().unwrap()].clone());
        let mut plain = Vec::new();
        let (_, mut reader) = decompress_detect(packed).unwrap();
        reader.read_to_end(&mut plain).unwrap();
        assert_eq!(&plain, expected);
    }
}

fn play(steps: &[Step], target: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let gone = Arc::new(AtomicBool::new(false));
        let mut model = Model {
            source: sources(gone.clone()).await,
            gone,
            target: target.to_owned(),
            names: BTreeMap::new(),
            images: BTreeSet::new(),
        };
        let mut store = Store::new();
        for step in steps {
            store = model.apply(store, step).await;
            model.check(&store);
        }
        store = model.apply(store, &Step::Prune(true)).await;
        model.check(&store);
        assert!(store.content.walk().unwrap().is_empty());
        assert!(store.snapshotter.walk().unwrap().is_empty());
    });
}

#[test]
fn loaded_plain_then_pulled() {
    let Some(registry) = Registry::start(RegistryOptions::default()) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    use Step::{LoadArchive, Prune, Pull, Push, Vanish};
    let load_and_pull = [LoadArchive(0), Pull(0, Packing::Gzip), Prune(false)];
    // With its source the blobs are fetched for the push; without it the manifest is made anew.
    for gone in [false, true] {
        let steps = [&load_and_pull[..], &[Vanish(gone), Push(0, 0), Push(0, 1)]].concat();
        play(&steps, &registry.host());
    }
    let two = [
        Pull(0, Packing::Gzip),
        Pull(0, Packing::OtherGzip),
        Vanish(true),
        Push(0, 0),
    ];
    play(&two, &registry.host());
}

#[test]
fn any_order() {
    let Some(registry) = Registry::start(RegistryOptions::default()) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    let cases = std::env::var("HULL_SEQUENCES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(5);
    let config = ProptestConfig {
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    proptest!(config, |(steps in prop::collection::vec(step(), 3..10))| {
        play(&steps, &registry.host());
    });
}
