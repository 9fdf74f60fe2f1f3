//! Checkpoints: a container's processes go on where they were.

use std::time::Duration;

use hull_testkit::image::Image;
use hull_testkit::process::eventually;
use hull_testkit::skips;

use crate::engine::{BUSYBOX, Engine, Kind, kind};

const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";

fn experimental() -> Option<Engine> {
    if !skips::working_criu() {
        hull_testkit::skip!("checkpoints need criu 4.1 or newer");
        return None;
    }
    let engine = Engine::start_empty(&["--experimental"])?;
    engine.load(&Image::busybox(BUSYBOX));
    Some(engine)
}

/// The numbers that a container has written.
fn numbers(engine: &Engine, name: &str) -> Vec<u32> {
    let log = engine.ok(&["logs", name]);
    log.split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect()
}

/// Waits until it has written more than `count` numbers.
#[track_caller]
fn counts_beyond(engine: &Engine, name: &str, count: usize) {
    let more = || numbers(engine, name).len() > count;
    assert!(eventually(Duration::from_secs(20), more), "{name}");
}

#[test]
fn a_start_goes_on_from_a_checkpoint() {
    let Some(engine) = experimental() else {
        return;
    };
    for (name, flags) in [("c1", &["-d"][..]), ("tty1", &["-d", "-t"])] {
        let mut args = vec!["run", "--name", name];
        args.extend(flags);
        args.extend([BUSYBOX, "sh", "-c", COUNTER]);
        engine.ok(&args);
        counts_beyond(&engine, name, 2);
        let address = engine.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        assert_eq!(engine.ok(&["checkpoint", "create", name, "cp1"]), "cp1");
        assert_eq!(engine.inspect(name, "{{.State.Status}}"), "exited");
        let list = engine.ok(&["checkpoint", "ls", name]);
        assert_eq!(list, "CHECKPOINT NAME\ncp1");
        let before = numbers(&engine, name).len();

        engine.ok(&["start", "--checkpoint", "cp1", name]);
        assert_eq!(engine.inspect(name, "{{.State.Status}}"), "running");
        counts_beyond(&engine, name, before + 2);
        // Each number once and none left out, but for what was in the pipe: the program went on, it did not begin again.
        let all = numbers(&engine, name);
        let went_on = all.windows(2).all(|w| w[0] + 1 == w[1]);
        assert!(went_on, "{name}: {all:?}");
        let addresses = engine.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        assert_eq!(addresses, address);
        assert_eq!(engine.ok(&["exec", name, "echo", "in"]), "in");
        engine.ok(&["rm", "-f", name]);
    }
}

#[test]
fn checkpoints_beside_a_running_container() {
    let Some(engine) = experimental() else {
        return;
    };
    engine.ok(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", COUNTER]);
    counts_beyond(&engine, "c1", 2);
    let create = ["checkpoint", "create", "--leave-running", "c1", "cp1"];
    assert_eq!(engine.ok(&create), "cp1");
    assert_eq!(engine.inspect("c1", "{{.State.Status}}"), "running");
    let at = numbers(&engine, "c1").len();
    counts_beyond(&engine, "c1", at + 2);
    engine.fails(
        &create,
        1,
        "checkpoint with name cp1 already exists for container c1",
    );
    engine.fails(
        &["checkpoint", "create", "c1", "../x"],
        1,
        "invalid checkpoint ID \"../x\", only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    );
    engine.ok(&["checkpoint", "rm", "c1", "cp1"]);
    assert_eq!(engine.ok(&["checkpoint", "ls", "c1"]), "CHECKPOINT NAME");
    engine.fails(
        &["checkpoint", "rm", "c1", "cp1"],
        1,
        "checkpoint cp1 does not exist for container c1",
    );
    engine.ok(&["stop", "-t", "0", "c1"]);
    engine.fails(&["checkpoint", "create", "c1", "cp2"], 1, "is not running");
    assert_eq!(engine.ok(&["checkpoint", "ls", "c1"]), "CHECKPOINT NAME");
    engine.fails(
        &["start", "--checkpoint", "nosuch", "c1"],
        1,
        "checkpoint nosuch does not exist for container c1",
    );
    assert_eq!(engine.inspect("c1", "{{.State.Status}}"), "exited");
}

#[test]
fn an_ordinary_daemon_refuses_them() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["create", "--name", "c1", BUSYBOX, "true"]);
    engine.fails(
        &["checkpoint", "ls", "c1"],
        1,
        "checkpoint ls is only supported on a Docker daemon with experimental features enabled",
    );
    if kind() == Kind::Hull {
        engine.fails(
            &["start", "--checkpoint", "cp1", "c1"],
            1,
            "is only supported ",
        );
    }
}
