//! Pushing to a real registry server.

mod common;

use std::io::Cursor;

use common::{Store, read, reference, watched, words};
use hull_image::{Auth, Kind, LoadOptions, ProgressSink, PullOptions, PushOptions};
use hull_testkit::image::Image as Fixture;
use hull_testkit::registry::{Registry, RegistryOptions};

fn loaded(name: &str) -> Store {
    let store = Store::new();
    let archive = Cursor::new(Fixture::layered(name).docker_archive());
    store
        .images
        .load(archive, &LoadOptions::default(), &ProgressSink::none())
        .unwrap();
    store
}

macro_rules! registry {
    ($options:expr) => {
        match Registry::start($options) {
            Some(registry) => registry,
            None => {
                hull_testkit::skip!("docker-registry is not installed");
                return;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_pulled_bit_identical() {
    let registry = registry!(RegistryOptions::default());
    let store = loaded("a:1");
    let name = reference(&format!("{}/team/a:1", registry.host()));
    let image = store.images.tag("a:1", &name).unwrap();
    let push = async |name: &hull_oci::Reference| {
        watched(async |sink| {
            store
                .images
                .push(name, &PushOptions::default(), &sink)
                .await
                .unwrap()
        })
        .await
    };
    let (outcome, lines) = push(&name).await;
    assert_eq!((outcome.len(), outcome[0].tag.as_str()), (1, "1"));
    let image = store.images.resolve(&image.id.to_string()).unwrap();
    assert_eq!(
        outcome[0].digest, image.target.digest,
        "compressed for the registry, once"
    );
    assert_eq!(read(&store.top_layer(&image).join("data/new")), "2");
    store.assert_tidy();
    let said = words(&lines);
    assert_eq!(
        said[0],
        format!("The push refers to repository [{}/team/a]", registry.host())
    );
    assert_eq!(
        said.iter()
            .filter(|line| line.ends_with(": Pushed"))
            .count(),
        3,
        "{said:#?}"
    );
    assert_eq!(
        said.last().unwrap(),
        &format!("1: digest: {} size: {}", outcome[0].digest, outcome[0].size)
    );

    let (_, lines) = push(&name).await;
    assert_eq!(
        words(&lines)
            .iter()
            .filter(|line| line.ends_with("Layer already exists"))
            .count(),
        3
    );
    let elsewhere = reference(&format!("{}/other/b:2", registry.host()));
    store.images.tag("a:1", &elsewhere).unwrap();
    let (_, lines) = push(&elsewhere).await;
    assert_eq!(
        words(&lines)
            .iter()
            .filter(|line| line.ends_with("Mounted from team/a"))
            .count(),
        3,
        "{lines:#?}"
    );

    let other = Store::new();
    let pulled = other
        .images
        .pull(&name, &PullOptions::default(), &ProgressSink::none())
        .await
        .unwrap();
    assert_eq!(
        (pulled.image_id, pulled.digest),
        (image.id.clone(), image.target.digest)
    );
    assert_eq!(store.images.resolve("a:1").unwrap().repo_digests.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tags_and_none() {
    let registry = registry!(RegistryOptions::default());
    let store = loaded("a:1");
    let repository = reference(&format!("{}/a", registry.host()));
    for tag in ["x", "y"] {
        store
            .images
            .tag("a:1", &repository.tagged(tag).unwrap())
            .unwrap();
    }
    let none = ProgressSink::none();
    let pushed = store
        .images
        .push(&repository, &PushOptions::default(), &none)
        .await
        .unwrap();
    assert_eq!(
        pushed
            .iter()
            .map(|one| one.tag.as_str())
            .collect::<Vec<_>>(),
        ["x", "y"]
    );
    let other = Store::new();
    let pulled = other
        .images
        .pull_all_tags(&repository, &PullOptions::default(), &none)
        .await
        .unwrap();
    assert_eq!(pulled.len(), 2);
    let unknown = reference(&format!("{}/unknown:1", registry.host()));
    let error = store
        .images
        .push(&unknown, &PushOptions::default(), &none)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let familiar = unknown.familiar_name();
    assert_eq!(
        error.to_string(),
        format!("An image does not exist locally with the tag: {familiar}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_who_is_there() {
    let account = Some(("anna".to_owned(), "secret".to_owned()));
    let registry = registry!(RegistryOptions {
        account,
        ..RegistryOptions::default()
    });
    let store = loaded("a:1");
    let name = reference(&format!("{}/a:1", registry.host()));
    store.images.tag("a:1", &name).unwrap();
    let none = ProgressSink::none();
    let refused = store
        .images
        .push(&name, &PushOptions::default(), &none)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    let auth = Some(Auth {
        username: "anna".to_owned(),
        password: "secret".to_owned(),
        ..Auth::default()
    });
    store
        .images
        .push(&name, &PushOptions { auth }, &none)
        .await
        .unwrap();
}
