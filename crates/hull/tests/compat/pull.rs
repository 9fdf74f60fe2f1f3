//! Pull and push with Debian's `docker-registry` on loopback.

use hull_testkit::image::Image;
use hull_testkit::registry::{Registry, RegistryOptions};

use crate::engine::Engine;

/// An engine in the host's network namespace would reach the registry on loopback; ours has a loopback of its own, so the registry's
/// traffic is carried between the two by socat.
pub(crate) fn bridge(engine: &Engine, registry: &Registry) -> Carrier {
    Carrier::new(engine, registry.port())
}

/// Carries a registry's connections into an engine's network namespace while it lives.
pub(crate) struct Carrier {
    inside: std::process::Child,
    outside: std::process::Child,
}

impl Carrier {
    /// Carries what comes to `port` of 127.0.0.1 in the engine's namespace to the same port of the host's.
    pub(crate) fn new(engine: &Engine, port: u16) -> Self {
        let socket = engine.root().join("registry.sock").display().to_string();
        let outside = std::process::Command::new("socat")
            .arg(format!("UNIX-LISTEN:{socket},fork"))
            .arg(format!("TCP:127.0.0.1:{port}"))
            .spawn()
            .expect("start socat");
        let inside = engine
            .enter("socat")
            .arg(format!("TCP-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1"))
            .arg(format!("UNIX-CONNECT:{socket}"))
            .spawn()
            .expect("start socat");
        let carrier = Self { inside, outside };
        let listens = hull_testkit::process::eventually(std::time::Duration::from_secs(5), || {
            engine
                .in_netns(&["ss", "-Hltn"])
                .contains(&format!(":{port} "))
        });
        assert!(listens, "socat does not listen");
        carrier
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        for child in [&mut self.inside, &mut self.outside] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn registry(options: RegistryOptions) -> Option<Registry> {
    let registry = Registry::start(options);
    if registry.is_none() {
        hull_testkit::skip!("docker-registry is not installed");
    }
    registry
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest() {
    let Some(registry) = registry(RegistryOptions::default()) else {
        return;
    };
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let _carrier = bridge(&engine, &registry);
    let image = Image::layered("x:1");
    if registry.push(&image, "team/layered:1").is_none() {
        hull_testkit::skip!("skopeo is not installed");
        return;
    }
    let name = format!("{}/team/layered:1", registry.host());
    let pulled = engine.ok(&["pull", &name]);
    let digest = pulled
        .lines()
        .find_map(|line| line.strip_prefix("Digest: "))
        .expect("a digest is printed")
        .to_owned();
    assert!(
        pulled.contains(&format!("Status: Downloaded newer image for {name}")),
        "{pulled}"
    );
    assert!(
        engine
            .ok(&["pull", &name])
            .contains(&format!("Status: Image is up to date for {name}"))
    );
    assert_eq!(engine.ok(&["run", "--rm", &name, "cat", "/data/new"]), "2");
    engine.ok(&["rmi", &name]);
    let by_digest = format!("{}/team/layered@{digest}", registry.host());
    assert_eq!(
        engine.ok(&["run", "--rm", &by_digest, "cat", "/data/kept"]),
        "1"
    );
    assert_eq!(
        engine.inspect(&by_digest, "{{index .RepoDigests 0}}"),
        by_digest
    );
    engine.fails(
        &["pull", &format!("{}/team/layered:nope", registry.host())],
        1,
        "manifest unknown",
    );
    engine.fails(
        &["pull", &format!("{}/team/none", registry.host())],
        1,
        "not found",
    );
}

#[test]
fn run_pulls_what_is_missing() {
    let Some(registry) = registry(RegistryOptions::default()) else {
        return;
    };
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let _carrier = bridge(&engine, &registry);
    if registry.push(&Image::busybox("x:1"), "busy:1").is_none() {
        hull_testkit::skip!("skopeo is not installed");
        return;
    }
    let name = format!("{}/busy:1", registry.host());
    engine.fails(&["run", "--pull", "never", &name], 125, "No such image");
    let output = engine.run(&["run", "--rm", &name, "echo", "ran"]);
    assert_eq!(output.stdout, "ran\n", "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains(&format!("Unable to find image '{name}' locally")),
        "{}",
        output.stderr
    );
}

#[test]
fn push_and_login_with_a_password() {
    let account = Some(("user".to_owned(), "secret".to_owned()));
    let Some(registry) = registry(RegistryOptions {
        account,
        ..RegistryOptions::default()
    }) else {
        return;
    };
    let Some(engine) = Engine::start() else {
        return;
    };
    let _carrier = bridge(&engine, &registry);
    let name = format!("{}/mine/busybox:2", registry.host());
    engine.ok(&["tag", "busybox", &name]);
    engine.fails(&["push", &name], 1, "no basic auth credentials");
    let host = registry.host();
    let wrong = engine
        .cli()
        .run_with_input(["login", "-u", "user", "--password-stdin", &host], b"wrong");
    assert_ne!(wrong.code(), 0);
    let login = engine.cli().run_with_input(
        ["login", "-u", "user", "--password-stdin", &host],
        b"secret",
    );
    assert!(login.ok().contains("Login Succeeded"), "{}", login.stdout);
    let id = engine.inspect(&name, "{{.Id}}");
    engine.ok(&["push", &name]);
    engine.ok(&["rmi", "-f", &id]);
    engine.ok(&["pull", &name]);
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
}

#[test]
fn a_root_file_system_is_imported_from_an_address() {
    let Some(registry) = registry(RegistryOptions::default()) else {
        return;
    };
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let _carrier = bridge(&engine, &registry);
    let image = Image::busybox("x:1");
    if registry.push(&image, "team/box:1").is_none() {
        hull_testkit::skip!("skopeo is not installed");
        return;
    }
    let layer = hull_testkit::image::digest(&hull_testkit::image::gzip(&image.layers[0]));
    let address = format!("{}/v2/team/box/blobs/{layer}", registry.url());
    let said = engine.ok(&["import", "-c", "CMD [\"echo\", \"hi\"]", &address, "from:1"]);
    assert!(
        said.contains(&format!("Downloading from {address}")),
        "{said}"
    );
    assert!(
        said.lines()
            .last()
            .is_some_and(|id| id.starts_with("sha256:")),
        "{said}"
    );
    assert_eq!(engine.ok(&["run", "--rm", "from:1"]), "hi");
    let missing = format!("{}/v2/team/box/blobs/none", registry.url());
    engine.fails(&["import", &missing, "from:2"], 1, "failed to GET");
}

/// Docker has neither: its search needs an index, and it verifies nothing.
#[test]
fn a_catalog_is_searched_and_a_policy_is_kept() {
    if crate::engine::kind() != crate::engine::Kind::Hull {
        return;
    }
    let Some(registry) = registry(RegistryOptions::default()) else {
        return;
    };
    let files = hull_testkit::TempRoot::new("hullct");
    let policy = serde_json::json!({"default": [{"type": "reject"}],
        "transports": {"docker": {format!("{}/good", registry.host()): [{"type": "insecureAcceptAnything"}]}}});
    let policy = files.file("policy.json", policy.to_string());
    let flags = [
        "--signature-policy",
        policy.to_str().expect("a path in UTF-8"),
    ];
    let Some(engine) = Engine::start_empty(&flags) else {
        return;
    };
    let _carrier = bridge(&engine, &registry);
    let image = Image::busybox("x:1");
    let (Some(good), Some(bad)) = (
        registry.push(&image, "good/box:1"),
        registry.push(&image, "bad/box:1"),
    ) else {
        hull_testkit::skip!("skopeo is not installed");
        return;
    };
    let term = format!("{}/box", registry.host());
    let found = engine.ok(&["search", "--format", "{{.Name}}", &term]);
    let mut found: Vec<_> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            format!("{}/bad/box", registry.host()),
            format!("{}/good/box", registry.host())
        ]
    );
    engine.ok(&["pull", "-q", &good]);
    engine.fails(&["pull", &bad], 1, "is refused by the signature policy");
}
