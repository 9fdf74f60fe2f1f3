//! Clients that are hostile, slow or cut off; disks that are full; servers that are killed.

use std::io::{BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hull_oci::Digest;
use hull_testkit::TempRoot;

use crate::client::try_read_response;
use crate::process::Server;

/// All files below a directory.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn no_path_leads_outside() {
    let temp = TempRoot::new("hull-registry-test");
    let server = Server::start_at(&temp.folder("root"), &[]);
    temp.file("secret", "secret");
    let digest = server.push_blob("a", b"x");
    let names = [
        "..",
        "../..",
        "%2e%2e",
        "a/../..",
        "a/%2e%2e/%2e%2e",
        ".",
        "_tags",
        "a%00",
        "A",
        "a//b",
        "a%2f..%2f..",
    ];
    for name in names {
        for path in [
            format!("/v2/{name}/manifests/secret"),
            format!("/v2/{name}/blobs/{digest}"),
            format!("/v2/{name}/blobs/uploads/../../secret"),
            format!("/v2/{name}/tags/list"),
            format!("/v2/a/manifests/{name}"),
            format!("/v2/a/blobs/uploads/{name}"),
            format!("/v2/a/blobs/sha256:{name}"),
            format!("/v2/a/referrers/sha256:{name}"),
        ] {
            for method in ["GET", "PUT", "DELETE", "PATCH", "POST"] {
                let got = server.send(method, &path, &[], b"");
                assert!(
                    (400..500).contains(&got.status),
                    "{method} {path}: {}",
                    got.status
                );
                assert!(!got.text().contains("secret\n") && got.body != b"secret");
            }
        }
    }
    assert_eq!(
        std::fs::read_to_string(temp.join("secret")).expect("still there"),
        "secret"
    );
    let outside: Vec<_> = std::fs::read_dir(temp.path())
        .expect("list")
        .flatten()
        .collect();
    assert_eq!(outside.len(), 2);
}

#[test]
fn long_heads_are_refused() {
    let server = Server::start(&[]);
    let long = "x".repeat(100 << 10);
    assert_eq!(
        server.send("GET", "/v2/", &[("X-Long", &long)], b"").status,
        431
    );
    let path = server.send("GET", &format!("/v2/{long}/manifests/x"), &[], b"");
    assert!(matches!(path.status, 414 | 431), "{}", path.status);
    let many: Vec<(&str, &str)> = (0..500).map(|_| ("X-Many", "1")).collect();
    assert_eq!(server.send("GET", "/v2/", &many, b"").status, 431);
    server.get("/v2/").expect(200);
}

#[test]
fn noise_is_no_request() {
    let server = Server::start(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\njunkjunkjunk",
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).expect("send");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    for (name, value) in [
        ("Content-Length", "-1"),
        ("Content-Length", "99999999999999999999999"),
    ] {
        assert_eq!(
            server
                .send("PUT", "/v2/a/manifests/x", &[(name, value)], b"")
                .status,
            400
        );
    }
    server.get("/v2/").expect(200);
}

#[test]
fn methods_that_a_route_has_not() {
    let server = Server::start(&[]);
    let refused = server.send("POST", "/v2/a/manifests/x", &[], b"");
    assert_eq!(refused.error(), "405 UNSUPPORTED");
    assert_eq!(refused.header("allow"), "GET, HEAD, PUT, DELETE");
    assert_eq!(server.send("BREW", "/v2/", &[], b"").status, 405);
}

/// A body that stops leaves what came of it, and the client goes on from there.
#[test]
fn a_cut_upload_goes_on_also_after_a_kill() {
    let mut server = Server::start(&[]);
    let blob: Vec<u8> = (0..2_000_000_u32)
        .flat_map(|n| (n as u16).to_le_bytes())
        .collect();
    let location = server.start("k");
    let (first, rest) = blob.split_at(1_000_001);
    let mut stream = server.connect();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        blob.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    stream.write_all(first).expect("send");
    stream.shutdown(std::net::Shutdown::Write).expect("cut");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let has = |server: &Server| server.get(&location).expect(204).header("range").to_owned();
    let arrived =
        hull_testkit::process::eventually(Duration::from_secs(10), || has(&server) == "0-1000000");
    assert!(arrived, "{}", has(&server));
    server.kill_and_restart();
    assert_eq!(has(&server), "0-1000000");
    let range = format!("1000001-{}", blob.len() - 1);
    server
        .send("PATCH", &location, &[("Content-Range", &range)], rest)
        .expect(202);
    let digest = Digest::sha256_of(&blob);
    server
        .send("PUT", &format!("{location}?digest={digest}"), &[], b"")
        .expect(201);
    assert!(server.get(&format!("/v2/k/blobs/{digest}")).body == blob);
}

