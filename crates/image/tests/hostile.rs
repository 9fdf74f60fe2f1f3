//! Registries that fail, lie, cut, stall and redirect: a clear error each, nothing left behind, and no secret told.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::server::{Answer, Asked, Served, Server};
use common::{Store, quick, reference};
use hull_image::{
    Auth, Images, ImagesOptions, Kind, ProgressSink, PullOptions, PullOutcome, RegistryConfig,
};
use hull_oci::Platform;
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar, gzip};

async fn pull_as(
    store: &Store,
    server: &Server,
    auth: Option<Auth>,
) -> hull_image::Result<PullOutcome> {
    let name = reference(&format!("{}/x/y:1", server.host));
    store
        .images
        .pull(
            &name,
            &PullOptions {
                auth,
                platform: None,
            },
            &ProgressSink::none(),
        )
        .await
}

async fn pull(store: &Store, server: &Server) -> hull_image::Result<PullOutcome> {
    pull_as(store, server, None).await
}

fn served() -> Served {
    Served::new(&Fixture::layered("x:1"))
}

fn is_blob(asked: &Asked, digest: &str) -> bool {
    asked.path.ends_with(&format!("/blobs/{digest}"))
}

/// Pulls from a server that must fail, and checks that nothing is left.
async fn refused(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> hull_image::Error {
    let store = Store::new();
    let server = Server::start(answer).await;
    let error = pull(&store, &server).await.unwrap_err();
    for _ in 0..100 {
        // Half-unpacked layers are removed in the background.
        if store.snapshotter.walk().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.snapshotter.walk().unwrap(), []);
    assert!(store.images.list().unwrap().is_empty());
    store.images.collect_garbage().unwrap();
    let store = store.reopen();
    assert_eq!(store.content.walk().unwrap(), []);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_layer() {
    let image = served();
    let layer = image.largest();
    let error = refused(move |asked| {
        let mut answer = image.answer(asked);
        if is_blob(asked, &layer) {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 0xff;
        }
        answer
    })
    .await;
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("digest mismatch"),
        "{}",
        error.sentence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_always_ends_too_early() {
    let image = served();
    let layer = image.largest();
    let error = refused(move |asked| {
        let mut answer = image.answer(asked);
        if is_blob(asked, &layer) {
            answer = Answer {
                only: Some(0),
                ..answer
            };
        }
        answer
    })
    .await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_longer_than_promised() {
    let image = served();
    let layer = image.largest();
    let error = refused(move |asked| {
        let mut answer = image.answer(asked);
        if is_blob(asked, &layer) {
            answer.body.extend_from_slice(&[0; 1000]);
        }
        answer
    })
    .await;
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("size mismatch"),
        "{}",
        error.sentence()
    );
}

/// The bytes of the largest layer that were sent over all connections.
fn sent(server: &Server, layer: &str, size: usize, cut: usize) -> usize {
    let asked = server.asked();
    let fetches = asked.iter().filter(|asked| is_blob(asked, layer));
    fetches
        .map(|asked| {
            if asked.offset() == 0 {
                cut
            } else {
                size - asked.offset()
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_layer_goes_on_where_it_stopped() {
    let image = served();
    let layer = image.largest();
    let size = image.blobs[&layer].len();
    let cut = size * 9 / 10;
    let (honest, name) = (image.clone(), layer.clone());
    let server = Server::start(move |asked| {
        let answer = honest.answer(asked);
        let first = is_blob(asked, &name) && asked.offset() == 0;
        if first {
            Answer {
                only: Some(cut),
                ..answer
            }
        } else {
            answer
        }
    })
    .await;
    let store = Store::new();
    pull(&store, &server).await.unwrap();
    assert_eq!(sent(&server, &layer, size, cut), size, "not a byte twice");
    store.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_starts_again() {
    let image = served();
    let layer = image.largest();
    let fetches = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let mut asked = asked.clone();
        asked.headers.remove("range");
        let answer = image.answer(&asked);
        if is_blob(&asked, &layer) && fetches.fetch_add(1, Ordering::Relaxed) == 0 {
            let half = answer.body.len() / 2;
            return Answer {
                only: Some(half),
                ..answer
            };
        }
        answer
    })
    .await;
    pull(&Store::new(), &server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_fetches_only_the_rest() {
    let image = served();
    let layer = image.largest();
    let size = image.blobs[&layer].len();
    let cut = size * 9 / 10;
    let (honest, name) = (image.clone(), layer.clone());
    let silent = Server::start(move |asked| {
        let answer = honest.answer(asked);
        if is_blob(asked, &name) {
            Answer {
                only: Some(cut),
                silent: true,
                ..answer
            }
        } else {
            answer
        }
    })
    .await;
    let config = RegistryConfig {
        stall_timeout: Duration::from_secs(30),
        ..quick()
    };
    let store = Store::with(config);
    let partial = store
        .temp
        .join("blobs/partial")
        .join(layer.replace(':', "-"));
    let arrived = async {
        while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < cut as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = pull(&store, &silent) => panic!("it should hang: {outcome:?}"),
        () = arrived => {}
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let store = store.reopen();
    let honest = Server::start(move |asked| image.answer(asked)).await;
    pull(&store, &honest).await.unwrap();
    let fetched: Vec<usize> = honest
        .asked()
        .iter()
        .filter(|asked| is_blob(asked, &layer))
        .map(|asked| size - asked.offset())
        .collect();
    assert_eq!(fetched.len(), 1);
    assert!(
        fetched[0] <= size / 10 + 1,
        "at most a tenth again: {fetched:?} of {size}"
    );
    store.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_falls_silent() {
    let image = served();
    let layer = image.largest();
    let started = Instant::now();
    let server = Server::start(move |asked| {
        let answer = image.answer(asked);
        if is_blob(asked, &layer) {
            Answer {
                only: Some(10),
                silent: true,
                ..answer
            }
        } else {
            answer
        }
    })
    .await;
    let store = Store::with(RegistryConfig {
        stall_timeout: Duration::from_millis(200),
        ..quick()
    });
    let error = pull(&store, &server).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        error.to_string().contains("sent nothing for too long"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_recovers() {
    let image = served();
    let layer = image.largest();
    let failures = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if is_blob(asked, &layer) && failures.fetch_add(1, Ordering::Relaxed) < 3 {
            return Answer::status(503);
        }
        image.answer(asked)
    })
    .await;
    pull(&Store::new(), &server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_requests_is_explained() {
    let error = refused(|_| {
        Answer::error(429, "TOOMANYREQUESTS", "You have reached your limit")
            .header("retry-after", "60")
    })
    .await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(
        error.to_string(),
        "toomanyrequests: You have reached your limit (the registry asks to try again after 60 seconds)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_not_what_they_should_be() {
    let manifest = |body: Vec<u8>, kind: &'static str| {
        move |asked: &Asked| match asked.path.contains("/manifests/") {
            true => Answer::ok(body.clone()).header("content-type", kind),
            false => Answer::status(404),
        }
    };
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let cases: Vec<(Vec<u8>, &'static str, &str)> = vec![
        (b"<html>".to_vec(), "text/html", "not valid"),
        (b"{".to_vec(), OCI, "not valid"),
        (
            br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(),
            SCHEMA1,
            "is no longer supported",
        ),
        (vec![b' '; 5 << 20], OCI, "longer than"),
        (
            br#"{"schemaVersion":2,"config":{},"manifests":[],"layers":[]}"#.to_vec(),
            OCI,
            "manifests",
        ),
    ];
    for (body, kind, part) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let error = refused(manifest(body, kind)).await;
        assert_eq!(error.kind(), Kind::InvalidParameter, "{shown}: {error}");
        assert!(error.to_string().contains(part), "{shown}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_its_digest_says() {
    let image = served();
    let error = refused(move |asked| {
        let mut answer = image.answer(asked);
        if asked.path.contains("/manifests/") {
            answer.body.push(b'\n');
        }
        answer
    })
    .await;
    let sentence = error.sentence();
    assert!(
        sentence.starts_with("manifest verification failed for digest sha256:"),
        "{sentence}"
    );
}

/// An index that leads to `inner`.
fn index_of(inner: &[u8], kind: &str, platform: &Platform) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"{kind}","digest":"{}","size":{},"platform":{{"os":"{}","architecture":"{}"}}}}]}}"#,
        hull_testkit::image::digest(inner),
        inner.len(),
        platform.os,
        platform.architecture
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_nested_without_end_and_without_our_platform() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let mut image = served();
    let first = index_of(&image.manifest, &image.manifest_type, &Platform::host());
    image
        .blobs
        .insert(hull_testkit::image::digest(&first), first.clone());
    let mut nested = first.clone();
    for _ in 0..6 {
        nested = index_of(&nested, INDEX, &Platform::host());
        image
            .blobs
            .insert(hull_testkit::image::digest(&nested), nested.clone());
    }
    let of = |manifest: Vec<u8>| {
        let image = Served {
            manifest,
            ..image.clone()
        };
        move |asked: &Asked| {
            let mut answer = image.answer(asked);
            let is_index = answer
                .body
                .starts_with(br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index"#);
            if is_index {
                answer.headers.retain(|(name, _)| name != "content-type");
                answer = answer.header("content-type", INDEX);
            }
            answer
        }
    };
    let error = refused(of(nested)).await;
    assert!(error.to_string().contains("nested too deeply"), "{error}");
    let foreign = Platform {
        os: "plan9".to_owned(),
        architecture: "mips".to_owned(),
        ..Platform::default()
    };
    let error = refused(of(index_of(
        &image.manifest,
        &image.manifest_type,
        &foreign,
    )))
    .await;
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error
            .to_string()
            .starts_with("no matching manifest for linux/amd64 in the manifest list entries"),
        "{error}"
    );

    let server = Server::start(of(first.clone())).await;
    let store = Store::new();
    let outcome = pull(&store, &server).await.unwrap();
    assert_eq!(
        outcome.digest.to_string(),
        hull_testkit::image::digest(&first)
    );
    assert!(pull(&store, &server).await.unwrap().up_to_date);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_names_other_layers() {
    let image = Fixture::new("x:1").layer(Tar::new().file("a", 0o644, "1").finish());
    let mut served = Served::new(&image);
    let other = Fixture::new("x:1")
        .layer(Tar::new().file("a", 0o644, "2").finish())
        .config_bytes();
    let (old, new) = (image.id(), hull_testkit::image::digest(&other));
    served.manifest = String::from_utf8(served.manifest.clone())
        .unwrap()
        .replace(&old, &new)
        .into_bytes();
    served.blobs.insert(new, other);
    let error = refused(move |asked| served.answer(asked)).await;
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("digest mismatch"),
        "{}",
        error.sentence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_and_layer_types_that_are_not_what_they_should_be() {
    let image = || Fixture::new("x:1").layer(Tar::new().file("a", 0o644, "1").finish());
    let configs: [(&[u8], &str); 5] = [
        (b"{", "invalid image config"),
        (b"[]", "invalid image config"),
        (b"\xff\xfe", "invalid image config"),
        (
            br#"{"rootfs":{"type":"tree","diff_ids":[]}}"#,
            "unknown rootfs type",
        ),
        (
            br#"{"rootfs":{"type":"layers","diff_ids":["sha256:short"]}}"#,
            "invalid image config",
        ),
    ];
    for (config, part) in configs {
        let mut served = Served::new(&image());
        let (old, new) = (image().id(), hull_testkit::image::digest(config));
        let text = String::from_utf8(served.manifest.clone()).unwrap();
        served.manifest = text.replace(&old, &new).into_bytes();
        served.blobs.insert(new, config.to_vec());
        let error = refused(move |asked| served.answer(asked)).await;
        assert_eq!(error.kind(), Kind::InvalidParameter, "{error}");
        assert!(error.sentence().contains(part), "{}", error.sentence());
    }
    let mut served = Served::new(&image());
    let text = String::from_utf8(served.manifest.clone()).unwrap();
    let strange = text.replace("image.layer.v1.tar+gzip", "image.layer.v9.rar");
    assert_ne!(strange, text);
    served.manifest = strange.into_bytes();
    let error = refused(move |asked| served.answer(asked)).await;
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("unsupported media type"),
        "{}",
        error.sentence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb() {
    let bomb =
        Fixture::new("x:1").layer(Tar::new().file("zeros", 0o644, vec![0; 8 << 20]).finish());
    let image = Served::new(&bomb);
    let server = Server::start(move |asked| image.answer(asked)).await;
    let store = Store::new();
    let options = ImagesOptions {
        registries: quick(),
        max_layer_bytes: 1 << 20,
        ..ImagesOptions::new(
            store.db.clone(),
            store.content.clone(),
            store.snapshotter.clone(),
        )
    };
    let images = Images::new(options).unwrap();
    let name = reference(&format!("{}/x/y:1", server.host));
    let error = images
        .pull(&name, &PullOptions::default(), &ProgressSink::none())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("possible decompression bomb"),
        "{}",
        error.sentence()
    );
}

/// A zstd frame may ask its reader for a window of gigabytes (RFC 8878, 3.1.1.1.2); a reader must not give it.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_asks_for_much_memory() {
    let Some(zstd) = hull_testkit::skips::program("zstd") else {
        hull_testkit::skip!("zstd is not installed");
        return;
    };
    let files = TempRoot::new("image");
    let fixture = Fixture::new("x:1").layer(Tar::new().file("a", 0o644, "a").finish());
    let tar = files.file("layer.tar", &fixture.layers[0]);
    // From a pipe the length is not known, and the header has the window as it was asked for.
    let packed = Command::new(zstd)
        .args(["-q", "-c", "--ultra", "--long=30"])
        .stdin(std::fs::File::open(tar).unwrap())
        .output()
        .unwrap()
        .stdout;
    let mut image = Served::new(&fixture);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
    manifest["layers"][0]["digest"] = hull_testkit::image::digest(&packed).into();
    manifest["layers"][0]["size"] = packed.len().into();
    image
        .blobs
        .insert(hull_testkit::image::digest(&packed), packed);
    image.set_manifest(manifest);
    let error = refused(move |asked| image.answer(asked)).await;
    assert_eq!(error.kind(), Kind::InvalidParameter);
    assert!(
        error.sentence().contains("too much memory"),
        "{}",
        error.sentence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_after_and_instead_of_a_layer() {
    for layer in [
        b"rubbish".to_vec(),
        gzip(b"not a tar archive at all"),
        [gzip(&Tar::new().finish()), vec![1; 700]].concat(),
    ] {
        let mut image = served();
        let (old, new) = (image.largest(), hull_testkit::image::digest(&layer));
        let size = image.blobs[&old].len();
        let text = String::from_utf8(image.manifest.clone()).unwrap();
        image.manifest = text
            .replace(&old, &new)
            .replace(
                &format!("\"size\":{size}"),
                &format!("\"size\":{}", layer.len()),
            )
            .into_bytes();
        image.blobs.insert(new, layer);
        let error = refused(move |asked| image.answer(asked)).await;
        assert_eq!(error.kind(), Kind::InvalidParameter, "{}", error.sentence());
    }
}

fn anna() -> Auth {
    Auth {
        username: "anna".to_owned(),
        password: "secret".to_owned(),
        ..Auth::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect() {
    let image = served();
    let honest = image.clone();
    let elsewhere = Arc::new(Server::start(move |asked| honest.answer(asked)).await);
    let target = elsewhere.host.clone();
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Answer::status(401).header("www-authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains("/blobs/") {
            return Answer::status(307)
                .header("location", &format!("http://{target}{}", asked.path));
        }
        image.answer(asked)
    })
    .await;
    pull_as(&Store::new(), &server, Some(anna())).await.unwrap();
    let seen = elsewhere.asked();
    assert_eq!(seen.len(), 4, "three layers and a config");
    assert!(
        seen.iter()
            .all(|asked| asked.header("authorization").is_none()),
        "{seen:#?}"
    );
    assert!(
        server
            .asked()
            .iter()
            .any(|asked| asked.header("authorization") == Some("Basic YW5uYTpzZWNyZXQ="))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_have_an_end() {
    let error = refused(|asked| Answer::status(302).header("location", &asked.path)).await;
    assert!(
        error.to_string().contains("stopped after 10 redirects"),
        "{error}"
    );
    let error = refused(|_| Answer::status(302).header("location", "file:///etc/passwd")).await;
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens() {
    let image = served();
    let tokens = Arc::new(
        Server::start(|asked| match asked.header("authorization") {
            Some("Basic YW5uYTpzZWNyZXQ=") => Answer::ok(r#"{"token":"good","expires_in":300}"#),
            _ => Answer::error(401, "UNAUTHORIZED", "incorrect username or password"),
        })
        .await,
    );
    let realm = tokens.host.clone();
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer good") => image.answer(asked),
        _ => Answer::status(401).header(
            "www-authenticate",
            &format!("Bearer realm=\"http://{realm}/token\",service=\"test\",scope=\"repository:x/y:pull\""),
        ),
    })
    .await;
    let store = Store::new();
    let wrong = Auth {
        password: "wrong".to_owned(),
        ..anna()
    };
    let error = pull_as(&store, &server, Some(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(
        error
            .to_string()
            .ends_with("unauthorized: incorrect username or password"),
        "{error}"
    );
    pull_as(&store, &server, Some(anna())).await.unwrap();
    let asked = tokens.asked();
    assert_eq!(
        asked.len(),
        2,
        "one token serves the whole pull: {asked:#?}"
    );
    assert!(
        asked[1]
            .path
            .contains("service=test&scope=repository%3Ax%2Fy%3Apull"),
        "{}",
        asked[1].path
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_the_registry_may_not_name() {
    let server = Server::start(|_| {
        Answer::status(401).header("www-authenticate", "Bearer realm=\"ftp://elsewhere/token\"")
    })
    .await;
    let error = pull_as(&Store::new(), &server, Some(anna()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("token server that is not HTTPS"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_and_need_not_work() {
    let image = served();
    let broken = Server::start(|_| Answer::status(500)).await;
    let mirror = Server::start(move |asked| image.answer(asked)).await;
    let mirrors = vec![
        format!("http://{}", broken.host),
        format!("http://{}/", mirror.host),
    ];
    let store = Store::with(RegistryConfig { mirrors, ..quick() });
    let options = PullOptions {
        auth: Some(anna()),
        platform: None,
    };
    store
        .images
        .pull(&reference("team/app:1"), &options, &ProgressSink::none())
        .await
        .unwrap();
    assert!(store.images.resolve("team/app:1").is_ok());
    let seen = mirror.asked();
    assert!(!broken.asked().is_empty());
    assert!(
        seen.iter()
            .all(|asked| asked.header("authorization").is_none()),
        "credentials are docker.io's"
    );
}

/// A file system of a few megabytes, gone with the test.
struct SmallDisk(TempRoot);

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let temp = TempRoot::new("image");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(temp.folder("disk"))
            .status()
            .unwrap();
        assert!(mounted.success());
        SmallDisk(temp)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.0.join("disk"))
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    // Compressed it is small, unpacked it is not; the other layer does not even fit compressed.
    let zeros =
        Fixture::new("x:1").layer(Tar::new().file("zeros", 0o644, vec![0; 16 << 20]).finish());
    let noise: Vec<u8> = (0u32..2 << 20)
        .flat_map(|n| {
            n.wrapping_mul(2_654_435_761)
                .rotate_left(n % 31)
                .to_le_bytes()
        })
        .collect();
    let noise = Fixture::new("x:1").layer(Tar::new().file("noise", 0o644, noise).finish());
    for fixture in [zeros, noise] {
        let disk = SmallDisk::new("4m");
        let image = Served::new(&fixture);
        let server = Server::start(move |asked| image.answer(asked)).await;
        let db = hull_state::Db::open(disk.0.join("state.db")).unwrap();
        let content = hull_store::content::Content::open(disk.0.join("disk/blobs")).unwrap();
        let driver =
            hull_store::snapshot::open(None, &[], &disk.0.join("disk/snapshots"), db.clone())
                .unwrap();
        let options = ImagesOptions {
            registries: quick(),
            ..ImagesOptions::new(db, content, driver.clone())
        };
        let images = Images::new(options).unwrap();
        let name = reference(&format!("{}/x/y:1", server.host));
        let error = images
            .pull(&name, &PullOptions::default(), &ProgressSink::none())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert!(
            error.sentence().contains("No space left on device"),
            "{}",
            error.sentence()
        );
        for _ in 0..100 {
            if driver.walk().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(driver.walk().unwrap(), []);
        assert!(images.list().unwrap().is_empty());
    }
}
