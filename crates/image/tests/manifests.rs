//! What an image's name stands for: the manifests of the index that led to it, here or not.

mod common;

use common::server::{Answer, Asked, Served, Server};
use common::{Store, reference};
use hull_image::{ManifestKind, ProgressSink, PullOptions};
use hull_oci::Platform;
use hull_testkit::image::{Image as Fixture, Tar, digest};
use serde_json::json;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn image() -> Fixture {
    Fixture::new("x:1").layer(Tar::new().file("a", 0o644, "content").finish())
}

async fn pulled(store: &Store, server: &Server) -> hull_image::Image {
    let name = reference(&format!("{}/x:1", server.host));
    let (options, none) = (PullOptions::default(), ProgressSink::none());
    store.images.pull(&name, &options, &none).await.unwrap();
    store.images.resolve(&name.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_an_index_are_told() {
    let served = Served::new(&image());
    let own = digest(&served.manifest);
    let absent = digest(b"another platform's");
    let host = Platform::host();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": own, "size": served.manifest.len(), "platform": {"os": host.os, "architecture": host.architecture}},
        {"mediaType": MANIFEST, "digest": absent, "size": 500, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": MANIFEST, "digest": digest(b"attestation"), "size": 400, "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": own}},
    ]})
    .to_string();
    let size = served.manifest.len() as u64;
    let blobs: u64 = served.blobs.values().map(|blob| blob.len() as u64).sum();
    let server = Server::start(
        move |asked: &Asked| match asked.path.ends_with("/manifests/1") {
            true => Answer::ok(index.clone())
                .header("content-type", INDEX)
                .header("docker-content-digest", &digest(index.as_bytes())),
            false => served.answer(asked),
        },
    )
    .await;
    let store = Store::new();
    let image = pulled(&store, &server).await;
    let all = store.images.list().unwrap();
    let manifests = store.images.manifests(&image, &all).unwrap();
    let [own_one, absent_one, attestation] = manifests.as_slice() else {
        panic!("{manifests:#?}")
    };
    assert!(own_one.available);
    assert!(own_one.content >= size, "{own_one:?}");
    assert!(own_one.content <= size + blobs, "{own_one:?}");
    match &own_one.kind {
        ManifestKind::Image {
            platform,
            id,
            unpacked,
        } => {
            assert_eq!(platform.architecture, host.architecture);
            assert_eq!((id.as_ref(), *unpacked), (Some(&image.id), image.size));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(absent_one.descriptor.digest.to_string(), absent);
    assert!(!absent_one.available);
    assert_eq!(absent_one.content, 0);
    assert!(matches!(
        &absent_one.kind,
        ManifestKind::Image { id: None, unpacked: 0, platform } if platform.architecture == "s390x"
    ));
    assert!(
        matches!(&attestation.kind, ManifestKind::Attestation(of) if of.to_string() == own),
        "{attestation:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_an_index_has_its_own() {
    let served = Served::new(&image());
    let own = digest(&served.manifest);
    let server = Server::start(move |asked| served.answer(asked)).await;
    let store = Store::new();
    let image = pulled(&store, &server).await;
    let manifests = store
        .images
        .manifests(&image, &store.images.list().unwrap())
        .unwrap();
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0].descriptor.digest.to_string(), own);
    assert!(manifests[0].available);
}
