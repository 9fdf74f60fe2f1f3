//! `logs`: order, streams, tail, times, following.

use std::io::Read;
use std::process::Stdio;

use crate::engine::{BUSYBOX, Engine};

#[test]
fn lines_streams_and_tail() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        BUSYBOX,
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo out$i; done; echo err >&2; printf unended",
    ]);
    engine.ok(&["wait", &id]);
    let output = engine.run(&["logs", &id]);
    assert_eq!(output.stdout, "out1\nout2\nout3\nout4\nout5\nunended");
    assert_eq!(output.stderr, "err\n");
    let tail = engine.run(&["logs", "--tail", "1", &id]);
    assert_eq!(tail.stdout, "unended");
    let stamped = engine.run(&["logs", "-t", "--tail", "7", &id]).stdout;
    let first = stamped.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("20") && first.ends_with("Z out1"),
        "{stamped}"
    );
    let details = engine.run(&["logs", "--since", "2100-01-01T00:00:00Z", &id]);
    assert_eq!(details.stdout, "");
    let all = engine.run(&[
        "logs",
        "--until",
        "2100-01-01T00:00:00Z",
        "--since",
        "1h",
        &id,
    ]);
    assert_eq!(all.stdout, output.stdout);
    engine.fails(&["logs", "nobody"], 1, "No such container: nobody");
}

#[test]
fn following_ends_with_the_container() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        BUSYBOX,
        "sh",
        "-c",
        "echo a; sleep 1; echo b; sleep 1; echo c",
    ]);
    let mut follower = engine
        .cli()
        .command(["logs", "-f", &id])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start docker logs -f");
    let mut text = String::new();
    follower
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("read");
    assert!(follower.wait().expect("wait").success());
    assert_eq!(text, "a\nb\nc\n");
}

#[test]
fn drivers_and_rotation() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo \"a line to fill the log $i\"; i=$((i+1)); done";
    for driver in ["json-file", "local"] {
        let id = engine.ok(&[
            "run",
            "-d",
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=20k",
            "--log-opt",
            "max-file=3",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ]);
        engine.ok(&["wait", &id]);
        let text = engine.ok(&["logs", &id]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines.last(),
            Some(&"a line to fill the log 2999"),
            "{driver}"
        );
        assert!(lines.len() < 3000, "{driver}: the log was not rotated");
        assert_eq!(engine.ok(&["logs", "--tail", "2", &id]).lines().count(), 2);
    }
    let id = engine.ok(&["run", "-d", "--log-driver", "none", BUSYBOX, "echo", "x"]);
    engine.ok(&["wait", &id]);
    engine.fails(
        &["logs", &id],
        1,
        "configured logging driver does not support reading",
    );
    engine.fails(&["run", "--log-driver", "no-such", BUSYBOX], 125, "no-such");
}
