//! A container's life: create, start, stop, kill, pause, restart, wait, rename, remove; restart policies and health.

use crate::engine::{BUSYBOX, Engine};

const STATUS: &str = "{{.State.Status}}";

#[test]
fn from_created_to_removed() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["create", "--name", "c1", BUSYBOX, "sleep", "1000"]);
    assert_eq!(id.len(), 64);
    assert_eq!(engine.inspect("c1", STATUS), "created");
    assert_eq!(engine.ok(&["start", "c1"]), "c1");
    assert_eq!(
        engine.inspect("c1", "{{.State.Running}} {{.State.ExitCode}}"),
        "true 0"
    );
    assert_eq!(engine.ok(&["pause", "c1"]), "c1");
    assert_eq!(engine.inspect("c1", STATUS), "paused");
    engine.fails(
        &["exec", "c1", "true"],
        1,
        "is paused, unpause the container before exec",
    );
    assert_eq!(engine.ok(&["unpause", "c1"]), "c1");
    assert_eq!(engine.inspect("c1", STATUS), "running");
    assert_eq!(engine.ok(&["rename", "c1", "d1"]), "");
    engine.fails(&["inspect", "c1"], 1, "o such object: c1");
    engine.fails(&["rm", "d1"], 1, "container is running");
    assert_eq!(engine.ok(&["stop", "-t", "0", "d1"]), "d1");
    assert_eq!(
        engine.inspect("d1", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    assert_eq!(engine.ok(&["start", "d1"]), "d1");
    assert_eq!(engine.ok(&["kill", "--signal", "KILL", "d1"]), "d1");
    assert_eq!(engine.ok(&["wait", "d1"]), "137");
    assert_eq!(engine.ok(&["rm", "d1"]), "d1");
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}

#[test]
fn stop_sends_the_stop_signal_first() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script = "trap 'echo got USR1; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    let id = engine.ok(&[
        "run",
        "-d",
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "20",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    await_log(&engine, &id, "ready");
    engine.ok(&["stop", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "3");
    assert!(engine.ok(&["logs", &id]).contains("got USR1"));
}

#[test]
fn kill_delivers_any_signal() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script = "trap 'echo HUP' HUP; echo ready; while :; do sleep 0.05; done";
    let id = engine.ok(&["run", "-d", BUSYBOX, "sh", "-c", script]);
    await_log(&engine, &id, "ready");
    engine.ok(&["kill", "-s", "1", &id]);
    await_log(&engine, &id, "HUP");
    engine.fails(&["kill", "-s", "NOSUCH", &id], 1, "nvalid signal: NOSUCH");
    engine.ok(&["kill", &id]);
    assert_eq!(engine.ok(&["wait", &id]), "137");
    engine.fails(&["kill", &id], 1, "is not running");
}

#[test]
fn restart_keeps_files_and_log() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script = "echo started; echo x >> /count; wc -l < /count; sleep 1000";
    let id = engine.ok(&["run", "-d", BUSYBOX, "sh", "-c", script]);
    await_log(&engine, &id, "1");
    engine.ok(&["restart", "-t", "0", &id]);
    await_log(&engine, &id, "2");
    assert_eq!(engine.ok(&["logs", &id]).matches("started").count(), 2);
}

#[test]
fn restart_policies_are_followed() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "--restart",
        "on-failure:2",
        BUSYBOX,
        "sh",
        "-c",
        "echo run; exit 5",
    ]);
    engine.await_inspect(
        &id,
        "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}",
        "exited 5 2",
    );
    assert_eq!(engine.ok(&["logs", &id]).matches("run").count(), 3);
    let id = engine.ok(&["run", "-d", "--restart", "on-failure", BUSYBOX, "true"]);
    assert_eq!(engine.ok(&["wait", &id]), "0");
    assert_eq!(engine.inspect(&id, "{{.RestartCount}}"), "0");
    let id = engine.ok(&[
        "run",
        "-d",
        "--restart",
        "always",
        BUSYBOX,
        "sh",
        "-c",
        "sleep 0.1",
    ]);
    let mut count = 0;
    let restarted = hull_testkit::process::eventually(std::time::Duration::from_secs(20), || {
        count = engine
            .inspect(&id, "{{.RestartCount}}")
            .parse()
            .unwrap_or(0);
        count >= 2
    });
    assert!(restarted, "restarted {count} times");
    engine.ok(&["stop", "-t", "0", &id]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(
        engine.inspect(&id, STATUS),
        "exited",
        "a stopped container stays stopped"
    );
}

#[test]
fn health_is_checked() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "--health-cmd",
        "test -e /healthy",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "5s",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    engine.await_inspect(&id, "{{.State.Health.Status}}", "unhealthy");
    engine.ok(&["exec", &id, "touch", "/healthy"]);
    engine.await_inspect(&id, "{{.State.Health.Status}}", "healthy");
    assert!(engine.ok(&["ps"]).contains("(healthy)"));
}

