//! How registries are reached: certificates, hosts.toml, proxies, tokens, search, foreign layers, artifacts, pieces.

mod common;

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::server::{Answer, Asked, Served, Server};
use common::{Store, quick, reference};
use hull_image::{
    Auth, LoadOptions, ProgressSink, Proxies, PullOptions, PushOptions, RegistryConfig,
    SearchOptions,
};
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar, digest};
use hull_testkit::registry::{Registry, RegistryOptions};

fn small() -> Fixture {
    Fixture::new("small:1").layer(Tar::new().file("hello", 0o644, "hello").finish())
}

async fn pull(store: &Store, name: &str) -> hull_image::Result<hull_image::PullOutcome> {
    pull_as(store, name, None).await
}

async fn pull_as(
    store: &Store,
    name: &str,
    auth: Option<Auth>,
) -> hull_image::Result<hull_image::PullOutcome> {
    let options = PullOptions {
        auth,
        ..PullOptions::default()
    };
    let none = ProgressSink::none();
    store.images.pull(&reference(name), &options, &none).await
}

fn with_certs(dir: &TempRoot) -> Store {
    Store::with(RegistryConfig {
        certs_dir: Some(dir.path().to_owned()),
        ..quick()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_by_files_and_by_hosts_toml() {
    let options = RegistryOptions {
        tls: true,
        clients: true,
        ..RegistryOptions::default()
    };
    let Some(registry) = Registry::start(options) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    let certs = TempRoot::new("image");
    let store = with_certs(&certs);
    let archive = std::io::Cursor::new(small().docker_archive());
    let none = ProgressSink::none();
    store
        .images
        .load(archive, &LoadOptions::default(), &none)
        .unwrap();
    let name = format!("{}/team/small:1", registry.host());
    store.images.tag("small:1", &reference(&name)).unwrap();
    let push = async || {
        let options = PushOptions::default();
        store.images.push(&reference(&name), &options, &none).await
    };
    let dir = certs.folder(registry.host());
    let (certificate, key) = registry.client();
    std::fs::copy(registry.certificate(), dir.join("ca.crt")).unwrap();
    let error = push().await.unwrap_err().sentence();
    assert!(
        error.contains("ertificate"),
        "without a certificate: {error}"
    );
    // What appears in the directory counts at once.
    std::fs::copy(&certificate, dir.join("client.cert")).unwrap();
    let error = push().await.unwrap_err().to_string();
    assert!(
        error.contains("missing key") && error.contains("client.key"),
        "{error}"
    );
    std::fs::copy(&key, dir.join("client.key")).unwrap();
    push().await.unwrap();

    for name in ["ca.crt", "client.cert", "client.key"] {
        std::fs::rename(dir.join(name), dir.join(name.replace('.', "-"))).unwrap();
    }
    let error = push().await.unwrap_err().sentence();
    assert!(error.contains("ertificate"), "{error}");
    let hosts = format!(
        "server = \"https://{}\"\nca = \"ca-crt\"\nclient = [[\"client-cert\", \"client-key\"]]\n",
        registry.host()
    );
    std::fs::write(dir.join("hosts.toml"), hosts).unwrap();
    push().await.unwrap();
    let other = with_certs(&certs);
    let pulled = pull(&other, &name).await.unwrap();
    assert_eq!(pulled.image_id.to_string(), small().id());
    std::fs::write(dir.join("hosts.toml"), "server = 3").unwrap();
    let error = pull(&with_certs(&certs), &name)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("hosts.toml: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_asked_in_order_and_only_for_what_they_can() {
    let image = Served::new(&small());
    let served = image.clone();
    let mirror = Server::start(move |asked| {
        let path = asked.path.strip_prefix("/cache/r/");
        let asked = Asked {
            path: format!("/v2/{}", path.unwrap_or_default()),
            ..asked.clone()
        };
        served.answer(&asked)
    })
    .await;
    let origin = Server::start(move |asked| match asked.path.contains("/blobs/") {
        true => Answer::error(503, "UNAVAILABLE", "blobs come from the mirror"),
        false => image.answer(asked),
    })
    .await;
    let certs = TempRoot::new("image");
    let dir = certs.folder(&origin.host);
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}/cache/r\"]\ncapabilities = [\"pull\"]\noverride_path = true\n[host.\"http://{}/cache/r\".header]\nx-who = \"me\"\n",
        origin.host, mirror.host, mirror.host
    );
    std::fs::write(dir.join("hosts.toml"), hosts).unwrap();
    let name = format!("{}/team/small:1", origin.host);
    let secret = Auth {
        username: "anna".to_owned(),
        password: "secret".to_owned(),
        ..Auth::default()
    };
    pull_as(&with_certs(&certs), &name, Some(secret))
        .await
        .unwrap();
    let asked = mirror.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.path.starts_with("/cache/r/team/small/"))
    );
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("x-who") == Some("me"))
    );
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert!(
        !asked
            .iter()
            .any(|asked| asked.path.ends_with("/manifests/1")),
        "it cannot resolve"
    );
    assert!(
        origin
            .asked()
            .iter()
            .any(|asked| asked.path.ends_with("/manifests/1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies() {
    let image = Served::new(&small());
    let proxy = Server::start(move |asked| {
        let path = asked
            .path
            .strip_prefix("http://registry.invalid:81")
            .unwrap_or("/nowhere");
        image.answer(&Asked {
            path: path.to_owned(),
            ..asked.clone()
        })
    })
    .await;
    let certs = TempRoot::new("image");
    let dir = certs.folder("registry.invalid:81");
    std::fs::write(
        dir.join("hosts.toml"),
        "server = \"http://registry.invalid:81\"",
    )
    .unwrap();
    let config = |no_proxy: &str| RegistryConfig {
        certs_dir: Some(certs.path().to_owned()),
        proxies: Proxies {
            http: format!("http://anna:secret@{}", proxy.host),
            no_proxy: no_proxy.to_owned(),
            ..Proxies::default()
        },
        ..quick()
    };
    let name = "registry.invalid:81/team/small:1";
    pull(&Store::with(config("example.com")), name)
        .await
        .unwrap();
    let asked = proxy.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("proxy-authorization") == Some("Basic YW5uYTpzZWNyZXQ="))
    );
    let count = asked.len();
    pull(&Store::with(config(".invalid")), name)
        .await
        .unwrap_err();
    assert_eq!(proxy.asked().len(), count, "reached directly");
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_tokens_and_servers_without_oauth2() {
    let image = Served::new(&small());
    let host = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let own = host.clone();
    let posts_fail = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let failing = posts_fail.clone();
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/token") {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            return match asked.method.as_str() {
                "POST" if failing.load(Ordering::Relaxed) => Answer::status(404),
                "POST"
                    if body.contains("grant_type=refresh_token")
                        && body.contains("refresh_token=idtoken") =>
                {
                    Answer::ok(r#"{"access_token":"good"}"#)
                }
                // `anna:idtoken`
                "GET" if asked.header("authorization") == Some("Basic YW5uYTppZHRva2Vu") => {
                    Answer::ok(r#"{"token":"good"}"#)
                }
                _ => Answer::error(401, "UNAUTHORIZED", "no"),
            };
        }
        match asked.header("authorization") {
            Some("Bearer good") => image.answer(asked),
            _ => Answer::status(401).header(
                "www-authenticate",
                &format!(
                    "Bearer realm=\"http://{}/token\",service=\"s\"",
                    own.get().unwrap()
                ),
            ),
        }
    })
    .await;
    host.set(server.host.clone()).unwrap();
    let name = format!("{}/team/small:1", server.host);
    let auth = Auth {
        username: "anna".to_owned(),
        identity_token: Some("idtoken".to_owned()),
        ..Auth::default()
    };
    pull_as(&Store::new(), &name, Some(auth.clone()))
        .await
        .unwrap();
    posts_fail.store(true, Ordering::Relaxed);
    pull_as(&Store::new(), &name, Some(auth)).await.unwrap();
    pull(&Store::new(), &name).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn searching() {
    let hub = Server::start(|asked| {
        assert_eq!(asked.path, "/v1/search?q=ngi+nx&n=7");
        Answer::ok(r#"{"results":[{"name":"nginx","description":"d","star_count":9,"is_official":true,"is_automated":false},{"name":"x/nginx","star_count":2}]}"#)
    })
    .await;
    let store = Store::new();
    let found = store
        .images
        .search(&SearchOptions {
            term: format!("{}/ngi nx", hub.host),
            limit: 7,
            stars: 3,
            ..SearchOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (found.len(), found[0].name.as_str(), found[0].is_official),
        (1, "nginx", true)
    );
    let plain = Server::start(|asked| match asked.path.as_str() {
        "/v2/_catalog?n=1000" => Answer::ok(r#"{"repositories":["a/nginx","b"]}"#)
            .header("link", "</v2/_catalog?n=1000&last=b>; rel=\"next\""),
        "/v2/_catalog?n=1000&last=b" => Answer::ok(r#"{"repositories":["nginx-c"]}"#),
        _ => Answer::status(404),
    })
    .await;
    let search = |term: String| SearchOptions {
        term,
        ..SearchOptions::default()
    };
    let found = store
        .images
        .search(&search(format!("{}/nginx", plain.host)))
        .await
        .unwrap();
    let names: Vec<_> = found.into_iter().map(|one| one.name).collect();
    assert_eq!(
        names,
        [
            format!("{}/a/nginx", plain.host),
            format!("{}/nginx-c", plain.host)
        ]
    );
    let error = store
        .images
        .search(&SearchOptions {
            limit: 101,
            ..search("x".to_owned())
        })
        .await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "limit 101 is outside the range of [1, 100]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_come_from_their_addresses() {
    let mut image = Served::new(&small());
    let layer = image.largest_layer();
    let bytes = image.blobs.remove(&layer).unwrap();
    let elsewhere = Server::start(move |asked| {
        assert!(asked.header("authorization").is_none());
        match asked.path.as_str() {
            "/moved" => Answer::status(302).header("location", "/layer"),
            "/layer" => Answer::ok(bytes.clone()),
            _ => Answer::status(404),
        }
    })
    .await;
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["mediaType"] =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    manifest["layers"][0]["urls"] = serde_json::json!([
        "ftp://nowhere/layer",
        format!("http://{}/gone", elsewhere.host),
        format!("http://{}/moved", elsewhere.host)
    ]);
    image.set_manifest(manifest);
    let server = Server::start(move |asked| image.answer(asked)).await;
    let store = Store::new();
    let name = format!("{}/team/small:1", server.host);
    pull(&store, &name).await.unwrap();
    let image = store.images.resolve(&name).unwrap();
    assert_eq!(
        common::read(&store.top_layer(&image).join("hello")),
        "hello"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_rate_is_explained_and_waited_for() {
    let image = Served::new(&small());
    let refused = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.path.contains("/blobs/") && refused.fetch_add(1, Ordering::Relaxed) == 1 {
            return Answer::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", "0");
        }
        image.answer(asked)
    })
    .await;
    pull(&Store::new(), &format!("{}/team/small:1", server.host))
        .await
        .unwrap();
    let server = Server::start(|asked| match asked.path.contains("/manifests/") {
        true => Answer::error(
            429,
            "TOOMANYREQUESTS",
            "You have reached your pull rate limit",
        )
        .header("retry-after", "3600"),
        false => Answer::status(200),
    })
    .await;
    let error = pull(&Store::new(), &format!("{}/a:1", server.host))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "toomanyrequests: You have reached your pull rate limit (the registry asks to try again after 3600 seconds)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_kept_as_objects() {
    let Some(registry) = Registry::start(RegistryOptions::default()) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    let (config, blob) = (b"{}".to_vec(), b"a bill of materials".to_vec());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(&config), "size": 2},
        "layers": [{"mediaType": "text/spdx+json", "digest": digest(&blob), "size": blob.len()}],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"image"), "size": 5},
    })
    .to_string()
    .into_bytes();
    let served = Served {
        blobs: [
            (digest(&config), config),
            (digest(&blob), blob.clone()),
            (digest(&manifest), manifest.clone()),
        ]
        .into(),
        manifest_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        manifest: manifest.clone(),
    };
    let server = Server::start(move |asked| served.answer(asked)).await;
    let store = Store::new();
    let name = format!("{}/team/sbom:1", server.host);
    let pulled = pull(&store, &name).await.unwrap();
    assert_eq!(pulled.image_id.to_string(), digest(&manifest));
    let image = store.images.resolve(&name).unwrap();
    assert_eq!(
        image.artifact_type.as_deref(),
        Some("application/spdx+json")
    );
    assert_eq!((image.size, image.layers.len()), (blob.len() as u64, 0));
    assert_eq!(
        image.target.artifact_type.as_deref(),
        Some("application/spdx+json")
    );
    store.images.collect_garbage().unwrap();

    let archive = store
        .images
        .save(std::slice::from_ref(&name), Vec::new())
        .unwrap();
    let target = format!("{}/team/sbom:2", registry.host());
    store.images.tag(&name, &reference(&target)).unwrap();
    let options = PushOptions::default();
    let none = ProgressSink::none();
    let pushed = store
        .images
        .push(&reference(&target), &options, &none)
        .await
        .unwrap();
    assert_eq!(pushed[0].digest.to_string(), digest(&manifest));
    let other = Store::new();
    let loaded = other
        .images
        .load(
            std::io::Cursor::new(archive),
            &LoadOptions::default(),
            &none,
        )
        .unwrap();
    assert_eq!(loaded[0].image_id, pulled.image_id);
    assert_eq!(
        pull(&other, &target).await.unwrap().image_id,
        pulled.image_id
    );
    other.assert_tidy();
    other
        .images
        .remove(&pulled.image_id.to_string(), true, true, &[])
        .unwrap();
    assert!(other.content.walk().unwrap().is_empty());
}

