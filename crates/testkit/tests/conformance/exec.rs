//! `exec`, `ps` and `kill --all`: further processes in a running container.

use std::fs;
use std::time::Duration;

use hull_testkit::process::eventually;
use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, is};

#[test]
fn exec_runs_inside_with_its_own_exit_code() {
    let case = Case::idle();
    case.up();
    assert_eq!(case.exec(&[], &["hostname"]).ok(), "hull-test");
    assert_eq!(case.exec(&[], &["sh", "-c", "exit 9"]).code(), 9);
    assert_eq!(
        case.exec(&[], &["readlink", "/proc/self/ns/pid"]).ok(),
        case.exec(&[], &["readlink", "/proc/1/ns/pid"]).ok()
    );
    for kind in ["mnt", "net", "uts", "ipc", "pid"] {
        let link =
            |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_ne!(link("self"), link(&case.pid().to_string()), "{kind}");
    }
    assert_eq!(case.status().as_deref(), Some("running"));
}

#[test]
fn exec_takes_environment_directory_and_user() {
    let case = Case::idle();
    case.up();
    let output = case.exec(
        &["--env", "A=b", "--cwd", "/tmp", "--user", "1000:100"],
        &["/bin/sh", "-c", "echo $A $PWD $(id -u) $(id -g)"],
    );
    assert_eq!(output.ok(), "b /tmp 1000 100");
}

#[test]
fn exec_takes_a_process_document() {
    let case = Case::idle();
    case.up();
    let process = json!({"terminal": false, "user": {"uid": 7, "gid": 8}, "args": ["sh", "-c", "id -u; pwd; echo $X"], "env": ["PATH=/bin", "X=y"], "cwd": "/etc"});
    let path = case.root.file("process.json", process.to_string());
    let output = case.call(["exec", "--process", &path.to_string_lossy(), &case.id]);
    assert_eq!(output.ok(), "7\n/etc\ny");
}

#[test]
fn exec_detached_writes_its_pid() {
    let case = Case::idle();
    case.up();
    let file = case.root.join("exec-pid");
    case.exec(
        &["--detach", "--pid-file", &file.to_string_lossy()],
        &["sleep", "500"],
    )
    .ok();
    let pid = fs::read_to_string(file).expect("a pid file");
    // The runtime does not wait for execve.
    let command = || fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(
        eventually(Duration::from_secs(20), || command() == b"sleep\x00500\0"),
        "{:?}",
        String::from_utf8_lossy(&command())
    );
}

#[test]
fn exec_has_the_containers_limits() {
    let case = Case::idle();
    case.up();
    let groups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    let file = case.root.join("exec-pid");
    case.exec(
        &["--detach", "--pid-file", &file.to_string_lossy()],
        &["sleep", "500"],
    )
    .ok();
    let pid = fs::read_to_string(file).expect("a pid file");
    assert_eq!(groups(pid.trim()), groups(&case.pid().to_string()));
    let status = case.exec(&[], &["cat", "/proc/self/status"]);
    let first = case.exec(&[], &["cat", "/proc/1/status"]);
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned)
    };
    for name in ["CapBnd:", "NoNewPrivs:"] {
        if name == "NoNewPrivs:" && is(&[Flavor::Crun]) {
            // crun 1.8 takes it from the command line alone.
            continue;
        }
        assert_eq!(field(status.ok(), name), field(first.ok(), name));
    }
}

#[test]
fn exec_is_refused_where_nothing_runs() {
    let case = Case::idle();
    assert_ne!(case.exec(&[], &["true"]).code(), 0, "exec before create");
    case.up().stop();
    assert_ne!(
        case.exec(&[], &["true"]).code(),
        0,
        "exec in a stopped container"
    );
}

#[test]
fn exec_of_a_missing_program_fails() {
    let case = Case::idle();
    case.up();
    let output = case.exec(&[], &["no-such-program"]);
    assert_ne!(output.code(), 0);
    assert!(!output.stderr.is_empty(), "it says why");
    assert_eq!(case.status().as_deref(), Some("running"));
}

#[test]
fn processes_are_listed() {
    let case = Case::script("sleep 1000 & sleep 1000");
    case.up();
    let pids = || -> Vec<i64> {
        let output = case.call(["ps", "--format", "json", &case.id]);
        let list: Value = serde_json::from_str(output.ok()).expect("a JSON list");
        list.as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_i64)
            .collect()
    };
    assert!(
        eventually(Duration::from_secs(20), || pids().len() >= 2),
        "{:?}",
        pids()
    );
    assert!(pids().contains(&case.pid()));
    cannot!(is(&[Flavor::Crun]), "crun has no table of processes");
    let table = case.call(["ps", &case.id]);
    assert!(table.ok().contains("sleep 1000"), "{}", table.stdout);
}

#[test]
fn killing_all_reaches_every_process() {
    let case = Case::script(
        "trap '' TERM; (trap 'touch /got; exit' TERM; touch /ready; while :; do sleep 0.05; done) & wait; sleep 1000",
    );
    case.up();
    assert!(eventually(Duration::from_secs(20), || case
        .bundle
        .rootfs("ready")
        .exists()));
    case.call(["kill", "--all", &case.id, "TERM"]).ok();
    assert!(
        eventually(Duration::from_secs(20), || case
            .bundle
            .rootfs("got")
            .exists()),
        "the second process got no signal"
    );
}

#[test]
fn the_container_ends_with_its_first_process() {
    let case = Case::script("sleep 1000 & while [ ! -e /end ]; do sleep 0.05; done");
    case.up();
    let pid = case.root.join("exec-pid");
    case.exec(
        &["--detach", "--pid-file", &pid.to_string_lossy()],
        &["sleep", "1000"],
    )
    .ok();
    let pid = fs::read_to_string(pid).expect("a pid file");
    case.file("end", "");
    case.await_status("stopped");
    // Gone, or dead and not yet reaped by the one who started it.
    let dead = || {
        fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .map_or(true, |stat| stat.contains(") Z "))
    };
    assert!(
        eventually(Duration::from_secs(20), dead),
        "a process survived its pid namespace"
    );
}

/// The processors of an exec: one set while it is made, another for its program.
#[test]
fn exec_on_chosen_processors() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than execCPUAffinity"
    );
    cannot!(
        std::thread::available_parallelism().is_ok_and(|n| n.get() < 2),
        "this machine has one processor"
    );
    let case = Case::idle();
    case.up();
    let process = serde_json::json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
        "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "1"}});
    let file = case.root.file("affinity.json", process.to_string());
    let output = case.exec(&["--process", &file.to_string_lossy()], &[]);
    assert_eq!(output.ok().trim(), "Cpus_allowed_list:\t1");
}
