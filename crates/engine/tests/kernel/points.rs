//! The daemon dies at every failure point; the next one finds a world that fits its database, and can go on with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use futures_util::StreamExt;
use hull_api::container::ContainerCreateRequest;
use hull_api::exec::{ExecConfig, ExecStartConfig};
use hull_api::filters::Filters;
use hull_api::network::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use hull_engine::containers::RemoveOptions;
use hull_engine::failpoint::{Action, POINTS};
use hull_engine::images::PullOptions;
use hull_engine::{Engine, Kind};
use hull_testkit::image::Image;
use hull_testkit::registry::{Registry, RegistryOptions};

use crate::case;
use crate::fixture::{self, Case, Fixture};
use crate::world::World;

pub const CASES: &[Case] = &[case!(death_at_every_point)];

/// What belongs to the victim, and may be pruned.
const LABEL: &str = "crash";
/// The image that is pulled, below the registry.
const PULLED: &str = "team/crash:1";

/// The process that dies: opens the engine on the given roots, with a failure point armed to abort, and lives through
/// everything that has one.
pub fn victim(args: &[OsString]) -> i32 {
    let [root, number, point, action] = args else {
        return 2;
    };
    let root = PathBuf::from(root);
    let number: u32 = number.to_string_lossy().parse().unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut options = fixture::options_at(&root, number, std::process::id());
        options.cgroup_parent = Some(std::env::var("HKE_CGROUP").expect("HKE_CGROUP"));
        options.instance = std::env::var("HKE_INSTANCE").expect("HKE_INSTANCE");
        options.bridge.name = Some(format!("{}b", options.instance));
        let engine = Engine::open(options.clone()).await.expect("open");
        options
            .failpoints
            .arm(
                &point.to_string_lossy(),
                match action.to_str() {
                    Some("all") => Action::AbortAll,
                    _ => Action::Abort,
                },
            )
            .expect("a point");
        live(&engine).await;
        prune(&engine).await;
        if let Ok(image) = std::env::var("HKE_PULL") {
            pull(&engine, &image).await;
            engine.images.prune(unused()).await.expect("prune images");
        }
    });
    0
}

/// A container's life, with an exec in it and a second network.
async fn live(engine: &Engine) {
    let network = NetworkCreateRequest {
        name: "crashnet".into(),
        ..NetworkCreateRequest::default()
    };
    let network = engine.networks.create(network).await.expect("network").id;
    let mut request = Fixture::sh("exec sleep 1000");
    request
        .host_config
        .port_bindings
        .insert("80/tcp".to_owned(), Some(vec![Default::default()]));
    request.host_config.binds = vec!["crash:/data".to_owned()];
    let id = create(engine, "crash", request).await;
    engine.containers.start(&id).await.expect("start");
    exec(engine, &id, "exec sleep 1000").await;
    connect(engine, &id).await.expect("connect");
    disconnect(engine, &id).await.expect("disconnect");
    engine.containers.kill(&id, None).await.expect("kill");
    // The teardown after an exit goes on by itself.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let options = RemoveOptions {
        force: true,
        ..RemoveOptions::default()
    };
    engine
        .containers
        .remove(&id, options)
        .await
        .expect("remove");
    engine
        .volumes
        .remove("crash", false)
        .await
        .expect("remove the volume");
    engine
        .networks
        .remove(&network)
        .await
        .expect("remove the network");
}

/// Something of each kind to prune.
async fn prune(engine: &Engine) {
    let mut request = Fixture::sh("true");
    request
        .config
        .labels
        .insert(LABEL.to_owned(), String::new());
    create(engine, "pruned", request).await;
    engine.containers.prune(pruned()).await.expect("prune");
}

fn pruned() -> Filters {
    let mut filters = Filters::default();
    filters.add("label", LABEL);
    filters
}

/// Images with names too.
fn unused() -> Filters {
    let mut filters = pruned();
    filters.add("dangling", "false");
    filters
}

async fn create(engine: &Engine, name: &str, request: ContainerCreateRequest) -> String {
    let made = engine.containers.create(Some(name), None, request).await;
    made.expect("create").id
}

async fn exec(engine: &Engine, container: &str, script: &str) {
    let config = ExecConfig {
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..ExecConfig::default()
    };
    let exec = engine.execs.create(container, config).await.expect("exec");
    let start = ExecStartConfig {
        detach: true,
        ..ExecStartConfig::default()
    };
    engine
        .execs
        .start(&exec, start)
        .await
        .expect("start the exec");
}

async fn connect(engine: &Engine, container: &str) -> hull_engine::Result<()> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: None,
    };
    engine.networks.connect("crashnet", request).await
}

async fn disconnect(engine: &Engine, container: &str) -> hull_engine::Result<()> {
    let request = NetworkDisconnectRequest {
        container: container.to_owned(),
        force: false,
    };
    engine.networks.disconnect("crashnet", request).await
}

async fn pull(engine: &Engine, image: &str) {
    let options = PullOptions {
        image: image.to_owned(),
        ..PullOptions::default()
    };
    let mut progress = engine.images.pull(options).await.expect("pull");
    while let Some(line) = progress.next().await {
        line.expect("pull");
    }
}

