//! The daemon dies at a failure point; the next one finds a world that fits its database.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use hull_engine::failpoint::POINTS;
use hull_engine::{Engine, Kind};

use crate::case;
use crate::fixture::{self, Case, Fixture};

pub const CASES: &[Case] = &[
    case!(death_at_every_point),
    case!(an_unreadable_container_is_left_as_it_is),
    case!(death_of_daemon_and_shim),
    case!(death_of_shim_or_init_in_every_state),
];

/// The process that dies: opens the engine on the given roots, with a failure point armed to abort, and lives a
/// container's life.
pub fn victim(args: &[OsString]) -> i32 {
    let [root, number, point] = args else {
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
                hull_engine::failpoint::Action::Abort,
            )
            .expect("a point");
        let mut request = Fixture::sh("exec sleep 1000");
        request
            .host_config
            .port_bindings
            .insert("80/tcp".to_owned(), Some(vec![Default::default()]));
        request.host_config.binds = vec!["crash:/data".to_owned()];
        let id = engine
            .containers
            .create(Some("crash"), None, request)
            .await
            .expect("create")
            .id;
        engine.containers.start(&id).await.expect("start");
        engine.containers.kill(&id, None).await.expect("kill");
        // The teardown after an exit goes on by itself.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let options = hull_engine::containers::RemoveOptions {
            force: true,
            ..Default::default()
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
        let network = hull_api::network::NetworkCreateRequest {
            name: "crashnet".into(),
            ..Default::default()
        };
        let network = engine
            .networks
            .create(network)
            .await
            .expect("create a network");
        engine
            .networks
            .remove(&network.id)
            .await
            .expect("remove the network");
    });
    0
}

async fn death_at_every_point() {
    let mut fixture = Fixture::new().await;
    for point in POINTS
        .iter()
        .filter(|point| !point.starts_with("network.connect"))
    {
        let (root, number) = (fixture.root.path().to_owned(), fixture.number);
        fixture.engine.shutdown(false).await.unwrap();
        let output = Command::new("/proc/self/exe")
            .arg("victim")
            .arg(&root)
            .arg(number.to_string())
            .arg(point)
            .env(
                "HKE_CGROUP",
                fixture.options.cgroup_parent.as_deref().unwrap(),
            )
            .env("HKE_INSTANCE", &fixture.options.instance)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{point} was not reached");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{point}: {said}");
        fixture = fixture.reopen().await;
        consistent(&fixture, point).await;
    }
    fixture.finish().await;
}

/// A row that this Hull cannot read (a newer one wrote it) costs nobody his container.
async fn an_unreadable_container_is_left_as_it_is() {
    let mut fixture = Fixture::new().await;
    let id = fixture
        .run("kept", Fixture::sh("echo here > /file; exec sleep 1000"))
        .await;
    let pid = fixture.pid(&id).await;
    fixture.engine.shutdown(false).await.unwrap();
    let record = {
        let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
        let row = db.read(|tx| hull_state::containers::get(tx, &id)).unwrap();
        db.write(|tx| hull_state::containers::set_record(tx, &id, "{\"from\": \"the future\"}"))
            .unwrap();
        row.record
    };
    fixture = fixture.reopen().await;
    let seen = fixture.engine.containers.inspect(&id, false).await;
    assert_eq!(seen.unwrap_err().kind, Kind::NotFound);
    fixture.engine.shutdown(false).await.unwrap();
    {
        let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
        db.write(|tx| hull_state::containers::set_record(tx, &id, &record))
            .unwrap();
    }
    fixture = fixture.reopen().await;
    assert_eq!(fixture.pid(&id).await, pid, "it never stopped");
    let file = std::fs::read_to_string(format!("/proc/{pid}/root/file")).unwrap();
    assert_eq!(file, "here\n");
    fixture.remove(&id).await;
    fixture.finish().await;
}

/// Daemon and shim both gone: the container has ended for the next daemon, and can be started again.
async fn death_of_daemon_and_shim() {
    let mut fixture = Fixture::new().await;
    let id = fixture.run("orphan", Fixture::sh("exec sleep 1000")).await;
    let shim = parent(fixture.pid(&id).await);
    fixture.engine.shutdown(false).await.unwrap();
    kill(shim);
    fixture = fixture.reopen().await;
    let state = fixture
        .engine
        .containers
        .inspect(&id, false)
        .await
        .unwrap()
        .state;
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", 255));
    fixture
        .engine
        .containers
        .start(&id)
        .await
        .expect("start again");
    fixture.remove(&id).await;
    fixture.finish().await;
}

