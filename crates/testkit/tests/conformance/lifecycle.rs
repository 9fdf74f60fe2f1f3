//! `create`, `start`, `state`, `kill`, `delete`, `list`, `pause`, `resume` (runtime.md, "Lifecycle" and "Operations").

use std::fs;
use std::time::Duration;

use hull_testkit::process;
use serde_json::Value;

use crate::subject::{Case, Flavor, cannot, cgroup_v2, is};

#[test]
fn run_prints_and_succeeds() {
    assert_eq!(Case::new(&["echo", "hello"]).output(), "hello");
}

#[test]
fn run_gives_the_exit_code() {
    assert_eq!(Case::script("exit 7").run().code(), 7);
}

#[test]
fn run_gives_128_and_the_signal() {
    let case = Case::idle();
    let mut run = case.spawn();
    case.await_status("running");
    case.call(["kill", &case.id, "TERM"]).ok();
    // The first process of a pid namespace ignores signals without a handler, but for KILL.
    case.call(["kill", &case.id, "KILL"]).ok();
    let status = process::wait(&mut run, Duration::from_secs(20))
        .expect("wait")
        .expect("run ends with its container");
    assert_eq!(status.code(), Some(137));
}

#[test]
fn created_is_not_started() {
    let case = Case::script("touch /started; sleep 1000");
    case.create();
    assert_eq!(case.status().as_deref(), Some("created"));
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        !case.bundle.rootfs("started").exists(),
        "the program ran before start"
    );
    case.start();
    case.await_status("running");
    assert!(process::eventually(Duration::from_secs(20), || case
        .bundle
        .rootfs("started")
        .exists()));
}