async fn death_at_every_point() {
    let mut fixture = Fixture::new().await;
    // Keeps the image from being pruned.
    let keeper = fixture.create("keeper", Fixture::sh("true")).await;
    let registry = Registry::start(RegistryOptions::default());
    let image = registry.as_ref().and_then(|registry| {
        let config = serde_json::json!({ "Labels": { LABEL: "" } });
        registry.push(&Image::layered("x:1").config(config), PULLED)?;
        Some(format!("{}/{PULLED}", registry.host()))
    });
    if image.is_none() {
        hull_testkit::skip!("deaths in pulls and prunes of images need docker-registry and skopeo");
    }
    // What an engine makes once and keeps is there before.
    fixture.output("first", Fixture::sh("true")).await;
    let before = World::without_links(&fixture);
    let of_images = |point: &str| point.starts_with("pull.") || point.starts_with("image.");
    let all = POINTS.iter().map(|point| (*point, "daemon"));
    // The shim dies too, as when the host's memory is short: nobody tidies up what it has prepared.
    let starts = POINTS.iter().filter(|point| point.starts_with("start."));
    for (point, who) in all.chain(starts.map(|point| (*point, "all"))) {
        if image.is_none() && of_images(point) {
            continue;
        }
        let (root, number) = (fixture.root.path().to_owned(), fixture.number);
        fixture.engine.shutdown(false).await.unwrap();
        let output = Command::new("/proc/self/exe")
            .arg("victim")
            .arg(&root)
            .arg(number.to_string())
            .arg(point)
            .arg(who)
            .env(
                "HKE_CGROUP",
                fixture.options.cgroup_parent.as_deref().unwrap(),
            )
            .env("HKE_INSTANCE", &fixture.options.instance)
            .envs(image.as_ref().map(|image| ("HKE_PULL", image)))
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{point} was not reached");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{point}: {said}");
        fixture = fixture.reopen().await;
        consistent(&fixture, point).await;
        if let Some(image) = image.as_ref().filter(|_| of_images(point)) {
            // What is there of it is used, and can be removed.
            pull(&fixture.engine, image).await;
        }
        clean(&fixture, point).await;
        before.assert_same(&fixture, point);
    }
    fixture.remove(&keeper).await;
    fixture.finish().await;
}

/// What is there works, and what the kernel has is what the rows say.
async fn consistent(fixture: &Fixture, point: &str) {
    let engine = &fixture.engine;
    let containers = &engine.containers;
    let container = match containers.inspect("crash", false).await {
        Ok(container) => container,
        Err(error) => return assert_eq!(error.kind, Kind::NotFound, "{point}"),
    };
    let status = container.state.status.as_str();
    assert!(
        ["created", "running", "exited"].contains(&status),
        "{point}: {status}"
    );
    if !container.state.running {
        assert_eq!(
            endpoints(fixture),
            0,
            "{point}: endpoints of what does not run"
        );
        containers
            .start("crash")
            .await
            .unwrap_or_else(|error| panic!("{point}: {}", error.message));
    }
    let pid = fixture.pid("crash").await;
    links(fixture, pid, point).await;
    let processes = containers.top("crash", "").await.unwrap().processes.len();
    let wanted = 1 + usize::from(["exec.started"].contains(&point));
    if point.starts_with("exec.") {
        assert_eq!(processes, wanted, "{point}: processes");
    }
    exec(engine, "crash", "sleep 0").await;
    // Joining and leaving once more, from whatever state it was left in.
    if container.network_settings.networks.contains_key("crashnet") {
        disconnect(engine, "crash").await.unwrap();
        links(fixture, pid, point).await;
    }
    connect(engine, "crash").await.unwrap();
    links(fixture, pid, point).await;
    disconnect(engine, "crash").await.unwrap();
    links(fixture, pid, point).await;
    // No network with names is left: its resolver is the bridge's.
    let resolv = std::fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).unwrap();
    assert!(!resolv.contains("127.0.0.11"), "{point}: {resolv}");
}

/// The container's interfaces and rows are those of the networks that it is in.
async fn links(fixture: &Fixture, pid: i64, point: &str) {
    let container = fixture
        .engine
        .containers
        .inspect("crash", false)
        .await
        .unwrap();
    let networks = container.network_settings.networks.len();
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let interfaces = text
        .lines()
        .filter(|line| line.trim().starts_with("eth"))
        .count();
    assert_eq!(interfaces, networks, "{point}: interfaces: {text}");
    assert_eq!(endpoints(fixture), networks, "{point}: endpoints");
}

fn endpoints(fixture: &Fixture) -> usize {
    let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
    let rows = db.read(hull_state::networks::endpoints).unwrap();
    rows.len()
}

/// Removes by requests what the victim made.
async fn clean(fixture: &Fixture, point: &str) {
    let engine = &fixture.engine;
    for name in ["crash", "pruned"] {
        if engine.containers.inspect(name, false).await.is_ok() {
            fixture.remove(name).await;
        }
    }
    for volume in engine
        .volumes
        .list(Filters::default())
        .await
        .unwrap()
        .volumes
    {
        engine.volumes.remove(&volume.name, false).await.unwrap();
    }
    if engine.networks.inspect("crashnet", false, "").await.is_ok() {
        engine.networks.remove("crashnet").await.unwrap();
    }
    let pruned = engine.images.prune(unused()).await;
    pruned.unwrap_or_else(|error| panic!("{point}: {}", error.message));
}