/// The parent of a container's first process: its shim.
fn parent(pid: i64) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .unwrap()
}

fn kill(pid: i64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Whatever is killed while the container runs, is paused or runs an exec: it has ended with 137, and starts again.
async fn death_of_shim_or_init_in_every_state() {
    let fixture = Fixture::new().await;
    let containers = &fixture.engine.containers;
    for state in ["running", "paused", "exec"] {
        for of_shim in [false, true] {
            let what = format!("{state}, of the shim: {of_shim}");
            let id = fixture.run("struck", Fixture::sh("exec sleep 1000")).await;
            let pid = fixture.pid(&id).await;
            let mut exec = None;
            match state {
                "paused" => containers.pause(&id).await.unwrap(),
                "exec" => {
                    let config = hull_api::exec::ExecConfig {
                        cmd: ["sleep", "1000"].map(str::to_owned).to_vec(),
                        ..Default::default()
                    };
                    let made = fixture.engine.execs.create(&id, config).await.unwrap();
                    let start = hull_api::exec::ExecStartConfig {
                        detach: true,
                        ..Default::default()
                    };
                    fixture.engine.execs.start(&made, start).await.unwrap();
                    exec = Some(made);
                }
                _ => {}
            }
            kill(if of_shim { parent(pid) } else { pid });
            if state == "paused" && !of_shim {
                // The freezer of cgroup v1 holds a signal back.
                let _ = containers.unpause(&id).await;
            }
            let mut seen = (String::new(), 0);
            for _ in 0..200 {
                let state = containers.inspect(&id, false).await.unwrap().state;
                seen = (state.status, state.exit_code);
                if seen.0 == "exited" {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert_eq!(seen, ("exited".to_owned(), 137), "{what}");
            assert!(
                !std::path::Path::new(&format!("/proc/{pid}/root/proc")).exists(),
                "{what}: it lives"
            );
            if let Some(exec) = exec {
                let seen = fixture.engine.execs.inspect(&exec).await.unwrap();
                assert!(!seen.running, "{what}");
            }
            containers
                .start(&id)
                .await
                .unwrap_or_else(|error| panic!("{what}: {}", error.message));
            fixture.remove(&id).await;
        }
    }
    fixture.finish().await;
}

/// What the next daemon must find, and that it can go on with it.
async fn consistent(fixture: &Fixture, point: &str) {
    let containers = &fixture.engine.containers;
    let here = containers.inspect("crash", false).await;
    match here {
        Ok(container) => {
            let running = container.state.running;
            assert!(
                ["created", "running", "exited"].contains(&container.state.status.as_str()),
                "{point}: {}",
                container.state.status
            );
            if running {
                assert!(
                    std::path::Path::new(&format!("/proc/{}", container.state.pid)).exists(),
                    "{point}"
                );
            } else {
                containers
                    .start("crash")
                    .await
                    .unwrap_or_else(|error| panic!("{point}: {}", error.message));
            }
            fixture.remove("crash").await;
        }
        Err(error) => assert_eq!(error.kind, Kind::NotFound, "{point}"),
    }
    for volume in fixture
        .engine
        .volumes
        .list(Default::default())
        .await
        .unwrap()
        .volumes
    {
        fixture
            .engine
            .volumes
            .remove(&volume.name, false)
            .await
            .unwrap();
    }
    if fixture
        .engine
        .networks
        .inspect("crashnet", false, "")
        .await
        .is_ok()
    {
        fixture.engine.networks.remove("crashnet").await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for dir in [
        "run/shims",
        "run/netns",
        "run/runtime",
        "data/containers",
        "data/volumes",
    ] {
        let left: Vec<_> = std::fs::read_dir(fixture.root.join(dir))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(left.is_empty(), "{point}: {dir}: {left:?}");
    }
    let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
    db.read(|tx| {
        assert!(
            hull_state::networks::endpoints(tx)?.is_empty(),
            "{point}: endpoints"
        );
        let snapshots = hull_state::snapshots::list(tx)?;
        assert!(
            snapshots
                .iter()
                .all(|one| one.kind == hull_state::snapshots::Kind::Committed),
            "{point}: {snapshots:?}"
        );
        Ok(())
    })
    .unwrap();
}