#[test]
fn state_has_the_specified_fields() {
    let case = Case::idle()
        .edit(|spec| spec["annotations"] = serde_json::json!({"org.example.key": "value"}));
    case.create();
    let state = case.state();
    assert_eq!(state["id"], case.id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(
        state["bundle"],
        case.bundle.path().to_string_lossy().as_ref()
    );
    assert!(
        state["ociVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("1.")),
        "{state}"
    );
    assert_eq!(state["annotations"]["org.example.key"], "value");
    let pid = state["pid"].as_i64().expect("a pid");
    assert!(
        fs::exists(format!("/proc/{pid}")).expect("look at /proc"),
        "{state}"
    );
    case.start();
    assert_eq!(case.pid(), pid, "the pid stays over start");
    case.stop();
    assert_eq!(case.state()["status"], "stopped");
}

#[test]
fn delete_forgets() {
    let case = Case::new(&["true"]);
    case.up().await_status("stopped");
    case.call(["delete", &case.id]).ok();
    assert_eq!(case.status(), None);
    assert_ne!(
        case.call(["delete", &case.id]).code(),
        0,
        "delete of an unknown container"
    );
    assert_eq!(
        case.call(["delete", "--force", &case.id]).code(),
        0,
        "delete --force of an unknown container"
    );
}

#[test]
fn an_id_can_be_used_again_after_delete() {
    let case = Case::new(&["true"]);
    for _ in 0..3 {
        case.up().await_status("stopped");
        case.call(["delete", &case.id]).ok();
    }
}

#[test]
fn running_containers_are_not_deleted_without_force() {
    let case = Case::idle();
    case.up();
    assert_ne!(case.call(["delete", &case.id]).code(), 0);
    assert_eq!(case.status().as_deref(), Some("running"));
    case.call(["delete", "--force", &case.id]).ok();
    assert_eq!(case.status(), None);
}

#[test]
fn created_containers_are_deleted_by_force() {
    let case = Case::idle();
    case.create();
    case.call(["delete", "--force", &case.id]).ok();
    assert_eq!(case.status(), None);
}

#[test]
fn operations_out_of_order_are_refused() {
    let case = Case::idle();
    case.create();
    assert_ne!(
        case.try_create().code(),
        0,
        "a second container of the same id"
    );
    case.start();
    assert_ne!(
        case.call(["start", &case.id]).code(),
        0,
        "start of a running container"
    );
    case.stop();
    assert_ne!(
        case.call(["start", &case.id]).code(),
        0,
        "start of a stopped container"
    );
    assert_ne!(
        case.call(["kill", &case.id, "TERM"]).code(),
        0,
        "kill of a stopped container"
    );
    for operation in ["state", "start", "kill", "pause", "resume"] {
        assert_ne!(
            case.call([operation, "hconf-nobody"]).code(),
            0,
            "{operation} of an unknown container"
        );
    }
}

#[test]
fn ids_that_are_paths_are_refused() {
    for id in ["..", ".", "a/b", "../escape", ""] {
        let case = Case::new(&["true"]);
        let output = case.call([
            "create",
            "--bundle",
            &case.bundle.path().to_string_lossy(),
            id,
        ]);
        assert_ne!(output.code(), 0, "the id {id:?} was taken");
    }
}

#[test]
fn signals_by_name_and_number() {
    for signal in ["USR1", "SIGUSR1", "10"] {
        let case = Case::script(
            "trap 'echo got > /got; exit 0' USR1; touch /ready; while :; do sleep 0.05; done",
        );
        case.up();
        assert!(process::eventually(Duration::from_secs(20), || case
            .bundle
            .rootfs("ready")
            .exists()));
        case.call(["kill", &case.id, signal]).ok();
        case.await_status("stopped");
        assert_eq!(
            fs::read_to_string(case.bundle.rootfs("got")).expect("the trap ran"),
            "got\n",
            "{signal}"
        );
    }
    cannot!(
        is(&[Flavor::Crun]),
        "crun takes an unknown signal's name for 0"
    );
    let case = Case::idle();
    case.up();
    assert_ne!(case.call(["kill", &case.id, "NONSENSE"]).code(), 0);
    assert_eq!(case.status().as_deref(), Some("running"));
}

#[test]
fn a_created_container_can_be_killed() {
    let case = Case::idle();
    case.create().stop();
}

#[test]
fn pid_file() {
    let case = Case::idle();
    let file = case.root.join("pid");
    case.call([
        "create",
        "--pid-file",
        &file.to_string_lossy(),
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ])
    .ok();
    assert_eq!(
        fs::read_to_string(file).expect("a pid file").trim(),
        case.pid().to_string()
    );
}

#[test]
fn the_bundle_is_the_working_directory_unless_given() {
    let case = Case::new(&["echo", "here"]);
    assert_eq!(case.call(["run", &case.id]).ok(), "here");
}

#[test]
fn list() {
    let case = Case::idle();
    case.create();
    assert!(
        case.call(["list", "-q"])
            .ok()
            .lines()
            .any(|line| line == case.id)
    );
    let all: Value =
        serde_json::from_str(case.call(["list", "-f", "json"]).ok()).expect("a JSON list");
    let own = all
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["id"] == case.id.as_str())
        .expect("this container");
    assert_eq!(own["status"], "created");
    assert_eq!(own["pid"], case.pid());
    assert!(
        case.call(["list"]).ok().starts_with("ID") || is(&[Flavor::Crun]),
        "a table with a heading"
    );
}

#[test]
fn run_detached() {
    let case = Case::idle();
    case.call([
        "run",
        "--detach",
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ])
    .ok();
    assert_eq!(case.status().as_deref(), Some("running"));
}

#[test]
fn pause_and_resume() {
    cannot!(cgroup_v2() && is(&[Flavor::Other]), "unknown runtime");
    let case = Case::script("while :; do echo >> /ticks; sleep 0.02; done");
    case.up();
    let ticks = || fs::metadata(case.bundle.rootfs("ticks")).map_or(0, |file| file.len());
    assert!(process::eventually(Duration::from_secs(20), || ticks() > 2));
    case.call(["pause", &case.id]).ok();
    assert_eq!(case.status().as_deref(), Some("paused"));
    let then = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks(), then, "a paused container went on");
    case.call(["resume", &case.id]).ok();
    assert_eq!(case.status().as_deref(), Some("running"));
    assert!(process::eventually(Duration::from_secs(20), || ticks() > then));
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    let case = Case::idle();
    case.up();
    case.call(["pause", &case.id]).ok();
    case.call(["delete", "--force", &case.id]).ok();
    assert_eq!(case.status(), None);
}

#[test]
fn spec_writes_a_config() {
    let case = Case::new(&["true"]);
    fs::remove_file(case.bundle.path().join("config.json")).expect("remove the config");
    case.call(["spec"]).ok();
    let spec: Value = serde_json::from_slice(
        &fs::read(case.bundle.path().join("config.json")).expect("a config"),
    )
    .expect("JSON");
    assert_eq!(spec["root"]["path"], "rootfs");
    assert!(spec["process"]["args"].is_array());
    case.bundle.write();
}

#[test]
fn an_unknown_command_fails() {
    let case = Case::new(&["true"]);
    assert_ne!(case.call(["no-such-command"]).code(), 0);
}