/// Killed at any moment of a stream of pushes: what was acknowledged is there and whole.
#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let mut server = Server::start(&[]);
    for round in 0..3_u8 {
        let client = *server;
        let pusher = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for n in 0..200_u8 {
                let push = std::panic::catch_unwind(|| {
                    client.push_image("n", &format!("t{n}"), &[round, n])
                });
                match push {
                    Ok((digest, text)) => acknowledged.push((n, digest, text)),
                    Err(_) => break,
                }
            }
            acknowledged
        });
        std::thread::sleep(Duration::from_millis(150 + u64::from(round) * 70));
        server.kill_and_restart();
        let acknowledged = pusher.join().expect("pusher");
        for (n, digest, text) in acknowledged {
            let got = server.get(&format!("/v2/n/manifests/{digest}")).expect(200);
            assert_eq!(got.text(), text);
            let tagged = server.get(&format!("/v2/n/manifests/t{n}")).expect(200);
            assert_eq!(tagged.header("docker-content-digest"), digest.to_string());
            let layer = Digest::sha256_of(&[round, n]);
            assert_eq!(
                server.get(&format!("/v2/n/blobs/{layer}")).expect(200).body,
                [round, n]
            );
        }
    }
}

#[test]
fn one_blob_from_many() {
    let server = Server::start(&[]);
    let client = *server;
    let blob = vec![7; 300_000];
    let pushers: Vec<_> = (0..8)
        .map(|n| {
            let blob = blob.clone();
            std::thread::spawn(move || client.push_blob(&format!("p{}", n % 3), &blob))
        })
        .collect();
    for pusher in pushers {
        pusher.join().expect("pushed");
    }
    let digest = Digest::sha256_of(&blob);
    for n in 0..3 {
        assert!(
            server
                .get(&format!("/v2/p{n}/blobs/{digest}"))
                .expect(200)
                .body
                == blob
        );
    }
    assert_eq!(files(&server.root.join("blobs")).len(), 1);
}

#[test]
fn an_upload_has_one_writer() {
    let server = Server::start(&[]);
    let location = server.start("b");
    let mut stream = server.connect();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("send");
    let mut go_on = [0; 25];
    stream
        .read_exact(&mut go_on)
        .expect("100 Continue: the upload is taken");
    let second = server.send("PATCH", &location, &[], b"x");
    assert_eq!(second.error(), "409 BLOB_UPLOAD_INVALID");
    stream.write_all(b"abcdef").expect("send");
    let done = try_read_response(&mut BufReader::new(stream), "PATCH").expect("response");
    assert_eq!((done.status, done.header("range")), (202, "0-5"));
}

