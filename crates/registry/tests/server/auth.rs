//! Passwords, tokens, TLS, and what the server can be told to refuse.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hull_oci::Digest;
use hull_testkit::{TempRoot, process};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::json;

use crate::process::Server;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn passwords() {
    let temp = TempRoot::new("hull-registry-test");
    let line = |user: &str, password: &str| {
        format!("{user}:{}\n", bcrypt::hash(password, 4).expect("hash"))
    };
    let file = temp.file("htpasswd", line("ada", "secret"));
    let server = Server::start(&["--htpasswd", &file.display().to_string(), "--realm", "here"]);
    let status = |authorization: &str| {
        server
            .send("GET", "/v2/", &[("Authorization", authorization)], b"")
            .status
    };
    let challenge = server.get("/v2/").expect(401);
    assert_eq!(challenge.header("www-authenticate"), "Basic realm=\"here\"");
    assert_eq!(challenge.error(), "401 UNAUTHORIZED");
    assert_eq!(status(&basic("ada", "secret")), 200);
    assert_eq!(status(&basic("ada", "secret")), 200, "remembered");
    for bad in [
        basic("ada", "wrong"),
        basic("eve", "secret"),
        "Basic !!".into(),
        "Bearer x".into(),
        "Basic".into(),
    ] {
        assert_eq!(status(&bad), 401, "{bad}");
    }
    server.get("/healthz").expect(200);
    server.get("/metrics").expect(401);
    // A new file is read without a restart.
    temp.file("htpasswd", line("eve", "new"));
    let changed = || status(&basic("eve", "new")) == 200 && status(&basic("ada", "secret")) == 401;
    assert!(process::eventually(Duration::from_secs(10), changed));
}

#[test]
fn weak_hashes_are_refused_at_the_start() {
    let temp = TempRoot::new("hull-registry-test");
    let file = temp.file("htpasswd", "eve:$apr1$x$y\n");
    let started =
        std::panic::catch_unwind(|| Server::start(&["--htpasswd", &file.display().to_string()]));
    assert!(started.is_err());
}

/// Keys and certificates as an operator makes them, by openssl.
fn openssl(temp: &TempRoot, arguments: &[&str]) -> bool {
    let Some(program) = hull_testkit::skips::program("openssl") else {
        return false;
    };
    let output = process::run(
        Command::new(program)
            .args(arguments)
            .current_dir(temp.path()),
        Duration::from_secs(60),
    );
    output.expect("openssl").ok();
    true
}

fn claims(name: &str, actions: &[&str]) -> serde_json::Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("now")
        .as_secs();
    json!({"iss": "issuer", "aud": "registry", "sub": "ada", "exp": now + 300, "nbf": now - 5,
        "access": [{"type": "repository", "name": name, "actions": actions}]})
}

fn token(
    algorithm: &str,
    claims: &serde_json::Value,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let header = json!({"typ": "JWT", "alg": algorithm}).to_string();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = sign(signed.as_bytes());
    format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token_server(keys: &std::path::Path) -> Server {
    let keys = keys.display().to_string();
    Server::start(&[
        "--token-realm",
        "http://t/token",
        "--token-service",
        "registry",
        "--token-issuer",
        "issuer",
        "--token-keys",
        &keys,
    ])
}

#[test]
fn tokens_signed_by_a_certificates_rsa_key() {
    let temp = TempRoot::new("hull-registry-test");
    let request = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
        "-subj", "/CN=t", "-days", "2",
    ];
    if !openssl(&temp, &request) {
        hull_testkit::skip!("openssl is not installed");
        return;
    }
    let pem = std::fs::read_to_string(temp.join("key.pem")).expect("key");
    let der: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("key");
    let sign = |message: &[u8]| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .expect("sign");
        signature
    };
    let server = token_server(&temp.join("cert.pem"));
    let blob = format!("/v2/a/blobs/{}", Digest::sha256_of(b"x"));
    let challenge = server.get(&blob).expect(401);
    assert_eq!(
        challenge.header("www-authenticate"),
        "Bearer realm=\"http://t/token\",service=\"registry\",scope=\"repository:a:pull\""
    );
    let may_push = token("RS256", &claims("a", &["pull", "push"]), sign);
    let may_pull = token("RS256", &claims("a", &["pull"]), sign);
    let ask = |method: &str, path: &str, token: &str| {
        server.send(method, path, &[("Authorization", token)], b"")
    };
    ask("POST", "/v2/a/blobs/uploads/", &may_push).expect(202);
    assert_eq!(ask("GET", &blob, &may_pull).error(), "404 BLOB_UNKNOWN");
    let short = ask("POST", "/v2/a/blobs/uploads/", &may_pull).expect(401);
    let says = short.header("www-authenticate").to_owned();
    assert!(
        says.contains("repository:a:pull,push") && says.ends_with("error=\"insufficient_scope\""),
        "{says}"
    );
    ask("GET", &blob.replace("/a/", "/b/"), &may_pull).expect(401);
    ask("DELETE", &blob, &may_push).expect(401);
    ask("GET", "/v2/_catalog", &may_push).expect(401);
    ask("GET", "/v2/", &may_pull).expect(200);
    let from = format!(
        "/v2/a/blobs/uploads/?mount={}&from=secret",
        Digest::sha256_of(b"x")
    );
    assert!(
        ask("POST", &from, &may_push)
            .expect(401)
            .header("www-authenticate")
            .contains("repository:secret:pull")
    );
    let forged = token("RS256", &claims("a", &["pull"]), |_| vec![0; 256]);
    assert!(
        ask("GET", &blob, &forged)
            .expect(401)
            .header("www-authenticate")
            .contains("invalid_token")
    );
    let none = token("none", &claims("a", &["pull"]), |_| Vec::new());
    ask("GET", &blob, &none).expect(401);
}

