//! The pull-through cache, in front of a server of ours, and in front of Debian's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hull_oci::Digest;
use hull_testkit::{TempRoot, process};

use crate::process::Server;

fn cache_of(port: u16, more: &[&str]) -> Server {
    let url = format!("http://127.0.0.1:{port}");
    let mut arguments = vec!["--proxy", &url];
    arguments.extend(more);
    Server::start(&arguments)
}

#[test]
fn fetched_once_and_served_without_upstream() {
    let mut upstream = Server::start(&[]);
    let layer = vec![9; 2_000_000];
    let (digest, text) = upstream.push_image("library/a", "v1", &layer);
    let cache = cache_of(upstream.port, &["--proxy-ttl", "0s"]);
    let blob = format!("/v2/library/a/blobs/{}", Digest::sha256_of(&layer));
    let head = cache.send("HEAD", &blob, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), "2000000");
    let manifest = cache.get("/v2/library/a/manifests/v1").expect(200);
    assert_eq!(
        (manifest.text(), manifest.header("docker-content-digest")),
        (text, digest.to_string().as_str())
    );
    let part = cache
        .send("GET", &blob, &[("Range", "bytes=1999990-")], b"")
        .expect(206);
    assert!(part.body == layer[1_999_990..]);
    assert!(cache.get(&blob).expect(200).body == layer);
    let (newer, _) = upstream.push_image("library/a", "v1", b"newer");
    let moved = cache.get("/v2/library/a/manifests/v1").expect(200);
    assert_eq!(moved.header("docker-content-digest"), newer.to_string());
    assert_eq!(
        cache.get("/v2/library/a/manifests/none").error(),
        "404 MANIFEST_UNKNOWN"
    );
    assert_eq!(
        cache.get("/v2/library/a/tags/list").json()["tags"],
        serde_json::json!(["v1"])
    );
    assert_eq!(
        cache
            .send("POST", "/v2/library/a/blobs/uploads/", &[], b"")
            .error(),
        "405 UNSUPPORTED"
    );
    upstream.kill();
    assert!(
        cache.get(&blob).expect(200).body == layer,
        "the blob is kept"
    );
    let stale = cache.get("/v2/library/a/manifests/v1").expect(200);
    assert_eq!(
        stale.header("docker-content-digest"),
        newer.to_string(),
        "a stale tag is better than none"
    );
    let absent = format!("/v2/library/a/blobs/{}", Digest::sha256_of(b"absent"));
    assert_eq!(cache.get(&absent).error(), "502 UNAVAILABLE");
}

#[test]
fn many_clients_make_one_download() {
    let layer = vec![3; 4_000_000];
    let digest = Digest::sha256_of(&layer);
    let (port, asked) = upstream_that_sends(layer.clone(), Duration::from_millis(300));
    let cache = cache_of(port, &[]);
    let path = format!("/v2/a/blobs/{digest}");
    let first = {
        let (client, path) = (*cache, path.clone());
        std::thread::spawn(move || client.get(&path).expect(200).body)
    };
    std::thread::sleep(Duration::from_millis(150));
    let others: Vec<_> = (0..5)
        .map(|_| {
            let (client, path) = (*cache, path.clone());
            std::thread::spawn(move || client.get(&path).expect(200).body)
        })
        .collect();
    for client in others.into_iter().chain([first]) {
        assert!(client.join().expect("client") == layer);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Neither kept nor passed on whole.
#[test]
fn a_lying_upstream() {
    let (port, _) = upstream_that_sends(b"not what was asked for".to_vec(), Duration::ZERO);
    let cache = cache_of(port, &[]);
    let path = format!("/v2/a/blobs/{}", Digest::sha256_of(b"what was asked for"));
    let mut stream = cache.connect();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .expect("send");
    let cut = crate::client::try_read_response(&mut BufReader::new(stream), "GET");
    assert!(cut.is_none(), "all of it came: {cut:?}");
    let blobs = std::fs::read_dir(cache.root.join("blobs/sha256")).expect("blobs");
    assert_eq!(blobs.count(), 0);
}

#[test]
fn with_a_password_in_front_of_debians_registry() {
    let account = ("me".to_owned(), "secret".to_owned());
    let options = hull_testkit::registry::RegistryOptions {
        account: Some(account),
        ..Default::default()
    };
    let Some(upstream) = hull_testkit::registry::Registry::start(options) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    let image = hull_testkit::image::Image::busybox("busybox:1");
    let (Some(_), Some(skopeo)) = (
        upstream.push(&image, "library/busybox:1"),
        hull_testkit::skips::program("skopeo"),
    ) else {
        hull_testkit::skip!("skopeo is not installed");
        return;
    };
    let temp = TempRoot::new("hull-registry-test");
    let password = temp.file("password", "secret\n").display().to_string();
    let cache = cache_of(
        upstream.port(),
        &["--proxy-username", "me", "--proxy-password-file", &password],
    );
    let source = format!("docker://127.0.0.1:{}/library/busybox:1", cache.port);
    let target = format!("dir:{}", temp.folder("out").display());
    let mut copy = std::process::Command::new(skopeo);
    copy.args([
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        &source,
        &target,
    ]);
    process::run(&mut copy, Duration::from_secs(60))
        .expect("skopeo")
        .ok();
}

/// A server that answers every GET with these bytes, the second half after a pause; how often it was asked.
fn upstream_that_sends(bytes: Vec<u8>, pause: Duration) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (bytes, count) = (bytes.clone(), count.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                    line.clear();
                }
                count.fetch_add(1, Ordering::SeqCst);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len()
                );
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let stream = reader.get_mut();
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(first));
                std::thread::sleep(pause);
                let _ = stream.write_all(second);
            });
        }
    });
    (port, asked)
}