/// A registry that only takes blobs in pieces: because it says so, or because what is before it cuts large bodies.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_pieces() {
    for asks in [true, false] {
        let got = std::sync::Arc::new(std::sync::Mutex::new(Vec::<(String, usize)>::new()));
        let seen = got.clone();
        let server = Server::start(move |asked| {
            let location = |answer: Answer| answer.header("location", "/upload?state=a");
            match (asked.method.as_str(), asked.path.as_str()) {
                ("HEAD", _) => Answer::status(404),
                ("POST", _) if asks => {
                    location(Answer::status(202)).header("oci-chunk-min-length", "1000")
                }
                ("POST", _) => location(Answer::status(202)),
                ("PATCH", _) => {
                    let range = asked.header("content-range").unwrap_or_default().to_owned();
                    seen.lock().unwrap().push((range, asked.body.len()));
                    location(Answer::status(202))
                }
                ("PUT", path) if path.starts_with("/upload") && asked.body.len() > 9 << 20 => {
                    Answer::status(413)
                }
                ("PUT", _) => Answer::status(201),
                _ => Answer::status(200),
            }
        })
        .await;
        let store = Store::new();
        let mut noise = vec![0; 18 << 20];
        let mut state = 1_u64;
        for byte in &mut noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let fixture = Fixture::new("big:1").layer(Tar::new().file("noise", 0o644, noise).finish());
        let none = ProgressSink::none();
        let archive = std::io::Cursor::new(fixture.docker_archive());
        store
            .images
            .load(archive, &LoadOptions::default(), &none)
            .unwrap();
        let name = reference(&format!("{}/big:1", server.host));
        store.images.tag("big:1", &name).unwrap();
        store
            .images
            .push(&name, &PushOptions::default(), &none)
            .await
            .unwrap();
        let mut large: Vec<_> = got.lock().unwrap().clone();
        // Without the config.
        large.retain(|(_, length)| *length > 1 << 20);
        assert_eq!(large.len(), 3, "{large:?}");
        assert_eq!(large[0], (format!("0-{}", (8 << 20) - 1), 8 << 20));
        assert!(large[1].0.starts_with(&format!("{}-", 8 << 20)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_from_an_address() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/old" => Answer::status(301).header("location", "/root.tar"),
        "/root.tar" => Answer::ok("bytes"),
        _ => Answer::error(404, "X", "nothing"),
    })
    .await;
    let store = Store::new();
    let mut download = store
        .images
        .open_url(&format!("{}/old", server.host))
        .await
        .unwrap();
    assert_eq!(download.url, format!("http://{}/old", server.host));
    let read = move || {
        let mut text = String::new();
        download.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), "bytes");
    let error = store
        .images
        .open_url(&format!("{}/none", server.host))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("with status 404"), "{error}");
    assert!(store.images.open_url("file:///etc/passwd").await.is_err());
}
