//! References: Docker's table of names, its sentences, round trips.

use expect_test::{Expect, expect};
use hull_oci::reference::ReferenceError;
use hull_oci::{Digest, Reference};
use proptest::prelude::*;

const HEX: &str = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";

fn check(input: &str, expected: &Expect) {
    let shown = match Reference::parse_normalized(input) {
        Ok(reference) => format!(
            "{} | {} | {}",
            reference,
            reference.familiar(),
            reference.domain
        ),
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn a_familiar_name_means_the_same_image() {
    let id = format!("docker.io/library/{}", "a".repeat(64));
    for name in [
        "docker.io/a.b/c",
        "docker.io/localhost/c",
        "docker.io/index.docker.io/c",
        "docker.io/docker.io/c",
        &id,
    ] {
        let reference = Reference::parse_normalized(name).unwrap();
        let familiar = reference.familiar();
        assert_eq!(familiar, name);
        assert_eq!(Reference::parse_normalized(&familiar), Ok(reference));
    }
}

#[test]
fn names() {
    check(
        "nginx",
        &expect!["docker.io/library/nginx | nginx | docker.io"],
    );
    check(
        "nginx:1.25",
        &expect!["docker.io/library/nginx:1.25 | nginx:1.25 | docker.io"],
    );
    check(
        "docker.io/nginx",
        &expect!["docker.io/library/nginx | nginx | docker.io"],
    );
    check(
        "index.docker.io/me/app:x",
        &expect!["docker.io/me/app:x | me/app:x | docker.io"],
    );
    check(
        "library/foo/bar",
        &expect!["docker.io/library/foo/bar | library/foo/bar | docker.io"],
    );
    check(
        "localhost/foo",
        &expect!["localhost/foo | localhost/foo | localhost"],
    );
    check(
        "localhost:5000/foo:v1",
        &expect!["localhost:5000/foo:v1 | localhost:5000/foo:v1 | localhost:5000"],
    );
    check(
        "host/foo",
        &expect!["docker.io/host/foo | host/foo | docker.io"],
    );
    check(
        "Docker/docker",
        &expect!["Docker/docker | Docker/docker | Docker"],
    );
    check(
        "[fc00::1]:5000/docker",
        &expect!["[fc00::1]:5000/docker | [fc00::1]:5000/docker | [fc00::1]:5000"],
    );
    check("[::1]/a", &expect!["[::1]/a | [::1]/a | [::1]"]);
    check(
        "192.168.0.1:80",
        &expect!["docker.io/library/192.168.0.1:80 | 192.168.0.1:80 | docker.io"],
    );
    check(
        "docker---rules/dock__er.x-y",
        &expect!["docker.io/docker---rules/dock__er.x-y | docker---rules/dock__er.x-y | docker.io"],
    );
    check(
        &format!("docker.io/{HEX}"),
        &expect![[
            r#"docker.io/library/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a | docker.io/library/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a | docker.io"#
        ]],
    );
    check(
        &format!("a:b@sha256:{HEX}"),
        &expect![[
            r#"docker.io/library/a:b@sha256:1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a | a:b@sha256:1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a | docker.io"#
        ]],
    );
}

#[test]
fn sentences() {
    check(
        "Foo",
        &expect![
            "error: invalid reference format: repository name (library/Foo) must be lowercase"
        ],
    );
    check(
        "docker/Docker:x",
        &expect![
            "error: invalid reference format: repository name (docker/Docker) must be lowercase"
        ],
    );
    check(
        "docker.io/Foo",
        &expect![
            "error: invalid reference format: repository name (library/Foo) must be lowercase"
        ],
    );
    check(
        HEX,
        &expect![[
            r#"error: invalid repository name (1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a), cannot specify 64-byte hexadecimal strings"#
        ]],
    );
    check(
        &"a/".repeat(128),
        &expect!["error: invalid reference format"],
    );
    check(
        &format!("x/{}", "a".repeat(254)),
        &expect!["error: repository name must not be more than 255 characters"],
    );
    check(
        "nginx@sha256:abc",
        &expect!["error: invalid reference format"],
    );
    check(
        &format!("nginx@sha256:{}", "a".repeat(40)),
        &expect!["error: invalid checksum digest length"],
    );
    check(
        &format!("nginx@md5:{}", "a".repeat(32)),
        &expect!["error: unsupported digest algorithm"],
    );
}

#[test]
fn malformed() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_path = "a".repeat(250);
    for text in [
        "",
        "/",
        ":",
        "@",
        "a/",
        "/a",
        "a:",
        "a@",
        ":tag",
        "a b",
        "a\n",
        "-docker",
        "-docker/docker",
        "docker-/docker",
        "docker///docker",
        "dock..er/docker",
        "dock_.er/docker",
        "____/____",
        "_a/_b",
        "https://github.com/docker/docker",
        "[fc00::1]",
        "[fc00::1]:5000",
        "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian",
        "[2001:db8:3:4::192.0.2.33]:5000/debian",
        "[]/a",
        "[::1]x/a",
        "[::1]:/a",
        "host.:5/a",
        "host.com:/a",
        "host.com:5x/a",
        "my_host.com/a",
        "a:-x",
        "a:.x",
        "a:b:c",
        "a@b@c",
        "ä",
        "../etc",
        "a/../b",
        "a/./b",
        &long_tag,
    ] {
        assert_eq!(
            Reference::parse_normalized(text),
            Err(ReferenceError::Format),
            "{text:?}"
        );
    }
    assert!(Reference::parse_normalized(&long_path).is_err());
}

#[test]
fn derived() {
    let nginx = Reference::parse_normalized("nginx").unwrap();
    assert!(nginx.is_name_only());
    assert_eq!(nginx.clone().with_default_tag().familiar(), "nginx:latest");
    let digest = Digest::sha256_of(b"");
    let pinned = nginx.clone().with_default_tag().to_digest(digest.clone());
    assert_eq!(pinned.tag, None);
    assert_eq!(pinned.clone().with_default_tag(), pinned);
    assert_eq!(
        pinned.to_string(),
        format!("docker.io/library/nginx@{digest}")
    );
    assert_eq!(pinned.tagged("v1").unwrap().familiar(), "nginx:v1");
    assert_eq!(
        nginx.tagged("").unwrap_err().to_string(),
        "invalid tag format"
    );
    assert_eq!(nginx.tagged("a/b").unwrap_err(), ReferenceError::Tag);
    assert_eq!(nginx.name(), "docker.io/library/nginx");
    assert_eq!(
        serde_json::to_string(&nginx).unwrap(),
        "\"docker.io/library/nginx\""
    );
    assert_eq!(
        serde_json::from_str::<Reference>("\"nginx\"").unwrap(),
        nginx
    );
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(
        text in "((([a-z]{1,5}\\.)?[a-zA-Z]{1,6}(:[0-9]{1,4})?|\\[[0-9a-f:]{1,6}\\])/)?[a-z0-9]{1,5}([._-]{1,2}[a-z0-9]{1,3})?(/[a-z0-9]{1,4})?(:[\\w.-]{1,6})?(@sha256:[0-9a-f]{64})?",
    ) {
        if let Ok(reference) = Reference::parse_normalized(&text) {
            let again = Reference::parse_normalized(&reference.to_string()).unwrap();
            prop_assert_eq!(&again, &reference);
            // The default domain hides in the familiar form, unless the path then looks like a domain of its own.
            let first = reference.path.split('/').next().unwrap_or_default();
            if reference.domain != "docker.io" || !(first.contains('.') || first == "localhost") {
                prop_assert_eq!(Reference::parse_normalized(&reference.familiar()).unwrap(), reference);
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}|[a-zA-Z0-9:/@._\\[\\]-]{0,80}") {
        if let Ok(reference) = Reference::parse_normalized(&text) {
            prop_assert!(reference.path.len() <= 255);
            prop_assert_eq!(Reference::parse_normalized(&reference.to_string()).unwrap(), reference);
        }
    }
}
