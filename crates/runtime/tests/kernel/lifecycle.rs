//! The life of containers through runc's command line, on the real kernel.

use crate::common::Runtime;
use hull_testkit::leaks::Leaks;
use serde_json::{Value, json};

#[test]
fn a_container_lives_and_leaves_nothing() {
    let Some(rt) = Runtime::new() else { return };
    let leaks = Leaks::watch(&[&rt.id("life")]);
    let bundle = rt.bundle("life", &["sleep", "1000"]);
    let (id, path) = (rt.id("life"), bundle.path().to_str().unwrap().to_owned());
    let pid_file = rt.root.join("pid");
    rt.call(&[
        "create",
        "--bundle",
        &path,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &id,
    ])
    .ok();
    let state = |field: &str| {
        let state: Value = serde_json::from_str(rt.call(&["state", &id]).ok()).unwrap();
        state[field].clone()
    };
    assert_eq!(state("status"), "created");
    assert_eq!(
        std::fs::read_to_string(pid_file).unwrap(),
        state("pid").to_string()
    );
    assert!(
        rt.call(&["create", "--bundle", &path, &id])
            .stderr
            .contains("already exists")
    );
    rt.call(&["start", &id]).ok();
    assert_eq!(state("status"), "running");
    assert_eq!(rt.call(&["start", &id]).code(), 1);

    let output = rt.call(&["exec", &id, "sh", "-c", "echo $$; hostname; exit 7"]);
    assert_eq!(
        (output.code(), output.stdout.as_str()),
        (7, "2\nhull-test\n")
    );
    let output = rt.call(&[
        "exec",
        "--user",
        "1000:1001",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        &id,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A",
    ]);
    assert_eq!(output.ok(), "1000\n1001\n/tmp\nb");
    let output = rt.call(&["exec", &id, "nosuch"]);
    assert_eq!(output.code(), 255);
    assert!(
        output
            .stderr
            .contains(r#"exec: "nosuch": executable file not found in $PATH"#)
    );

    rt.call(&["pause", &id]).ok();
    assert_eq!(state("status"), "paused");
    assert_eq!(rt.call(&["exec", &id, "true"]).code(), 255);
    rt.call(&["resume", &id]).ok();
    rt.call(&["update", "--pids-limit", "33", &id]).ok();
    let events: Value = serde_json::from_str(rt.call(&["events", "--stats", &id]).ok()).unwrap();
    assert_eq!(events["data"]["pids"], json!({"current": 1, "limit": 33}));
    let pids: Vec<i32> = serde_json::from_str(rt.call(&["ps", "-f", "json", &id]).ok()).unwrap();
    assert_eq!(json!(pids), json!([state("pid")]));

    assert!(rt.call(&["delete", &id]).stderr.contains("not stopped"));
    rt.call(&["kill", &id, "KILL"]).ok();
    assert!(hull_testkit::process::eventually(
        std::time::Duration::from_secs(5),
        || { state("status") == "stopped" }
    ));
    assert!(
        rt.call(&["kill", &id])
            .stderr
            .contains("container not running")
    );
    rt.call(&["delete", &id]).ok();
    assert!(rt.call(&["state", &id]).stderr.contains("does not exist"));
    leaks.assert_none();
}

#[test]
fn the_program_s_status_is_the_run_s() {
    let Some(rt) = Runtime::new() else { return };
    assert_eq!(rt.script("status", "exit 42", |_| {}).code(), 42);
    assert_eq!(
        rt.script(
            "signal",
            "kill -9 $$; sleep 9 & kill -9 $!; wait $!",
            |_| {}
        )
        .code(),
        137
    );
}

#[test]
fn failures_are_told_and_undone() {
    let Some(rt) = Runtime::new() else { return };
    let leaks = Leaks::watch(&[&rt.root.name()]);
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, &str)] = &[
        (
            "missing",
            |s| s["process"]["args"] = json!(["/nosuch"]),
            "exec: \"/nosuch\": stat /nosuch: no such file",
        ),
        (
            "denied",
            |s| s["process"]["args"] = json!(["/etc"]),
            "exec: \"/etc\": is a directory",
        ),
        (
            "source",
            |s| {
                s["mounts"] =
                    json!([{"destination": "/x", "source": "/nosuch", "options": ["bind"]}])
            },
            "mounts[0].source: /nosuch: no such file",
        ),
        (
            "fstype",
            |s| s["mounts"] = json!([{"destination": "/x", "type": "nosuchfs", "source": "x"}]),
            "mount /x",
        ),
        (
            "option",
            |s| s["mounts"][1]["options"] = json!(["nonsense=1"]),
            "nonsense",
        ),
        (
            "limit",
            |s| s["linux"]["resources"]["pids"] = json!({"limit": i64::MAX}),
            "linux.resources.pids.limit",
        ),
        (
            "cpuset",
            |s| s["linux"]["resources"]["cpu"] = json!({"cpus": "4000"}),
            "linux.resources.cpu.cpus",
        ),
        (
            "sysctl",
            |s| s["linux"]["sysctl"] = json!({"net.nosuch": "1"}),
            "sysctl net/nosuch",
        ),
        (
            "rlimit",
            |s| s["process"]["rlimits"] = json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type",
        ),
        (
            "hook",
            |s| s["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}),
            "hook createRuntime[0] /bin/false",
        ),
        (
            "inner",
            |s| s["hooks"] = json!({"createContainer": [{"path": "/bin/false"}]}),
            "hook createContainer[0] /bin/false",
        ),
        (
            "netns",
            |s| s["linux"]["namespaces"][1]["path"] = json!("/nosuch"),
            "/nosuch",
        ),
        (
            "seccomp",
            |s| s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp",
        ),
    ];
    for (name, change, message) in cases {
        let output = rt.script(name, "true", change);
        assert_eq!(output.code(), 1, "{name}: {}", output.stderr);
        assert!(output.stderr.contains(message), "{name}: {}", output.stderr);
    }
    let left = rt.call(&["list", "-q"]);
    assert_eq!(left.stdout, "");
    let of_containers = leaks
        .found()
        .into_iter()
        .filter(|l| l.contains("process") || l.matches('/').count() > 5);
    assert_eq!(of_containers.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let Some(rt) = Runtime::new() else { return };
    let log = rt.root.join("log");
    let hook = |name: &str| {
        let script = format!(
            "echo {name} $(tr -d ' \\n' | grep -o '\"status\":\"[a-z]*\"') >> {}",
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let output = rt.script("hooks", "true", |spec| {
        spec["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": rt.root.path(), "source": rt.root.path(), "options": ["bind"]}));
        let mut hooks = json!({});
        for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            hooks[name] = hook(name);
        }
        // The image has no tr and grep.
        hooks["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo startContainer >> {}", log.display())]}]);
        spec["hooks"] = hooks;
    });
    assert_eq!(output.ok(), "");
    let text = std::fs::read_to_string(log).unwrap();
    assert_eq!(
        text,
        "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\ncreateContainer \"status\":\"creating\"\n\
         startContainer\npoststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n"
    );
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    use std::os::fd::AsFd;
    let Some(rt) = Runtime::new() else { return };
    let path = rt.root.join("console");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut bundle = rt.bundle(
        "tty",
        &[
            "/bin/sh",
            "-c",
            "tty; stty size 2>/dev/null; ls -l /dev/console",
        ],
    );
    bundle.edit(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 30, "width": 100});
    });
    bundle.write();
    let (id, bundle_path) = (rt.id("tty"), bundle.path().to_str().unwrap().to_owned());
    rt.call(&[
        "create",
        "--bundle",
        &bundle_path,
        "--console-socket",
        path.to_str().unwrap(),
        &id,
    ])
    .ok();
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (_, mut fds) = hull_sys::fdpass::recv(socket.as_fd(), &mut name).unwrap();
    let master = fds.pop().unwrap();
    rt.call(&["start", &id]).ok();
    let mut text = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("/dev/pts/0\r\n"), "{text}");
    assert!(text.contains("136,   0"), "{text}");
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn descriptors_are_kept_only_on_request() {
    let Some(rt) = Runtime::new() else { return };
    let output = rt.script("fds", "ls /proc/self/fd | wc -l", |_| {});
    // 0, 1, 2 and that of ls itself
    assert_eq!(output.ok().trim(), "4");
}