#[test]
fn tokens_signed_by_an_elliptic_public_key() {
    let temp = TempRoot::new("hull-registry-test");
    if !openssl(
        &temp,
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-outform",
            "DER",
            "-out",
            "key.der",
        ],
    ) {
        hull_testkit::skip!("openssl is not installed");
        return;
    }
    openssl(
        &temp,
        &[
            "pkey",
            "-inform",
            "DER",
            "-in",
            "key.der",
            "-pubout",
            "-out",
            "public.pem",
        ],
    );
    let der = std::fs::read(temp.join("key.der")).expect("key");
    let rng = SystemRandom::new();
    let server = token_server(&temp.join("public.pem"));
    // ring wants PKCS #8, which openssl writes only on request before version 3.
    openssl(
        &temp,
        &[
            "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "key.der", "-outform", "DER",
            "-out", "key8.der",
        ],
    );
    let der8 = std::fs::read(temp.join("key8.der")).unwrap_or(der);
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der8, &rng).expect("pair");
    let good = token("ES256", &claims("a", &["pull"]), |message| {
        pair.sign(&rng, message).expect("sign").as_ref().to_vec()
    });
    server
        .send("GET", "/v2/a/tags/list", &[("Authorization", &good)], b"")
        .expect(404);
    server
        .send("GET", "/v2/b/tags/list", &[("Authorization", &good)], b"")
        .expect(401);
}

#[test]
fn tls() {
    let (Some(curl), temp) = (
        hull_testkit::skips::program("curl"),
        TempRoot::new("hull-registry-test"),
    ) else {
        hull_testkit::skip!("curl is not installed");
        return;
    };
    let (cert, key) = hull_testkit::registry::certificate();
    let (cert, key) = (temp.file("cert.pem", cert), temp.file("key.pem", key));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let server = Server::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let blob = temp.file("blob", vec![5; 3_000_000]);
    let digest = Digest::sha256_of(&vec![5; 3_000_000]);
    let url = format!("https://127.0.0.1:{}/v2/a/blobs", server.port);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command
            .args(["-sS", "--fail", "--cacert", &cert])
            .args(arguments);
        process::run(&mut command, Duration::from_secs(30)).expect("curl")
    };
    let data = format!("@{}", blob.display());
    run(&[
        "-X",
        "POST",
        "--data-binary",
        &data,
        &format!("{url}/uploads/?digest={digest}"),
    ])
    .ok();
    for version in ["--http1.1", "--http2"] {
        let out = temp.join("out").display().to_string();
        run(&[version, "-o", &out, &format!("{url}/{digest}")]).ok();
        assert!(
            std::fs::read(temp.join("out")).expect("out") == vec![5; 3_000_000],
            "{version}"
        );
    }
}

