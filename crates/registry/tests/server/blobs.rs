//! Downloads: whole, in part, by every way that the bytes can take.

use std::io::{BufReader, Write as _};

use crate::client::read_response;
use crate::process::Server;

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

/// Below, at and above the sizes at which the way changes: inline, one sendfile(2), several.
#[test]
fn every_size_comes_back() {
    let server = Server::start(&[]);
    for len in [
        0,
        1,
        16 << 10,
        (16 << 10) + 1,
        512 << 10,
        (512 << 10) + 1,
        5 << 20,
    ] {
        let blob = noise(len);
        let digest = server.push_blob("sizes", &blob);
        let path = format!("/v2/sizes/blobs/{digest}");
        let got = server.get(&path).expect(200);
        assert!(got.body == blob, "{len} bytes came back wrong");
        assert_eq!(got.header("docker-content-digest"), digest.to_string());
        let head = server.send("HEAD", &path, &[], b"").expect(200);
        assert_eq!(head.header("content-length"), len.to_string());
    }
}

#[test]
fn ranges() {
    let server = Server::start(&[]);
    let blob = noise(3 << 20);
    let path = format!("/v2/r/blobs/{}", server.push_blob("r", &blob));
    let range = |range: &str| server.send("GET", &path, &[("Range", range)], b"");
    let part = range("bytes=1000-2000000").expect(206);
    assert!(part.body == blob[1000..=2_000_000]);
    assert_eq!(
        part.header("content-range"),
        format!("bytes 1000-2000000/{}", blob.len())
    );
    assert!(range("bytes=-5").expect(206).body == blob[blob.len() - 5..]);
    assert!(range("bytes=3145000-").expect(206).body == blob[3_145_000..]);
    assert!(range("bytes=0-0,5-6").expect(200).body == blob);
    let beyond = range("bytes=9999999-").expect(416);
    assert_eq!(
        beyond.header("content-range"),
        format!("bytes */{}", blob.len())
    );
    assert_eq!(beyond.error(), "416 RANGE_INVALID");
    let other = [("Range", "bytes=0-1"), ("If-Range", "\"sha256:other\"")];
    assert!(server.send("GET", &path, &other, b"").expect(200).body == blob);
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let server = Server::start(&[]);
    let digest = server.push_blob("e", b"hello");
    let path = format!("/v2/e/blobs/{digest}");
    let etag = server.get(&path).expect(200).header("etag").to_owned();
    server
        .send("GET", &path, &[("If-None-Match", &etag)], b"")
        .expect(304);
}

/// Responses on one connection do not mix, although files are announced beside the stream.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let blobs: Vec<Vec<u8>> = (1..6).map(|n| noise(n * 300_000)).collect();
    let digests: Vec<_> = blobs
        .iter()
        .map(|blob| server.push_blob("p", blob))
        .collect();
    let mut stream = server.connect();
    for digest in &digests {
        let request = format!("GET /v2/p/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("send");
    }
    let mut reader = BufReader::new(stream);
    for blob in &blobs {
        let got = read_response(&mut reader, "GET").expect(200);
        assert!(got.body == *blob, "{} bytes came back wrong", blob.len());
    }
}

#[test]
fn what_is_not_there() {
    let server = Server::start(&[]);
    let digest = server.push_blob("a", b"x");
    assert_eq!(
        server.get(&format!("/v2/b/blobs/{digest}")).error(),
        "404 BLOB_UNKNOWN"
    );
    server
        .send("DELETE", &format!("/v2/a/blobs/{digest}"), &[], b"")
        .expect(202);
    assert_eq!(
        server.get(&format!("/v2/a/blobs/{digest}")).error(),
        "404 BLOB_UNKNOWN"
    );
    let again = server.send("DELETE", &format!("/v2/a/blobs/{digest}"), &[], b"");
    assert_eq!(again.error(), "404 BLOB_UNKNOWN");
}
