//! `exec` and `attach`.

use crate::engine::{BUSYBOX, Engine, Kind, kind};

#[test]
fn exec_runs_beside_the_program() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", "-e", "A=1", BUSYBOX, "sleep", "1000"]);
    let output = engine.run(&["exec", &id, "sh", "-c", "echo $A; echo err >&2; exit 4"]);
    assert_eq!(
        (
            output.code(),
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (4, "1\n", "err\n")
    );
    let output = engine.ok(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        &id,
        "sh",
        "-c",
        "echo $A$B; pwd; id -u",
    ]);
    assert_eq!(output, "12\n/tmp\n65534");
    let input = engine
        .cli()
        .run_with_input(["exec", "-i", &id, "cat"], b"through\n");
    assert_eq!(input.ok(), "through");
    for (program, code, message) in [
        ("no-such-program", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        // Docker before 23 says it on the output and always with 126.
        let output = engine.run(&["exec", &id, program]);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code() == code || kind() == Kind::Docker && output.code() == 126);
        assert!(said.contains(message), "{said}");
    }
    engine.ok(&["exec", "-d", &id, "sh", "-c", "echo done > /done"]);
    let done = hull_testkit::process::eventually(std::time::Duration::from_secs(5), || {
        engine.run(&["exec", &id, "cat", "/done"]).stdout == "done\n"
    });
    assert!(done);
    let size = engine.ok(&["exec", "-t", &id, "sh", "-c", "test -t 0 && tty"]);
    assert!(size.starts_with("/dev/pts/"), "{size}");
    engine.ok(&["stop", "-t", "0", &id]);
    engine.fails(&["exec", &id, "true"], 1, "is not running");
}

#[test]
fn exec_in_a_privileged_way_sees_the_same_namespaces() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", BUSYBOX, "sleep", "1000"]);
    let namespaces = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";
    let of_exec = engine.ok(&["exec", &id, "sh", "-c", namespaces]);
    let of_init = engine.ok(&[
        "exec",
        &id,
        "sh",
        "-c",
        "for n in mnt pid net ipc uts cgroup; do readlink /proc/1/ns/$n; done",
    ]);
    assert_eq!(of_exec, of_init);
}

#[test]
fn attach_gets_output_and_gives_input() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "create",
        "-i",
        BUSYBOX,
        "sh",
        "-c",
        "read a; echo got $a; exit 6",
    ]);
    let output = engine
        .cli()
        .run_with_input(["start", "-a", "-i", &id], b"word\n");
    assert_eq!((output.code(), output.stdout.as_str()), (6, "got word\n"));
}

/// Without a terminal every byte is input, the detach keys (ctrl-p ctrl-q) among them; more than all buffers on the way hold.
#[test]
fn input_without_a_terminal_is_data() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let data = "\x10\x11\0a\n".repeat(2_000_000);
    let id = engine.ok(&["run", "-d", BUSYBOX, "sleep", "1000"]);
    let run: &[&str] = &["run", "--rm", "-i", BUSYBOX, "cat"];
    let exec: &[&str] = &["exec", "-i", &id, "cat"];
    for args in [run, exec] {
        let output = engine.cli().run_with_input(args, data.as_bytes());
        assert_eq!(output.code(), 0, "{args:?}: {}", output.stderr);
        assert!(
            output.stdout == data,
            "{args:?}: {} bytes came back",
            output.stdout.len()
        );
    }
}