/// A client certificate of the authority is let in, one of another authority and none are not.
#[test]
fn certificates_of_clients() {
    let temp = TempRoot::new("hull-registry-test");
    let Some(curl) = hull_testkit::skips::program("curl") else {
        hull_testkit::skip!("curl is not installed");
        return;
    };
    let (cert, key) = hull_testkit::registry::certificate();
    let (cert, key) = (temp.file("cert.pem", cert), temp.file("key.pem", key));
    let path = |name: &str| temp.join(name).display().to_string();
    let signed = |name: &str| {
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt"];
        let (ca, ca_key) = (format!("{name}-ca.pem"), format!("{name}-ca.key"));
        let (own, own_key, csr) = (
            format!("{name}.pem"),
            format!("{name}.key"),
            format!("{name}.csr"),
        );
        let curve = "ec_paramgen_curve:P-256";
        let ca_subject = format!("/CN={name} authority");
        let subject = format!("/CN={name}");
        let mut done = openssl(
            &temp,
            &[
                &request[..],
                &[
                    curve,
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    &ca_subject,
                    "-keyout",
                    &ca_key,
                    "-out",
                    &ca,
                ],
            ]
            .concat(),
        );
        done &= openssl(
            &temp,
            &[
                "req", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-subj", &subject, "-keyout",
                &own_key, "-out", &csr,
            ],
        );
        temp.file("extensions", "extendedKeyUsage=clientAuth\n");
        done & openssl(
            &temp,
            &[
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "extensions",
                "-out",
                &own,
            ],
        )
    };
    if !(signed("known") && signed("stranger")) {
        hull_testkit::skip!("openssl is not installed");
        return;
    }
    let server = Server::start(&[
        "--tls-cert",
        &cert.display().to_string(),
        "--tls-key",
        &key.display().to_string(),
        "--tls-client-ca",
        &path("known-ca.pem"),
    ]);
    let ask = |client: Option<&str>| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--cacert"]).arg(&cert);
        if let Some(name) = client {
            command.args(["--cert", &path(&format!("{name}.pem"))]);
            command.args(["--key", &path(&format!("{name}.key"))]);
        }
        command.arg(format!("https://127.0.0.1:{}/v2/", server.port));
        process::run(&mut command, Duration::from_secs(30)).expect("curl")
    };
    assert_eq!(ask(Some("known")).ok(), "{}");
    for refused in [ask(Some("stranger")), ask(None)] {
        assert!(!refused.status.success(), "{refused:?}");
    }
}

/// What only the start or a burst of requests has needed does not stay resident, and the server goes on without it.
#[test]
fn an_idle_server_is_small() {
    let server = Server::start(&[]);
    let kib = |field: &str| -> u64 {
        let path = format!("/proc/{}/status", server.pid());
        let status = std::fs::read_to_string(path).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).expect("a number")
    };
    for round in 0..3 {
        for _ in 0..20 {
            server.get("/v2/").expect(200);
        }
        let rests = process::eventually(Duration::from_secs(30), || {
            // Relocations of this test program stay; the release has none.
            kib("VmRSS:") * 3 < kib("VmHWM:") * 2
        });
        assert!(
            rests,
            "round {round}: {} of at most {} KiB",
            kib("VmRSS:"),
            kib("VmHWM:")
        );
    }
}

#[test]
fn read_only_and_without_delete() {
    let mut server = Server::start(&["--no-delete"]);
    let (digest, _) = server.push_image("a", "v1", b"x");
    assert_eq!(
        server
            .send("DELETE", "/v2/a/manifests/v1", &[], b"")
            .error(),
        "405 UNSUPPORTED"
    );
    assert_eq!(
        server
            .send("DELETE", &format!("/v2/a/blobs/{digest}"), &[], b"")
            .error(),
        "405 UNSUPPORTED"
    );
    let location = server.start("a");
    server.send("DELETE", &location, &[], b"").expect(204);
    let root = server.root.clone();
    server.kill();
    let read_only = Server::start_at(&root, &["--read-only"]);
    read_only.get("/v2/a/manifests/v1").expect(200);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PUT", "/v2/a/manifests/v2"),
        ("DELETE", "/v2/a/manifests/v1"),
    ] {
        assert_eq!(
            read_only.send(method, path, &[], b"").error(),
            "405 UNSUPPORTED"
        );
    }
}

#[test]
fn metrics_and_access_log() {
    let temp = TempRoot::new("hull-registry-test");
    let log = temp.join("log").display().to_string();
    let port = hull_testkit::net::free_port();
    let server = Server::start(&[
        "--access-log",
        &log,
        "--metrics-listen",
        &format!("127.0.0.1:{port}"),
    ]);
    server.push_image("a", "v1", b"x");
    server.get("/v2/a/manifests/v1").expect(200);
    let text = crate::client::Client { port }
        .get("/metrics")
        .expect(200)
        .text();
    let line = "hull_registry_requests_total{method=\"GET\",route=\"manifest\",code=\"200\"} 1";
    assert!(
        text.contains(line) && text.contains("hull_registry_upload_bytes_total 3"),
        "{text}"
    );
    crate::client::Client { port }.get("/v2/").expect(404);
    crate::client::Client { port }.get("/healthz").expect(200);
    let lines = std::fs::read_to_string(temp.join("log")).expect("log");
    assert!(
        lines.contains("\"GET /v2/a/manifests/v1 HTTP/1.1\" 200 "),
        "{lines}"
    );
}
