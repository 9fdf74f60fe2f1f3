//! The daemon dies or is restarted; containers do not.

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// dockerd keeps containers over a restart only with --live-restore, and its containerd must survive too: Hull's own promise.
fn hull_only() -> bool {
    if kind() == Kind::Docker {
        hull_testkit::skip!("dockerd does not promise this");
        return false;
    }
    true
}

#[test]
fn containers_survive_a_killed_daemon_and_lose_no_line() {
    if !hull_only() {
        return;
    }
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done";
    let id = engine.ok(&[
        "run", "-d", "-p", "8080:80", "--name", "writer", BUSYBOX, "sh", "-c", script,
    ]);
    let pid = engine.inspect(&id, "{{.State.Pid}}");
    for _ in 0..3 {
        engine.kill_daemon();
        std::thread::sleep(std::time::Duration::from_millis(300));
        engine.start_daemon();
        assert_eq!(
            engine.inspect(&id, "{{.State.Pid}} {{.State.Status}}"),
            format!("{pid} running")
        );
    }
    assert_eq!(
        engine.run(&["exec", "writer", "sh", "-c", "exit 5"]).code(),
        5
    );
    engine.ok(&["stop", "-t", "0", "writer"]);
    let log = engine.ok(&["logs", "writer"]);
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line, format!("line {number}"));
    }
    assert!(log.lines().count() > 50);
}

#[test]
fn an_exit_while_the_daemon_is_away_is_known_afterwards() {
    if !hull_only() {
        return;
    }
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", BUSYBOX, "sh", "-c", "sleep 0.5; exit 42"]);
    let again = engine.ok(&[
        "run",
        "-d",
        "--restart",
        "on-failure:1",
        BUSYBOX,
        "sh",
        "-c",
        "sleep 0.5; exit 43",
    ]);
    engine.kill_daemon();
    std::thread::sleep(std::time::Duration::from_secs(1));
    engine.start_daemon();
    assert_eq!(
        engine.inspect(&id, "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 42"
    );
    engine.await_inspect(
        &again,
        "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}",
        "exited 43 1",
    );
    assert_eq!(engine.run(&["start", "-a", &id]).code(), 42);
}

#[test]
fn a_stopped_daemon_comes_back_with_everything() {
    if !hull_only() {
        return;
    }
    let Some(mut engine) = Engine::start() else {
        return;
    };
    engine.ok(&["network", "create", "net1"]);
    engine.ok(&["volume", "create", "vol"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "ca",
        "--network",
        "net1",
        "-v",
        "vol:/v",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    engine.ok(&["create", "--name", "cb", BUSYBOX]);
    let address = engine.inspect("ca", "{{.NetworkSettings.Networks.net1.IPAddress}}");
    engine.stop_daemon();
    engine.start_daemon();
    assert_eq!(
        engine.inspect("ca", "{{.NetworkSettings.Networks.net1.IPAddress}}"),
        address
    );
    let ping = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "net1",
        BUSYBOX,
        "ping",
        "-c",
        "1",
        "-W",
        "2",
        "ca",
    ]);
    assert!(ping.contains("1 packets received"), "{ping}");
    assert_eq!(engine.inspect("cb", "{{.State.Status}}"), "created");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "vol");
}

#[test]
fn a_killed_shim_is_noticed() {
    if !hull_only() {
        return;
    }
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", BUSYBOX, "sleep", "1000"]);
    let shim = std::fs::read_to_string(engine.root().join(format!("run/shims/{id}/pid")))
        .expect("the shim's pid");
    let pid =
        rustix::process::Pid::from_raw(shim.trim().parse().expect("a number")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the shim");
    engine.await_inspect(&id, "{{.State.Status}}", "exited");
    engine.ok(&["start", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.Status}}"), "running");
}
