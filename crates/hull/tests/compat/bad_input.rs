//! What is wrong is refused with Docker's sentence, and nothing half-made is left.

use std::time::Duration;

use hull_testkit::image::{Image, Tar, busybox_layer};
use hull_testkit::process::eventually;

use crate::engine::{BUSYBOX, Engine, Kind, kind};

#[test]
fn unknown_things_are_named() {
    let Some(engine) = Engine::start() else {
        return;
    };
    for (args, code, message) in [
        (&["start", "nobody"][..], 1, "No such container: nobody"),
        (&["stop", "nobody"], 1, "No such container: nobody"),
        (&["rm", "nobody"], 1, "No such container: nobody"),
        (&["logs", "nobody"], 1, "No such container: nobody"),
        (&["exec", "nobody", "true"], 1, "No such container: nobody"),
        (
            &["network", "inspect", "nothing"],
            1,
            "network nothing not found",
        ),
        (
            &["network", "rm", "nothing"],
            1,
            "network nothing not found",
        ),
        (&["volume", "rm", "nothing"], 1, "no such volume"),
        (
            &["run", "--pull", "never", "no-such-image"],
            125,
            "No such image: no-such-image:latest",
        ),
        (
            &["run", "--volumes-from", "nobody", BUSYBOX],
            125,
            "No such container: nobody",
        ),
        (
            &["run", "--network", "container:nobody", BUSYBOX],
            125,
            "No such container: nobody",
        ),
        (&["run", "-p", "nonsense", BUSYBOX], 125, "invalid"),
        (&["run", "-p", "99999:80", BUSYBOX], 125, "nvalid"),
        (&["run", "-v", "/:/:nonsense", BUSYBOX], 125, "invalid"),
        (
            &["run", "--restart", "sometimes", BUSYBOX],
            125,
            "sometimes",
        ),
        (
            &["run", "-u", "nobody-here", BUSYBOX],
            125,
            "unable to find user nobody-here: no matching entries in passwd file",
        ),
        (
            &["run", "--name", "bad/name", BUSYBOX],
            125,
            "Invalid container name (bad/name)",
        ),
        (&["run", "BadName"], 125, "repository name"),
        (&["run", "-w", "relative", BUSYBOX], 125, "relative"),
        (&["run", "--stop-signal", "NOSUCH", BUSYBOX], 125, "NOSUCH"),
        (
            &["run", "--ip", "10.211.0.77", BUSYBOX],
            125,
            "user specified IP address is supported on user defined networks only",
        ),
    ] {
        engine.fails(args, code, message);
    }
    // What failed after `create` is there as `created`, as in Docker; nothing runs.
    assert_eq!(engine.ok(&["ps", "-q"]), "");
}

