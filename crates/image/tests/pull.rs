//! Pulling from a real registry server.

mod common;

use common::{Store, reference, watched, words};
use hull_image::{Auth, Kind, ProgressSink, PullOptions, RegistryConfig};
use hull_testkit::registry::{Registry, RegistryOptions};

fn auth() -> Auth {
    Auth {
        username: "anna".to_owned(),
        password: "secret".to_owned(),
        ..Auth::default()
    }
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
async fn an_image_comes_with_dockers_words_and_again_in_one_look() {
    let registry = registry!(RegistryOptions::default());
    let image = hull_testkit::image::Image::layered("x:1");
    registry.push(&image, "team/layered:1").unwrap();
    let store = Store::new();
    let name = reference(&format!("{}/team/layered:1", registry.host()));
    let (outcome, lines) = watched(async |sink| {
        store
            .images
            .pull(&name, &PullOptions::default(), &sink)
            .await
    })
    .await;
    let outcome = outcome.unwrap();
    assert!(!outcome.up_to_date);
    assert_eq!(outcome.image_id.to_string(), image.id());
    let said = words(&lines);
    assert_eq!(said[0], "1: Pulling from team/layered");
    for word in [
        "Pulling fs layer",
        "Verifying Checksum",
        "Download complete",
        "Pull complete",
    ] {
        assert_eq!(
            said.iter().filter(|line| line.ends_with(word)).count(),
            3,
            "{word}: {said:#?}"
        );
    }
    assert_eq!(said[said.len() - 2], format!("Digest: {}", outcome.digest));
    assert_eq!(
        said[said.len() - 1],
        format!("Status: Downloaded newer image for {name}")
    );

    let here = store.images.resolve(&name.to_string()).unwrap();
    assert_eq!(here.names, std::slice::from_ref(&name));
    assert_eq!(here.repo_digests[0].digest, Some(outcome.digest.clone()));
    assert_eq!(here.layers.len(), 3);
    assert_eq!(common::read(&store.top_layer(&here).join("data/new")), "2");
    store.assert_tidy();

    let (again, lines) = watched(async |sink| {
        store
            .images
            .pull(&name, &PullOptions::default(), &sink)
            .await
    })
    .await;
    assert!(again.unwrap().up_to_date);
    assert_eq!(
        words(&lines).last().unwrap(),
        &format!("Status: Image is up to date for {name}")
    );

    let by_digest = reference(&format!(
        "{}/team/layered@{}",
        registry.host(),
        outcome.digest
    ));
    let other = Store::new();
    let pulled = other
        .images
        .pull(&by_digest, &PullOptions::default(), &ProgressSink::none())
        .await
        .unwrap();
    assert_eq!(pulled.image_id, outcome.image_id);
    assert!(
        other
            .images
            .resolve(&by_digest.to_string())
            .unwrap()
            .names
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_here_are_not_fetched() {
    let registry = registry!(RegistryOptions::default());
    registry
        .push(&hull_testkit::image::Image::busybox("x"), "base:1")
        .unwrap();
    registry
        .push(&hull_testkit::image::Image::layered("x"), "top:1")
        .unwrap();
    let store = Store::new();
    let pull = async |name: &str| {
        let name = reference(&format!("{}/{name}", registry.host()));
        watched(async |sink| {
            store
                .images
                .pull(&name, &PullOptions::default(), &sink)
                .await
                .unwrap()
        })
        .await
    };
    pull("base:1").await;
    let (_, lines) = pull("top:1").await;
    let said = words(&lines);
    assert_eq!(
        said.iter()
            .filter(|line| line.ends_with(": Already exists"))
            .count(),
        1,
        "{said:#?}"
    );
    assert_eq!(
        said.iter()
            .filter(|line| line.ends_with(": Pull complete"))
            .count(),
        2,
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pulls_at_once_share_their_layers() {
    let registry = registry!(RegistryOptions::default());
    for name in ["a:1", "b:1", "c:1"] {
        registry
            .push(&hull_testkit::image::Image::layered("x"), name)
            .unwrap();
    }
    let store = Store::new();
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["a:1", "b:1", "c:1", "a:1"] {
        let images = store.images.clone();
        let name = reference(&format!("{}/{name}", registry.host()));
        tasks.spawn(async move {
            images
                .pull(&name, &PullOptions::default(), &ProgressSink::none())
                .await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.images.list().unwrap().len(), 1);
    assert_eq!(store.images.list().unwrap()[0].names.len(), 3);
    store.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication_over_tls() {
    let account = Some(("anna".to_owned(), "secret".to_owned()));
    let registry = registry!(RegistryOptions {
        account,
        tls: true,
        ..RegistryOptions::default()
    });
    registry
        .push(&hull_testkit::image::Image::busybox("x"), "private:1")
        .unwrap();
    let certs = hull_testkit::TempRoot::new("certs");
    let dir = certs.folder(registry.host());
    std::fs::copy(registry.certificate(), dir.join("ca.crt")).unwrap();
    let config = RegistryConfig {
        certs_dir: Some(certs.path().to_owned()),
        ..common::quick()
    };
    let store = Store::with(config);
    let name = reference(&format!("{}/private:1", registry.host()));
    let none = ProgressSink::none();
    let options = |auth| PullOptions {
        auth,
        ..PullOptions::default()
    };

    let refused = store
        .images
        .pull(&name, &options(None), &none)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert!(
        refused.to_string().ends_with("no basic auth credentials"),
        "{refused}"
    );
    let wrong = Auth {
        password: "wrong".to_owned(),
        ..auth()
    };
    let refused = store
        .images
        .pull(&name, &options(Some(wrong.clone())), &none)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert!(
        refused
            .to_string()
            .contains("unauthorized: authentication required"),
        "{refused}"
    );
    assert!(store.images.login(&registry.host(), &wrong).await.is_err());
    assert_eq!(
        store
            .images
            .login(&registry.host(), &auth())
            .await
            .unwrap()
            .status,
        "Login Succeeded"
    );
    store
        .images
        .pull(&name, &options(Some(auth())), &none)
        .await
        .unwrap();

    let strict = Store::with(RegistryConfig {
        certs_dir: Some(certs.folder("none")),
        ..common::quick()
    });
    strict
        .images
        .pull(&name, &options(Some(auth())), &none)
        .await
        .expect("loopback is insecure by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_in_dockers_words() {
    let registry = registry!(RegistryOptions::default());
    registry
        .push(&hull_testkit::image::Image::busybox("x"), "here:1")
        .unwrap();
    let store = Store::new();
    let pull = async |name: String| {
        store
            .images
            .pull(
                &reference(&name),
                &PullOptions::default(),
                &ProgressSink::none(),
            )
            .await
            .unwrap_err()
    };
    let host = registry.host();
    let unknown = pull(format!("{host}/here:2")).await;
    assert_eq!(unknown.kind(), Kind::NotFound);
    assert_eq!(
        unknown.to_string(),
        format!("manifest for {host}/here:2 not found: manifest unknown: manifest unknown")
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        pull(format!("{host}/here@{digest}")).await.kind(),
        Kind::NotFound
    );
    let refused = pull("127.0.0.1:1/x:1".to_owned()).await;
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert_eq!(
        refused.to_string(),
        "Get \"http://127.0.0.1:1/v2/x/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    store.assert_tidy();
}
