//! `hooks`: when they run, where, with what on standard input, and what their failure does (config.md, "POSIX-platform Hooks").

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, is, write_program};

/// A hook that writes its name and its input to a log of the host.
fn hook(case: &Case, name: &str, log: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo \"{name} $(cat)\" >> {log}")], "env": ["PATH=/bin:/usr/bin"], "timeout": 20, "id": case.id})
}

fn log(case: &Case) -> PathBuf {
    case.root.join("log")
}

fn names(case: &Case) -> Vec<String> {
    let text = fs::read_to_string(log(case)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(" {"))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// A case whose host hooks write to one log.
fn logged(case: Case, kinds: &[&str]) -> Case {
    let log = log(&case).to_string_lossy().into_owned();
    let hooks: Vec<(String, Value)> = kinds
        .iter()
        .map(|&kind| (kind.to_owned(), json!([hook(&case, kind, &log)])))
        .collect();
    case.edit(|spec| spec["hooks"] = Value::Object(hooks.into_iter().collect()))
}

#[test]
fn hooks_run_in_order() {
    let case = logged(
        Case::idle(),
        &[
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ],
    );
    case.create();
    cannot!(
        is(&[Flavor::Runc]),
        "runc 1.1 runs poststart hooks with create"
    );
    assert_eq!(
        names(&case),
        ["prestart", "createRuntime", "createContainer"]
    );
    case.start();
    assert_eq!(names(&case)[3..], ["poststart"]);
    case.stop();
    case.call(["delete", &case.id]).ok();
    assert_eq!(names(&case)[4..], ["poststop"]);
}

#[test]
fn hooks_are_given_the_state() {
    let case = logged(Case::idle(), &["createRuntime", "poststart", "poststop"]);
    case.up();
    let pid = case.pid();
    case.call(["delete", "--force", &case.id]).ok();
    let text = fs::read_to_string(log(&case)).expect("the log");
    let mut seen = Vec::new();
    for line in text.lines() {
        let (name, state) = line.split_once(' ').expect("a name and a state");
        let state: Value = serde_json::from_str(state)
            .unwrap_or_else(|error| panic!("{name} was given {state}: {error}"));
        assert_eq!(state["id"], case.id.as_str(), "{name}");
        assert_eq!(
            state["bundle"],
            case.bundle.path().to_string_lossy().as_ref(),
            "{name}"
        );
        if name != "poststop" {
            assert_eq!(state["pid"], pid, "{name}");
        }
        seen.push((
            name.to_owned(),
            state["status"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    assert_eq!(seen[1].0, "poststart");
    assert!(seen[1].1 == "running" || is(&[Flavor::Runc]), "{seen:?}");
    assert_eq!(seen[2], ("poststop".to_owned(), "stopped".to_owned()));
    assert!(
        ["creating", "created"].contains(&seen[0].1.as_str()),
        "{seen:?}"
    );
}

#[test]
fn start_container_runs_inside() {
    let case = Case::script("cat /log").edit(|spec| {
        spec["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo \"$(hostname) $$ $A\" > /log"], "env": ["PATH=/bin", "A=b"]}]});
    });
    let output = case.output();
    assert!(
        output.starts_with("hull-test ") && output.ends_with(" b"),
        "{output}"
    );
}

#[test]
fn create_runtime_sees_the_containers_namespaces() {
    let case = Case::new(&["readlink", "/proc/self/ns/net"]);
    let log = log(&case).to_string_lossy().into_owned();
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > {log}"
    );
    let case = case.edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}));
    let inside = case.output();
    assert_eq!(fs::read_to_string(log).expect("the log").trim(), inside);
}

#[test]
fn a_failing_hook_undoes_the_creation() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let case = Case::idle().edit(|spec| {
            spec["hooks"] = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]})
        });
        let output = case.try_create();
        assert_ne!(output.code(), 0, "{kind}");
        assert_eq!(
            case.status(),
            None,
            "the container exists although its {kind} hook failed"
        );
    }
}

#[test]
fn a_failing_start_hook_stops_the_start() {
    let case = Case::script("touch /ran")
        .edit(|spec| spec["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]}));
    assert_ne!(case.run().code(), 0);
    assert!(!case.bundle.rootfs("ran").exists());
}

#[test]
fn a_failing_poststop_hook_does_not_stop_the_deletion() {
    let case = logged(Case::idle(), &["poststart"]).edit(|spec| {
        spec["hooks"]["poststop"] = json!([{"path": "/bin/false"}, spec["hooks"]["poststart"][0]]);
    });
    case.up();
    let _ = case.call(["delete", "--force", &case.id]);
    assert_eq!(case.status(), None);
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun stop at the first failing poststop hook"
    );
    assert_eq!(
        names(&case).len(),
        2,
        "the hook after the failing one ran: {:?}",
        names(&case)
    );
}

#[test]
fn a_hanging_hook_is_ended() {
    let case = Case::idle().edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}));
    assert_ne!(case.try_create().code(), 0);
    assert_eq!(case.status(), None);
}

#[test]
fn a_hook_that_is_not_there_fails() {
    let case = Case::idle()
        .edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/no/such/hook"}]}));
    assert_ne!(case.try_create().code(), 0);
}

#[test]
fn hooks_get_their_own_environment() {
    let case = Case::new(&["true"]);
    let text = format!("#!/bin/sh\nenv > {}\n", log(&case).display());
    let script = write_program(&case.root.join("hook"), &text);
    let case = case.edit(|spec| {
        spec["hooks"] = json!({"createRuntime": [{"path": script, "env": ["ONLY=this"]}]})
    });
    case.output();
    let text = fs::read_to_string(log(&case)).expect("the log");
    assert!(text.lines().any(|line| line == "ONLY=this"), "{text}");
    assert!(
        !text.contains("CARGO"),
        "the runtime's own environment leaked: {text}"
    );
}
