//! Flags of `run` that the client acts on: pulling, files, signals, keys, streams; and errors that are told once.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hull_testkit::image::{Image, busybox_layer};
use hull_testkit::process::{self, eventually};

use crate::engine::{BUSYBOX, Engine};
use crate::lifecycle::await_log;

#[test]
fn pulling_and_platforms() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.load(
        &Image::new("arm:1")
            .layer(busybox_layer())
            .architecture("arm64"),
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "--pull", "missing", BUSYBOX, "echo", "here"]),
        "here"
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "--pull", "never", BUSYBOX, "echo", "here"]),
        "here"
    );
    // Always: also what is there; nobody answers on port 1.
    engine.ok(&["tag", BUSYBOX, "127.0.0.1:1/busybox"]);
    engine.fails(
        &[
            "run",
            "--rm",
            "--pull",
            "always",
            "127.0.0.1:1/busybox",
            "true",
        ],
        125,
        "connection refused",
    );
    engine.fails(
        &["run", "--rm", "--pull", "sometimes", BUSYBOX],
        125,
        "invalid pull option: 'sometimes': must be one of \"always\", \"missing\" or \"never\"",
    );
    engine.fails(
        &[
            "run",
            "--rm",
            "--pull",
            "never",
            "--platform",
            "linux/arm64",
            BUSYBOX,
            "true",
        ],
        125,
        "image with reference busybox:latest was found but does not",
    );
    engine.fails(
        &["run", "--rm", "--platform", "a/b/c/d", BUSYBOX],
        125,
        "cannot parse platform specifier",
    );
    let foreign = engine.run(&["create", "arm:1", "true"]);
    assert!(
        foreign.status.success()
            && foreign.stderr.contains(
                "The requested image's platform (linux/arm64) does not match the detected host platform"
            ),
        "{}",
        foreign.stderr
    );
    let asked = engine.run(&["create", "--platform", "linux/arm64", "arm:1", "true"]);
    assert_eq!((asked.code(), asked.stderr.as_str()), (0, ""));
}

#[test]
fn a_cidfile_is_written_once() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let path = engine.root().join("cid");
    let file = path.display().to_string();
    let id = engine.ok(&["run", "-d", "--cidfile", &file, BUSYBOX, "sleep", "1000"]);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), id);
    engine.fails(
        &["run", "--cidfile", &file, BUSYBOX, "true"],
        125,
        "container ID file found, make sure the other container isn't running or delete",
    );
    std::fs::remove_file(&path).expect("remove it");
    engine.fails(
        &["run", "--cidfile", &file, "--pull", "never", "nosuch"],
        125,
        "No such image",
    );
    assert!(!path.exists(), "an empty one is taken away");
}

#[test]
fn a_failed_start_is_told_once_and_leaves_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    for args in [
        &["run", "--rm", BUSYBOX, "no-such-program"][..],
        &["run", "--rm", "-d", BUSYBOX, "no-such-program"],
        &["run", "--rm", "--device", "/dev/nope", BUSYBOX, "true"],
        &["run", "--rm", "-u", "nobody-here", BUSYBOX, "true"],
    ] {
        for _ in 0..5 {
            let output = engine.run(args);
            assert_ne!(output.code(), 0);
            assert!(
                !output.stderr.contains("Error waiting for container"),
                "{args:?}: {}",
                output.stderr
            );
        }
    }
    let gone = eventually(Duration::from_secs(5), || {
        engine.ok(&["ps", "-aq"]).is_empty()
    });
    assert!(gone, "{}", engine.ok(&["ps", "-a"]));
    // Without --rm it stays, as created, with the reason and the code.
    let output = engine.run(&["run", "--name", "kept", BUSYBOX, "no-such-program"]);
    assert_eq!(output.code(), 127);
    let state = engine.inspect(
        "kept",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    );
    assert!(
        state.starts_with("created 127 ") && state.contains("executable file not found in $PATH"),
        "{state}"
    );
}

/// The client, running on its own.
fn client(engine: &Engine, args: &[&str]) -> Child {
    engine
        .cli()
        .command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the client")
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal)
        .expect("send a signal");
}

#[test]
fn signals_are_passed_on_unless_told_not_to() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut proxied = client(
        &engine,
        &["run", "--name", "told", BUSYBOX, "sh", "-c", script],
    );
    let up = |name: &str| {
        eventually(Duration::from_secs(10), || {
            engine.run(&["logs", name]).stdout.contains("ready")
        })
    };
    assert!(up("told"));
    signal(&proxied, rustix::process::Signal::TERM);
    let status = process::wait(&mut proxied, Duration::from_secs(10)).expect("wait");
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    await_log(&engine, "told", "got");
    let mut deaf = client(
        &engine,
        &[
            "run",
            "--name",
            "untold",
            "--sig-proxy=false",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ],
    );
    assert!(up("untold"));
    signal(&deaf, rustix::process::Signal::TERM);
    // Docker's client may outlive one such signal.
    let _ = process::wait(&mut deaf, Duration::from_millis(500));
    let _ = deaf.kill();
    let _ = deaf.wait();
    assert_eq!(engine.inspect("untold", "{{.State.Status}}"), "running");
    assert!(!engine.ok(&["logs", "untold"]).contains("got"));
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    let Some(engine) = Engine::start() else {
        return;
    };
    for (name, flags, keys) in [
        ("usual", &[][..], &b"\x10\x11"[..]),
        ("chosen", &["--detach-keys", "ctrl-e,x"], b"\x05x"),
    ] {
        let mut words = vec!["run", "-it", "--name", name];
        words.extend(flags);
        words.extend([BUSYBOX, "cat"]);
        let inner = engine.cli().command(&words);
        // script(1) gives the client a terminal of its own.
        let line = std::iter::once(inner.get_program())
            .chain(inner.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ");
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]);
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start script");
        let up = eventually(Duration::from_secs(10), || {
            engine
                .run(&["inspect", "-f", "{{.State.Status}}", name])
                .stdout
                .trim()
                == "running"
        });
        assert!(up, "{name} does not run");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(b"word\n").expect("type");
        await_log(&engine, name, "word");
        for key in keys {
            input.write_all(&[*key]).expect("type");
            input.flush().expect("type");
        }
        let ended = process::wait(&mut child, Duration::from_secs(10)).expect("wait");
        let _ = child.kill();
        let _ = child.wait();
        assert!(
            ended.is_some_and(|status| status.success()),
            "{name}: {ended:?}"
        );
        assert_eq!(engine.inspect(name, "{{.State.Status}}"), "running");
    }
    engine.fails(
        &[
            "run",
            "--rm",
            "--detach-keys",
            "ctrl-nonsense",
            BUSYBOX,
            "true",
        ],
        1,
        "received 400",
    );
}