/// What is told alike by dockerd 20.10 and by Hull, whatever the case of the first letter.
#[track_caller]
fn all_fail(engine: &Engine, rows: &[(&[&str], i32, &str)]) {
    let mut wrong = Vec::new();
    for (args, code, words) in rows {
        let output = engine.run(args);
        let said = format!("{}{}", output.stdout, output.stderr).to_lowercase();
        if output.code() != *code || !said.contains(&words.to_lowercase()) {
            wrong.push(format!(
                "{args:?}: {} (not {code}), without {words:?}: {said}",
                output.code()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_names_what_it_does_not_find() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nobody = "no such container: nobody";
    let zero = format!("busybox@sha256:{}", "0".repeat(64));
    let missing = format!("no such image: {zero}");
    let archive = engine.root().join("nothing.tar").display().to_string();
    let into = engine.root().folder("into").display().to_string();
    let commands = [
        "start", "restart", "kill", "pause", "unpause", "wait", "attach", "top", "port", "diff",
        "export", "commit", "logs", "stop", "rm",
    ];
    let mut rows: Vec<(Vec<&str>, i32, &str)> = commands
        .map(|command| (vec![command, "nobody"], 1, nobody))
        .to_vec();
    rows.extend([
        (vec!["exec", "nobody", "true"], 1, nobody),
        (vec!["stats", "--no-stream", "nobody"], 1, nobody),
        (vec!["cp", "nobody:/x", &into], 1, nobody),
        (vec!["rename", "nobody", "somebody"], 1, nobody),
        (vec!["update", "--memory", "64m", "nobody"], 1, nobody),
        (vec!["network", "disconnect", "bridge", "nobody"], 1, nobody),
        (vec!["inspect", "nobody"], 1, "no such object: nobody"),
        (
            vec!["run", "--pull", "never", "busybox:nope"],
            125,
            "no such image: busybox:nope",
        ),
        (vec!["run", "--pull", "never", &zero], 125, &missing),
        (vec!["rmi", "nothing"], 1, "no such image: nothing"),
        (vec!["rmi", "sha256:1234"], 1, "no such image: sha256:1234"),
        (vec!["tag", "nothing", "x"], 1, "no such image: nothing"),
        (
            vec!["save", "-o", &archive, "nothing"],
            1,
            "no such image: nothing",
        ),
        (vec!["history", "nothing"], 1, "no such image: nothing"),
        (
            vec!["load", "-i", "/nothing"],
            1,
            "open /nothing: no such file or directory",
        ),
        (
            vec!["import", "/nothing"],
            1,
            "open /nothing: no such file or directory",
        ),
        (vec!["volume", "inspect", "nothing"], 1, "no such volume"),
        (
            vec!["volume", "create", "-d", "nothing", "v1"],
            1,
            "plugin \"nothing\" not found",
        ),
        (
            vec!["network", "create", "-d", "nothing", "n1"],
            1,
            "plugin \"nothing\" not found",
        ),
        (vec!["ps", "--nothing"], 125, "unknown flag: --nothing"),
        (vec!["nothing"], 1, "nothing"),
    ]);
    let rows: Vec<(&[&str], i32, &str)> = rows.iter().map(|(a, c, m)| (&a[..], *c, *m)).collect();
    all_fail(&engine, &rows);
    assert!(!std::path::Path::new(&archive).exists());
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn what_is_malformed_is_refused_before_anything_is_made() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["run", "-d", "--name", "up", BUSYBOX, "sleep", "1000"]);
    let run = |flags: &[&'static str], message: &'static str| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([BUSYBOX, "true"]);
        (args, 125, message)
    };
    let rows = [
        // Ports.
        run(&["-p", "nonsense"], "invalid containerPort: nonsense"),
        run(&["-p", "99999:80"], "invalid hostPort: 99999"),
        run(&["-p", "80:80:80:80"], "invalid"),
        run(&["-p", "8080:0-"], "invalid"),
        run(&["-p", "80/icmp"], "invalid proto: icmp"),
        run(&["-p", "1.2.3:80:80"], "invalid IP address: 1.2.3"),
        run(
            &["-p", "80-81:90-92"],
            "invalid ranges specified for container and host Ports",
        ),
        run(&["--expose", "x"], "invalid range format for --expose: x"),
        // Mounts.
        run(&["-v", "/a:relative"], "mount path must be absolute"),
        run(&["-v", "/x:/y:nonsense"], "invalid mode: nonsense"),
        run(&["-v", "/x:/"], "destination can't be '/'"),
        run(
            &["-v", ":/x"],
            "invalid spec: :/x: empty section between colons",
        ),
        run(&["--mount", "type=bind"], "target is required"),
        run(&["--mount", "type=foo,dst=/x"], "foo"),
        run(&["--mount", "nonsense"], "invalid field 'nonsense'"),
        run(
            &["--mount", "type=bind,src=/nonexistent,dst=/x"],
            "invalid mount config for type \"bind\": bind source path does not exist: /nonexistent",
        ),
        run(
            &["--mount", "type=tmpfs,src=/a,dst=/x"],
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        run(
            &["--mount", "type=volume,dst=x"],
            "invalid mount path: 'x' mount path must be absolute",
        ),
        run(
            &["-v", "/x:/same", "--tmpfs", "/same"],
            "Duplicate mount point: /same",
        ),
        run(&["--volumes-from", "up:nonsense"], "invalid mode"),
        run(
            &["-v", "a/b:/x"],
            "includes invalid characters for a local volume name",
        ),
        // Names of things.
        run(&["--network", "a=b,c"], "invalid field"),
        run(
            &["-w", "relative"],
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        run(&["--stop-signal", "NOSUCH"], "invalid signal: NOSUCH"),
        run(&["--log-driver", "nothing"], "nothing"),
        run(&["--runtime", "nothing"], "unknown"),
        run(
            &["--cap-add", "FOO"],
            "invalid CapAdd: unknown capability: \"CAP_FOO\"",
        ),
        run(&["--ipc", "nonsense"], "invalid IPC mode: nonsense"),
        run(
            &["--user", "99999999999"],
            "uids and gids must be in range 0-2147483647",
        ),
        run(&["--sysctl", "foo=1"], "sysctl 'foo=1' is not allowed"),
        run(&["--ulimit", "foo=1"], "invalid ulimit type: foo"),
        run(
            &["--device", "/dev/nope:a:b:c"],
            "bad format for path: /dev/nope:a:b:c",
        ),
        run(
            &["--security-opt", "foo"],
            "Invalid --security-opt: \"foo\"",
        ),
        run(&["--platform", "rubbish/x/y/z"], "rubbish/x/y/z"),
        run(&["--memory", "4m"], "Minimum memory limit allowed is 6MB"),
        run(
            &["--gpus", "all"],
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
    ];
    let rows: Vec<(&[&str], i32, &str)> = rows.iter().map(|(a, c, m)| (&a[..], *c, *m)).collect();
    all_fail(&engine, &rows);
    let long = "x".repeat(300);
    // dockerd 20.10 knew no 127 for an exec.
    let missing = if kind() == Kind::Hull { 127 } else { 126 };
    all_fail(
        &engine,
        &[
            (&["run", "a@b"], 125, "invalid reference format"),
            (&["run", "a:b:c"], 125, "invalid reference format"),
            (
                &["run", "busybox@sha256:123"],
                125,
                "invalid reference format",
            ),
            (
                &["run", "Upper"],
                125,
                "repository name (library/Upper) must be lowercase",
            ),
            (&["tag", BUSYBOX, "A:b"], 1, "must be lowercase"),
            (&["tag", BUSYBOX, "a:b c"], 1, "invalid reference format"),
            (
                &["tag", BUSYBOX, &long],
                1,
                "repository name must not be more than 255 characters",
            ),
            (&["kill", "-s", "NOSUCH", "up"], 1, "invalid signal: NOSUCH"),
            (
                &["rename", "up", "up"],
                1,
                "Renaming a container with the same name as its current name",
            ),
            (&["rename", "up", "a/b"], 1, "Invalid container name (/a/b)"),
            (
                &["network", "create", "bridge"],
                1,
                "operation is not permitted on predefined bridge network",
            ),
            (
                &["network", "create", "--subnet", "rubbish", "n1"],
                1,
                "invalid",
            ),
            (
                &["volume", "create", "a/b"],
                1,
                "includes invalid characters for a local volume name",
            ),
            (&["volume", "create", "a"], 1, "volume name is too short"),
            (
                &["update", "--memory", "1m", "up"],
                1,
                "Minimum memory limit allowed is 6MB",
            ),
            (
                &["exec", "-w", "/nonexistent", "up", "true"],
                126,
                "chdir to cwd (\"/nonexistent\") set in config.json failed: no such file or directory",
            ),
            (
                &["exec", "up", "nosuch"],
                missing,
                "executable file not found in $PATH",
            ),
            (
                &["exec", "up", "/no/such"],
                missing,
                "no such file or directory",
            ),
            (&["exec", "up", "/etc/passwd"], 126, "permission denied"),
            (
                &["exec", "-u", "nobody-here", "up", "true"],
                126,
                "unable to find user nobody-here",
            ),
            (
                &["create", "--name", "up", BUSYBOX],
                1,
                "Conflict. The container name \"/up\" is already in use by container",
            ),
        ],
    );
    engine.ok(&["create", "--name", "other", BUSYBOX]);
    engine.fails(
        &["rename", "other", "up"],
        1,
        "is already in use by container",
    );
    engine.ok(&["rm", "other"]);
    assert_eq!(engine.ok(&["ps", "-a", "--format", "{{.Names}}"]), "up");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn the_holder_of_a_port_is_named() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run", "-d", "--name", "holder", "-p", "8080:80", BUSYBOX, "sleep", "1000",
    ]);
    let refused = engine.run(&["run", "--name", "late", "-p", "8080:80", BUSYBOX, "true"]);
    assert_eq!(refused.code(), 125);
    let said = &refused.stderr;
    assert!(
        said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"),
        "{said}"
    );
    assert!(
        kind() == Kind::Docker || said.contains("(held by container holder)"),
        "{said}"
    );
    // As created, as Docker leaves it, and nothing of its network.
    assert_eq!(
        engine.inspect("late", "{{.State.Status}} {{.State.Pid}}"),
        "created 0"
    );
    engine.ok(&["rm", "late"]);
    // Another program holds it, on one address or on all, TCP or UDP.
    for (listen, publish) in [
        ("TCP-LISTEN:8081,fork", "8081:80"),
        ("TCP-LISTEN:8082,bind=127.0.0.1,fork", "8082:80"),
        ("TCP6-LISTEN:8083,fork,ipv6only=1", "8083:80"),
        ("UDP-RECVFROM:8084,fork", "8084:80/udp"),
    ] {
        let mut program = engine
            .enter("socat")
            .args([listen, "EXEC:cat"])
            .spawn()
            .expect("start socat");
        let port = publish.split(':').next().unwrap_or_default();
        let there = eventually(Duration::from_secs(10), || {
            engine
                .in_netns(&["ss", "-Hlntu"])
                .contains(&format!(":{port} "))
        });
        let refused = engine.run(&["run", "--rm", "-p", publish, BUSYBOX, "true"]);
        let pid = program.id();
        let _ = program.kill();
        let _ = program.wait();
        assert!(there, "socat does not listen on {port}");
        assert_eq!(refused.code(), 125, "{}", refused.stderr);
        let said = &refused.stderr;
        assert!(said.contains("address already in use"), "{said}");
        let holder = format!("(held by process {pid} (socat))");
        assert!(kind() == Kind::Docker || said.contains(&holder), "{said}");
        engine.ok(&["run", "--rm", "-p", publish, BUSYBOX, "true"]);
    }
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
}

/// The program is there and may be executed, but the kernel cannot: Docker starts such a container, which says why and ends
/// (runc 1.1 with 1, since 1.2 with 255).
#[test]
fn what_the_kernel_cannot_execute_is_started_and_ends() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    elf.resize(256, 0);
    let layer = Tar::new()
        .file("foreign", 0o755, elf)
        .file("script", 0o755, "#!/no/such/interpreter\n")
        .file("plain", 0o755, "echo no interpreter is named\n")
        .file("empty", 0o755, "");
    let image = Image::new("strange:1")
        .layer(busybox_layer())
        .layer(layer.finish());
    engine.load(&image);
    engine.ok(&["run", "-d", "--name", "up", "strange:1", "sleep", "1000"]);
    let code = if kind() == Kind::Hull { 255 } else { 1 };
    for (program, words) in [
        ("/foreign", "exec /foreign: exec format error\n"),
        ("/script", "exec /script: no such file or directory\n"),
        ("/plain", "exec /plain: exec format error\n"),
        ("/empty", "exec /empty: exec format error\n"),
    ] {
        let output = engine.run(&["run", "--name", "late", "strange:1", program]);
        assert_eq!((output.code(), output.stderr.as_str()), (code, words));
        assert_eq!(engine.run(&["logs", "late"]).stderr, words);
        assert_eq!(
            engine.inspect(
                "late",
                "{{.State.Status}} {{.State.ExitCode}}{{.State.Error}}"
            ),
            format!("exited {code}")
        );
        engine.ok(&["rm", "late"]);
        let output = engine.run(&["exec", "up", program]);
        assert_eq!((output.code(), output.stderr.as_str()), (code, words));
    }
    // By --entrypoint, and for each attempt of a restart policy.
    let id = engine.ok(&[
        "run",
        "-d",
        "--restart",
        "on-failure:2",
        "--entrypoint",
        "/foreign",
        "strange:1",
    ]);
    engine.await_inspect(&id, "{{.State.Status}} {{.RestartCount}}", "exited 2");
}

#[test]
fn too_little_memory_is_told_from_a_kill() {
    let Some(engine) = Engine::start() else {
        return;
    };
    // The least that is allowed is enough for a small program.
    let least = ["-m", "6m", "--memory-swap", "6m"];
    let run = |name: &str, words: &[&str]| {
        let mut args = vec!["run", "--name", name];
        args.extend(least);
        args.push(BUSYBOX);
        args.extend(words);
        engine.run(&args)
    };
    assert_eq!(run("small", &["echo", "fine"]).stdout, "fine\n");
    assert_eq!(engine.inspect("small", "{{.State.OOMKilled}}"), "false");
    assert_eq!(run("large", &["tail", "/dev/zero"]).code(), 137);
    assert_eq!(
        engine.inspect(
            "large",
            "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}"
        ),
        "true 137 exited"
    );
    assert_eq!(engine.ok(&["ps", "-q"]), "");
}
