//! The daemon dies, or a shim, or a container's init, or two of them; what the next daemon makes of it.
//! Its death at every failure point is in `points`.

use hull_engine::Kind;

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(an_unreadable_container_is_left_as_it_is),
    case!(death_of_daemon_and_shim),
    case!(death_of_shim_or_init_in_every_state),
];

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