/// Cycles of create, start, kill and delete, 8 at a time. `HULL_CYCLES` asks for more (docs/runtime-conformance.md has a run of 10 000).
#[test]
fn containers_come_and_go_without_a_trace() {
    const WORKERS: usize = 8;
    const CYCLES: usize = 240;
    let Some(rt) = Runtime::new() else { return };
    let asked = std::env::var("HULL_CYCLES");
    let cycles = asked.map_or(CYCLES, |n| n.parse().expect("HULL_CYCLES is a number"));
    let bundles: Vec<_> = (0..WORKERS)
        .map(|n| rt.bundle(&format!("cycle{n}"), &["sleep", "1000"]))
        .collect();
    let leaks = Leaks::watch(&[&rt.root.name()]);
    let files = || {
        let find = ["find", rt.root.path().to_str().unwrap()];
        let output = std::process::Command::new(find[0]).arg(find[1]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    // The state root is made by the first container and stays.
    rt.call(&["list"]).ok();
    std::fs::create_dir_all(rt.root.join("state")).unwrap();
    let before = files();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (worker, bundle) in bundles.iter().enumerate() {
            let (rt, next) = (&rt, &next);
            scope.spawn(move || {
                let id = rt.id(&format!("cycle{worker}"));
                let path = bundle.path().to_str().unwrap();
                while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < cycles {
                    rt.call(&["create", "--bundle", path, &id]).ok();
                    rt.call(&["start", &id]).ok();
                    rt.call(&["kill", &id, "KILL"]).ok();
                    rt.call(&["delete", "--force", &id]).ok();
                }
            });
        }
    });
    let after = files();
    assert_eq!(before, after);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        // The parent that they had in common is theirs to leave: it was not made for one of them.
        let _ = std::fs::remove_dir(hierarchy.path().join(rt.root.name()));
    }
    leaks.assert_none();
}