#[test]
fn update_top_rename_port_and_stats() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", "-m", "64m", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["update", "--memory", "96m", "--memory-swap", "-1", &id]);
    assert_eq!(engine.inspect(&id, "{{.HostConfig.Memory}}"), "100663296");
    let top = engine.ok(&["top", &id]);
    assert!(top.contains("sleep 1000"), "{top}");
    let stats = engine.ok(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}} {{.PIDs}}",
        &id,
    ]);
    assert!(stats.contains("96MiB") && stats.ends_with(" 1"), "{stats}");
}

#[test]
fn events_tell_the_story() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let since = now();
    engine.run(&[
        "run", "--name", "told", "--rm", BUSYBOX, "sh", "-c", "exit 3",
    ]);
    engine.ok(&["volume", "create", "vol"]);
    engine.ok(&["volume", "rm", "vol"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let until = now();
    let events = engine.ok(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--format",
        "{{.Type}} {{.Action}} {{index .Actor.Attributes \"exitCode\"}}",
    ]);
    let story: Vec<&str> = events
        .lines()
        .map(str::trim)
        .map(|line| line.trim_end_matches(" <no value>"))
        .collect();
    for (wanted, after) in [
        ("container create", None),
        ("container attach", Some("container create")),
        ("container start", Some("container create")),
        ("container die 3", Some("container start")),
        ("container destroy", Some("container die 3")),
        ("network connect", None),
        ("network disconnect", Some("network connect")),
        ("volume create", None),
        ("volume destroy", Some("volume create")),
    ] {
        let at = story.iter().position(|line| *line == wanted);
        let before = after.map(|after| story.iter().position(|line| *line == after));
        assert!(at.is_some(), "no {wanted:?} in {story:?}");
        assert!(
            before.is_none_or(|before| before < at),
            "{wanted:?} too early in {story:?}"
        );
    }
}

#[test]
fn cp_diff_commit_and_export() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        BUSYBOX,
        "sh",
        "-c",
        "echo one > /one; mkdir /dir; ln -s /etc /link; rm /etc/group; sleep 1000",
    ]);
    let out = engine.root().join("out");
    let copied = hull_testkit::process::eventually(std::time::Duration::from_secs(5), || {
        engine
            .run(&[
                "cp",
                &format!("{id}:/link/passwd"),
                &out.display().to_string(),
            ])
            .status
            .success()
            && engine
                .run(&["exec", &id, "test", "!", "-e", "/etc/group"])
                .status
                .success()
    });
    assert!(copied);
    assert!(
        std::fs::read_to_string(&out)
            .expect("the copy")
            .starts_with("root:x:0:0")
    );
    let local = engine.root().folder("local");
    std::fs::write(local.join("inner"), "inner").expect("write");
    engine.ok(&["cp", &local.display().to_string(), &format!("{id}:/dir/")]);
    assert_eq!(
        engine.ok(&["exec", &id, "cat", "/dir/local/inner"]),
        "inner"
    );
    let diff = engine.ok(&["diff", &id]);
    for line in [
        "A /one",
        "A /dir",
        "A /dir/local/inner",
        "C /etc",
        "D /etc/group",
    ] {
        assert!(diff.lines().any(|l| l == line), "no {line:?} in {diff}");
    }
    // What programs know Docker by is there, and is no change.
    engine.ok(&["exec", &id, "test", "-f", "/.dockerenv"]);
    assert!(!diff.contains("/.dockerenv"), "{diff}");
    engine.ok(&[
        "commit",
        "--change",
        "CMD [\"cat\", \"/one\"]",
        "-m",
        "note",
        "-a",
        "me",
        &id,
        "made:1",
    ]);
    assert_eq!(engine.ok(&["run", "--rm", "made:1"]), "one");
    assert_eq!(
        engine
            .run(&["run", "--rm", "made:1", "ls", "/etc/group"])
            .code(),
        1
    );
    engine.ok(&["stop", "-t", "0", &id]);
    engine.ok(&["cp", &format!("{id}:/one"), &out.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&out).expect("the copy"), "one\n");
    // Not in the image, but the container's own.
    engine.ok(&[
        "cp",
        &format!("{id}:/etc/hostname"),
        &out.display().to_string(),
    ]);
    assert_eq!(
        std::fs::read_to_string(&out).expect("the copy").trim(),
        id.get(..12).expect("an id")
    );
    assert_eq!(
        engine.inspect("made:1", "{{.Parent}}"),
        engine.inspect(BUSYBOX, "{{.Id}}")
    );
    let tar = engine.root().join("export.tar");
    engine.ok(&["export", "-o", &tar.display().to_string(), &id]);
    let listed = engine.in_netns(&["tar", "-tf", &tar.display().to_string()]);
    assert!(
        listed.lines().any(|l| l == "one") && !listed.contains("etc/group"),
        "{listed}"
    );
    engine.fails(
        &[
            "cp",
            &format!("{id}:/no/such"),
            &local.display().to_string(),
        ],
        1,
        "/no/such",
    );
}

fn now() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// Waits until a line of the log is `wanted`.
#[track_caller]
pub fn await_log(engine: &Engine, id: &str, wanted: &str) {
    let mut log = String::new();
    let came = hull_testkit::process::eventually(std::time::Duration::from_secs(20), || {
        log = engine.ok(&["logs", id]);
        log.lines().any(|line| line.trim_end() == wanted)
    });
    assert!(came, "no line {wanted:?} in {log:?}");
}
