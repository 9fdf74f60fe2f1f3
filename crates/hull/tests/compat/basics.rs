//! `run` in its simple forms: output, exit codes, environment, user, names.

use crate::engine::{BUSYBOX, Engine};

#[test]
fn output_and_exit_code_are_the_programs() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = engine.run(&[
        "run",
        "--rm",
        BUSYBOX,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!(output.code(), 7);
    assert_eq!(output.stdout, "out\n");
    assert_eq!(output.stderr, "err\n");
    assert_eq!(engine.ok(&["ps", "-aq"]), "", "--rm removes it");
    let killed = engine.run(&["run", "--rm", BUSYBOX, "sh", "-c", "kill -9 $$"]);
    // The first process of a pid namespace is deaf to itself.
    assert_eq!(killed.code(), 0);
    let killed = engine.run(&[
        "run",
        "--rm",
        BUSYBOX,
        "sh",
        "-c",
        "sh -c 'kill -9 $$'; exit $?",
    ]);
    assert_eq!(killed.code(), 137);
}

#[test]
fn much_output_arrives_whole() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let script =
        "i=0; while [ $i -lt 20000 ]; do echo \"line number $i of many\"; i=$((i+1)); done";
    let output = engine.run(&["run", "--rm", BUSYBOX, "sh", "-c", script]);
    assert_eq!(output.code(), 0);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 20_000);
    assert_eq!(lines[19_999], "line number 19999 of many");
}

#[test]
fn input_reaches_the_program_and_ends() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let input = "abc\n".repeat(50_000);
    let output = engine
        .cli()
        .run_with_input(["run", "--rm", "-i", BUSYBOX, "wc", "-c"], input.as_bytes());
    assert_eq!(output.ok(), "200000");
    let echoed = engine
        .cli()
        .run_with_input(["run", "--rm", "-i", BUSYBOX, "cat"], input.as_bytes());
    assert_eq!(echoed.ok().len() + 1, input.len());
}

#[test]
fn environment_workdir_user_and_hostname() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = engine.ok(&[
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "-w",
        "/tmp/new",
        "-u",
        "daemon:users",
        "--hostname",
        "box",
        "--domainname",
        "example",
        BUSYBOX,
        "sh",
        "-c",
        "echo $A,$B; pwd; id -u; id -g; hostname; echo $HOSTNAME; echo $HOME; echo $PATH",
    ]);
    assert_eq!(
        output.lines().collect::<Vec<_>>(),
        [
            "1,two words",
            "/tmp/new",
            "1",
            "100",
            "box",
            "box",
            "/usr/sbin",
            "/bin:/usr/bin"
        ]
    );
    let file = engine.root().file("env", "# comment\nC=3\nHOST_VALUE\n");
    let output = engine.ok(&[
        "run",
        "--rm",
        "--env-file",
        &file.display().to_string(),
        "--user",
        "1234",
        BUSYBOX,
        "sh",
        "-c",
        "echo $C; id -u; id -g",
    ]);
    assert_eq!(output, "3\n1234\n0");
    let groups = engine.ok(&[
        "run",
        "--rm",
        "--group-add",
        "100",
        "--group-add",
        "777",
        BUSYBOX,
        "id",
        "-G",
    ]);
    assert_eq!(groups, "0 100 777");
}

#[test]
fn entrypoint_and_command_as_in_docker() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = engine.ok(&["run", "--rm", "--entrypoint", "echo", BUSYBOX, "a", "b"]);
    assert_eq!(output, "a b");
    engine.fails(
        &["run", "--rm", BUSYBOX, "no-such-program"],
        127,
        "executable file not found in $PATH",
    );
    engine.fails(
        &["run", "--rm", BUSYBOX, "/etc/passwd"],
        126,
        "permission denied",
    );
    engine.fails(
        &["run", "--rm", BUSYBOX, "/no/such/program"],
        127,
        "no such file or directory",
    );
    engine.fails(
        &["run", "--rm", "--no-such-flag", BUSYBOX],
        125,
        "unknown flag: --no-such-flag",
    );
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_terminal_is_one() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "-t",
        BUSYBOX,
        "sh",
        "-c",
        "test -t 1 && stty size; tty",
    ]);
    assert_eq!(engine.ok(&["wait", &id]), "0");
    let log = engine.ok(&["logs", &id]);
    assert!(log.contains("/dev/pts/0"), "{log}");
    assert!(
        log.contains("\r\n"),
        "a terminal ends lines with CR LF: {log:?}"
    );
}

#[test]
fn init_reaps_and_forwards() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = engine.ok(&[
        "run",
        "--rm",
        "--init",
        BUSYBOX,
        "sh",
        "-c",
        "echo $$; tr '\\0' ' ' < /proc/1/cmdline",
    ]);
    let (pid, init) = output.split_once('\n').unwrap_or_default();
    assert_ne!(pid, "1", "the program is not the first process: {output}");
    assert!(init.starts_with("/sbin/docker-init -- sh -c "), "{init}");
    assert_eq!(
        engine
            .run(&["run", "--rm", "--init", BUSYBOX, "sh", "-c", "exit 9"])
            .code(),
        9
    );
}

#[test]
fn cidfile_labels_and_names() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let file = engine.root().join("cid");
    let id = engine.ok(&[
        "run",
        "-d",
        "--name",
        "named",
        "--cidfile",
        &file.display().to_string(),
        "--label",
        "a=b",
        "--label",
        "c",
        BUSYBOX,
        "sleep",
        "100",
    ]);
    assert_eq!(std::fs::read_to_string(&file).expect("the cidfile"), id);
    assert_eq!(
        engine.inspect("named", "{{.Name}} {{index .Config.Labels \"a\"}}"),
        "/named b"
    );
    engine.fails(
        &["run", "--name", "named", BUSYBOX],
        125,
        "Conflict. The container name \"/named\" is already in use by container",
    );
    assert_eq!(
        engine.ok(&["ps", "-q", "--no-trunc", "--filter", "label=a=b"]),
        id
    );
    assert_eq!(engine.ok(&["ps", "-q", "--filter", "label=a=x"]), "");
    assert_eq!(
        engine.ok(&["ps", "--format", "{{.Names}} {{.Image}}"]),
        format!("named {BUSYBOX}")
    );
}