#[test]
fn slow_clients_are_cut_off() {
    let server = Server::start(&["--idle-timeout", "1s"]);
    let big = server.push_blob("s", &vec![1; 32 << 20]);
    let started = Instant::now();
    // Says half a head.
    let mut head = server.connect();
    head.write_all(b"GET /v2/ HT").expect("send");
    // Sends half a body.
    let location = server.start("s");
    let mut body = server.connect();
    let request = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    body.write_all(request.as_bytes()).expect("send");
    // Takes nothing of a blob.
    let mut taker = server.connect();
    taker
        .write_all(format!("GET /v2/s/blobs/{big} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .expect("send");
    let mut answer = Vec::new();
    let _ = head.read_to_end(&mut answer);
    let slow = try_read_response(&mut BufReader::new(body), "PATCH").expect("response");
    assert_eq!(slow.error(), "408 BLOB_UPLOAD_INVALID");
    std::thread::sleep(Duration::from_millis(2500).saturating_sub(started.elapsed()));
    let mut taken = Vec::new();
    let _ = taker.read_to_end(&mut taken);
    assert!(taken.len() < 32 << 20, "the server went on sending");
    assert!(started.elapsed() < Duration::from_secs(20));
    let kept = server.get(&location).expect(204);
    assert_eq!(
        kept.header("range"),
        "0-2",
        "what a slow client sent is kept"
    );
}

/// A byte now and then keeps no connection: it does not pay for the waiting.
#[test]
fn dripping_clients_are_cut_off() {
    let server = Server::start(&["--idle-timeout", "1s", "--min-rate", "1000"]);
    let location = server.start("s");
    let mut body = server.connect();
    let request = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    body.write_all(request.as_bytes()).expect("send");
    let mut sender = body.try_clone().expect("clone");
    let dripping = std::thread::spawn(move || {
        // Fails when the server has closed the connection.
        (0..100)
            .take_while(|_| {
                std::thread::sleep(Duration::from_millis(200));
                sender.write_all(b"x").is_ok()
            })
            .count()
    });
    let slow = try_read_response(&mut BufReader::new(body), "PATCH").expect("response");
    assert_eq!(slow.error(), "408 BLOB_UPLOAD_INVALID");
    assert!(dripping.join().expect("join") < 100);
}

/// Whatever part of a beginning was sent, and after the last answer, too.
#[test]
fn silent_connections_do_not_stay() {
    let server = Server::start(&["--idle-timeout", "1s", "--max-connections", "4"]);
    let beginnings = [
        "",
        "PRI",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let mut streams = beginnings.map(|beginning| {
        let mut stream = server.connect();
        stream.write_all(beginning.as_bytes()).expect("send");
        stream
    });
    // There is no place for this one until the others have gone.
    server.get("/v2/").expect(200);
    for (stream, beginning) in streams.iter_mut().zip(beginnings) {
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(
            ended.is_ok() || ended.as_ref().is_err_and(reset),
            "{beginning:?}: {ended:?}"
        );
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    if !hull_testkit::skips::is_root() {
        hull_testkit::skip!("mounting a small tmpfs needs root");
        return;
    }
    let temp = TempRoot::new("hull-registry-test");
    let root = temp.folder("root");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "hull-registry-test"])
        .arg(&root)
        .status();
    assert!(mounted.expect("mount").success());
    let mut server = Server::start_at(&root, &[]);
    let outcome = std::panic::catch_unwind(|| {
        let (digest, _) = server.push_image("f", "v1", b"small");
        let location = server.start("f");
        let full = server.send("PATCH", &location, &[], &vec![1; 4 << 20]);
        assert_eq!(full.error(), "507 UNAVAILABLE");
        server.send("DELETE", &location, &[], b"").expect(204);
        server.get(&format!("/v2/f/manifests/{digest}")).expect(200);
        server.push_image("f", "v2", b"fits again");
    });
    server.kill();
    let unmounted = Command::new("umount").arg(&root).status();
    assert!(unmounted.expect("umount").success());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_root_has_one_server() {
    let server = Server::start(&[]);
    let root = server.root.display().to_string();
    let second = std::panic::catch_unwind(|| Server::start_at(Path::new(&root), &[]));
    assert!(second.is_err());
    server.get("/v2/").expect(200);
}

/// SIGTERM lets a request finish, and ends the server.
#[test]
fn shutdown_is_graceful() {
    let mut server = Server::start(&[]);
    let location = server.start("g");
    let mut stream = server.connect();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    stream.write_all(head.as_bytes()).expect("send");
    std::thread::sleep(Duration::from_millis(200));
    let killed = Command::new("kill")
        .args(["-TERM", &server.pid().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(b"def").expect("send");
    let done = try_read_response(&mut BufReader::new(stream), "PATCH").expect("response");
    assert_eq!(done.status, 202);
    let ended = hull_testkit::process::wait(server.child(), Duration::from_secs(10)).expect("wait");
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}
