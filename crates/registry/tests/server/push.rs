//! Pushes: every way of uploading, manifests and what they need, tags, lists.

use hull_oci::{Algorithm, Digest};
use serde_json::json;

use crate::client::{MANIFEST, manifest};
use crate::process::Server;

#[test]
fn chunks_in_order_and_out_of_order() {
    let server = Server::start(&[]);
    let location = server.start("c");
    let patch = |range: &str, body: &[u8]| {
        server.send("PATCH", &location, &[("Content-Range", range)], body)
    };
    let first = patch("0-4", b"hello").expect(202);
    assert_eq!(first.header("range"), "0-4");
    let early = patch("6-9", b"orld");
    assert_eq!(early.error(), "416 RANGE_INVALID");
    assert_eq!(patch("0-4", b"hello").error(), "416 RANGE_INVALID");
    assert_eq!(patch("5-9", b"too long").error(), "400 SIZE_INVALID");
    assert_eq!(patch("nonsense", b"x").error(), "400 BLOB_UPLOAD_INVALID");
    let status = server.get(&location).expect(204);
    assert_eq!(
        (status.header("range"), status.header("location")),
        ("0-4", location.as_str())
    );
    patch("5-10", b" world").expect(202);
    let digest = Digest::sha256_of(b"hello world");
    server
        .send("PUT", &format!("{location}?digest={digest}"), &[], b"")
        .expect(201);
    assert_eq!(
        server.get(&format!("/v2/c/blobs/{digest}")).body,
        b"hello world"
    );
    assert_eq!(server.get(&location).error(), "404 BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn one_request_and_streams() {
    let server = Server::start(&[]);
    let digest = Digest::of(Algorithm::Sha512, b"once");
    server
        .send(
            "POST",
            &format!("/v2/o/blobs/uploads/?digest={digest}"),
            &[],
            b"once",
        )
        .expect(201);
    assert_eq!(server.get(&format!("/v2/o/blobs/{digest}")).body, b"once");
    let location = server.start("o");
    let chunked = [("Transfer-Encoding", "chunked")];
    server
        .send(
            "PATCH",
            &location,
            &chunked,
            b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        )
        .expect(202);
    // Begun as sha256, finished as sha512.
    let digest = Digest::of(Algorithm::Sha512, b"abcdef");
    server
        .send("PUT", &format!("{location}?digest={digest}"), &[], b"")
        .expect(201);
    assert_eq!(server.get(&format!("/v2/o/blobs/{digest}")).body, b"abcdef");
}

#[test]
fn wrong_digests_leave_nothing() {
    let server = Server::start(&[]);
    let other = Digest::sha256_of(b"other");
    let location = server.start("w");
    let put = server.send("PUT", &format!("{location}?digest={other}"), &[], b"bytes");
    assert_eq!(put.error(), "400 DIGEST_INVALID");
    assert_eq!(server.get(&location).error(), "404 BLOB_UPLOAD_UNKNOWN");
    let post = server.send(
        "POST",
        &format!("/v2/w/blobs/uploads/?digest={other}"),
        &[],
        b"bytes",
    );
    assert_eq!(post.error(), "400 DIGEST_INVALID");
    let location = server.start("w");
    assert_eq!(
        server.send("PUT", &location, &[], b"x").error(),
        "400 BLOB_UPLOAD_INVALID"
    );
    let bad = server.send("PUT", &format!("{location}?digest=sha256:zz"), &[], b"x");
    assert_eq!(bad.error(), "400 DIGEST_INVALID");
    server.send("DELETE", &location, &[], b"").expect(204);
    let uploads = std::fs::read_dir(server.root.join("repositories/w/_uploads")).expect("uploads");
    assert_eq!(uploads.count(), 0);
}

#[test]
fn mounting() {
    let server = Server::start(&[]);
    let digest = server.push_blob("from", b"shared");
    let mount =
        |query: &str| server.send("POST", &format!("/v2/to/blobs/uploads/?{query}"), &[], b"");
    let absent = Digest::sha256_of(b"absent");
    mount(&format!("mount={absent}&from=from")).expect(202);
    mount(&format!("mount={digest}&from=elsewhere")).expect(202);
    mount(&format!("mount={digest}&from=../../from")).expect(202);
    assert_eq!(
        server.get(&format!("/v2/to/blobs/{digest}")).error(),
        "404 BLOB_UNKNOWN"
    );
    let mounted = mount(&format!("mount={digest}&from=from")).expect(201);
    assert_eq!(mounted.header("location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(
        server.get(&format!("/v2/to/blobs/{digest}")).body,
        b"shared"
    );
    server
        .send(
            "POST",
            &format!("/v2/third/blobs/uploads/?mount={digest}"),
            &[],
            b"",
        )
        .expect(201);
}

#[test]
fn manifests_need_their_content() {
    let server = Server::start(&[]);
    let config = server.push_blob("m", b"{}");
    let layer = Digest::sha256_of(b"layer");
    let text = manifest(&config, 2, &[(layer.clone(), 5)]);
    let put = |reference: &str, text: &str| {
        server.send(
            "PUT",
            &format!("/v2/m/manifests/{reference}"),
            &[("Content-Type", MANIFEST)],
            text.as_bytes(),
        )
    };
    let refused = put("v1", &text);
    assert_eq!(refused.error(), "404 MANIFEST_BLOB_UNKNOWN");
    assert_eq!(
        refused.json()["errors"][0]["detail"][0]["digest"],
        layer.to_string()
    );
    server.push_blob("m", b"layer");
    let pushed = put("v1", &text).expect(201);
    let digest = Digest::sha256_of(text.as_bytes());
    assert_eq!(
        pushed.header("location"),
        format!("/v2/m/manifests/{digest}")
    );
    for reference in ["v1".to_owned(), digest.to_string()] {
        let got = server
            .get(&format!("/v2/m/manifests/{reference}"))
            .expect(200);
        assert_eq!(
            (got.text(), got.header("content-type")),
            (text.clone(), MANIFEST)
        );
    }
    assert_eq!(
        put(&Digest::sha256_of(b"x").to_string(), &text).error(),
        "400 DIGEST_INVALID"
    );
    assert_eq!(put("v2", "{").error(), "400 MANIFEST_INVALID");
    assert_eq!(put(".bad", &text).error(), "400 TAG_INVALID");
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": MANIFEST, "digest": Digest::sha256_of(b"no child"), "size": 8}]});
    let index_type = [("Content-Type", "application/vnd.oci.image.index.v1+json")];
    let index = server.send(
        "PUT",
        "/v2/m/manifests/index",
        &index_type,
        index.to_string().as_bytes(),
    );
    assert_eq!(index.error(), "404 MANIFEST_BLOB_UNKNOWN");
    let long = vec![b' '; (4 << 20) + 1];
    assert_eq!(
        server.send("PUT", "/v2/m/manifests/v3", &[], &long).error(),
        "413 SIZE_INVALID"
    );
}

#[test]
fn tags_move_and_go() {
    let server = Server::start(&[]);
    let (old, _) = server.push_image("t", "latest", b"one");
    let (new, _) = server.push_image("t", "latest", b"two");
    assert_ne!(old, new);
    let got = server.get("/v2/t/manifests/latest").expect(200);
    assert_eq!(got.header("docker-content-digest"), new.to_string());
    server.get(&format!("/v2/t/manifests/{old}")).expect(200);
    server
        .send("DELETE", &format!("/v2/t/manifests/{new}"), &[], b"")
        .expect(202);
    assert_eq!(
        server.get("/v2/t/manifests/latest").error(),
        "404 MANIFEST_UNKNOWN"
    );
    server.push_image("t", "latest", b"two");
    server
        .send("DELETE", "/v2/t/manifests/latest", &[], b"")
        .expect(202);
    server.get(&format!("/v2/t/manifests/{new}")).expect(200);
}

#[test]
fn lists_in_pages() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/v2/l/tags/list").error(), "404 NAME_UNKNOWN");
    for tag in ["b", "a", "c", "A"] {
        server.push_image("l", tag, b"x");
    }
    let tags = |query: &str| server.get(&format!("/v2/l/tags/list{query}"));
    assert_eq!(
        tags("").json(),
        json!({"name": "l", "tags": ["A", "a", "b", "c"]})
    );
    let page = tags("?n=2").expect(200);
    assert_eq!(page.json()["tags"], json!(["A", "a"]));
    assert_eq!(
        page.header("link"),
        "</v2/l/tags/list?n=2&last=a>; rel=\"next\""
    );
    let page = tags("?n=2&last=a");
    assert_eq!(
        (page.json()["tags"].clone(), page.header("link")),
        (json!(["b", "c"]), "")
    );
    assert_eq!(tags("?n=0").json()["tags"], json!([]));
    assert_eq!(tags("?n=x").error(), "400 PAGINATION_NUMBER_INVALID");
    server.push_image("l-m", "x", b"x");
    server.push_image("l/m", "x", b"x");
    assert_eq!(
        server.get("/v2/_catalog").json(),
        json!({"repositories": ["l", "l-m", "l/m"]})
    );
    assert_eq!(
        server.get("/v2/_catalog?n=1&last=l").json(),
        json!({"repositories": ["l-m"]})
    );
}

#[test]
fn referrers() {
    let server = Server::start(&[]);
    let (subject, text) = server.push_image("f", "v1", b"x");
    let empty = server.push_blob("f", b"{}");
    let mut pushed = Vec::new();
    for kind in ["application/a", "application/b"] {
        let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2}, "layers": [],
            "annotations": {"k": kind},
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": text.len()}});
        let digest = Digest::sha256_of(artifact.to_string().as_bytes());
        let path = format!("/v2/f/manifests/{digest}");
        let put = server.send(
            "PUT",
            &path,
            &[("Content-Type", MANIFEST)],
            artifact.to_string().as_bytes(),
        );
        assert_eq!(put.expect(201).header("oci-subject"), subject.to_string());
        pushed.push(digest.to_string());
    }
    let list = |query: &str| {
        server
            .get(&format!("/v2/f/referrers/{subject}{query}"))
            .expect(200)
    };
    let all = list("");
    assert_eq!(
        all.header("content-type"),
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
    let one = list("?artifactType=application/b");
    assert_eq!(one.header("oci-filters-applied"), "artifactType");
    let entry = &one.json()["manifests"][0];
    assert_eq!(entry["digest"], pushed[1]);
    assert_eq!(entry["annotations"]["k"], "application/b");
    server
        .send(
            "DELETE",
            &format!("/v2/f/manifests/{}", pushed[1]),
            &[],
            b"",
        )
        .expect(202);
    assert_eq!(
        list("").json()["manifests"].as_array().map(Vec::len),
        Some(1)
    );
    let none = server
        .get(&format!("/v2/other/referrers/{subject}"))
        .expect(200);
    assert_eq!(none.json()["manifests"], json!([]));
    assert_eq!(
        server.get("/v2/f/referrers/nonsense").error(),
        "400 DIGEST_INVALID"
    );
}
