//! What a container may not do, and what can be given to it.

use crate::engine::{BUSYBOX, Engine, Kind, kind};

#[test]
fn defaults_are_dockers() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let status = engine.ok(&["run", "--rm", BUSYBOX, "cat", "/proc/self/status"]);
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(field("CapEff:"), "00000000a80425fb");
    assert_eq!(field("CapBnd:"), "00000000a80425fb");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "0");
    let ids = engine.ok(&[
        "run",
        "--rm",
        BUSYBOX,
        "sh",
        "-c",
        "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; ls -A /proc/acpi | wc -l",
    ]);
    assert_eq!(ids, "0\n0\n0", "masked paths are empty");
    for script in [
        "echo 1 > /proc/sys/kernel/panic",
        "touch /sys/x",
        "mount -t tmpfs x /tmp",
        "mknod /dev/sda b 8 0 && cat /dev/sda",
    ] {
        let output = engine.run(&["run", "--rm", BUSYBOX, "sh", "-c", script]);
        assert_ne!(output.code(), 0, "{script} was allowed");
    }
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            BUSYBOX,
            "sh",
            "-c",
            "ls /dev | grep -v core | sort | tr '\\n' ' '"
        ]),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    let mounts = engine.ok(&["run", "--rm", BUSYBOX, "cat", "/proc/self/mounts"]);
    assert!(
        mounts
            .lines()
            .next()
            .is_some_and(|line| line.starts_with("overlay / overlay rw")),
        "{mounts}"
    );
}

#[test]
fn more_and_less_than_the_default() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let eff = |args: &[&str]| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend([
            BUSYBOX,
            "sh",
            "-c",
            "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status | tr -s '\\t\\n' '  '",
        ]);
        engine.ok(&all)
    };
    assert_eq!(
        eff(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]),
        "CapEff: 0000000000001000 NoNewPrivs: 0 Seccomp: 2"
    );
    assert_eq!(
        eff(&[
            "--security-opt",
            "no-new-privileges",
            "--security-opt",
            "seccomp=unconfined"
        ]),
        "CapEff: 00000000a80425fb NoNewPrivs: 1 Seccomp: 0"
    );
    assert_eq!(
        eff(&["-u", "1000"]),
        "CapEff: 0000000000000000 NoNewPrivs: 0 Seccomp: 2"
    );
    if kind() == Kind::Docker {
        hull_testkit::skip!(
            "dockerd's runc cannot run a privileged container without CAP_SYS_RESOURCE"
        );
        return;
    }
    let privileged = eff(&["--privileged"]);
    assert!(
        privileged.contains("Seccomp: 0") && !privileged.contains("00000000a80425fb"),
        "{privileged}"
    );
    assert!(
        engine
            .run(&[
                "run",
                "--rm",
                "--privileged",
                BUSYBOX,
                "mount",
                "-t",
                "tmpfs",
                "x",
                "/tmp"
            ])
            .status
            .success()
    );
    engine.fails(&["run", "--cap-add", "NONSENSE", BUSYBOX], 125, "NONSENSE");
    let read_only = engine.run(&[
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/run",
        BUSYBOX,
        "sh",
        "-c",
        "touch /run/ok && touch /x",
    ]);
    assert!(
        read_only.code() == 1 && read_only.stderr.contains("Read-only file system"),
        "{}",
        read_only.stderr
    );
    let device = engine.ok(&[
        "run",
        "--rm",
        "--device",
        "/dev/null:/dev/mine:r",
        BUSYBOX,
        "ls",
        "-l",
        "/dev/mine",
    ]);
    assert!(
        device.starts_with("crw") && device.contains("1,   3"),
        "{device}"
    );
}

#[test]
fn a_seccomp_profile_of_the_users() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let profile = engine.root().file(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
    );
    let option = format!("seccomp={}", profile.display());
    let output = engine.run(&[
        "run",
        "--rm",
        "--security-opt",
        &option,
        BUSYBOX,
        "mkdir",
        "/x",
    ]);
    assert!(
        output.stderr.contains("Operation not permitted"),
        "{}",
        output.stderr
    );
}

#[test]
fn namespaces_that_cannot_be_shared_are_refused_in_dockers_words() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["run", "-d", "--name", "alone", BUSYBOX, "sleep", "1000"]);
    let join = |flag: &str, why: &str| {
        engine.fails(
            &["run", "--rm", flag, "container:alone", BUSYBOX, "true"],
            125,
            why,
        );
    };
    join(
        "--ipc",
        "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
    );
    engine.ok(&["kill", "alone"]);
    engine.ok(&["wait", "alone"]);
    join("--ipc", "can't join IPC of container");
    join("--pid", "is not running");
    join("--network", "of a non running container");
}

#[test]
fn namespaces_are_shared_where_asked() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", "--ipc", "shareable", BUSYBOX, "sleep", "1000"]);
    for (flag, name) in [("--pid", "pid"), ("--ipc", "ipc")] {
        let of = |target: &str| {
            engine.ok(&[
                "run",
                "--rm",
                flag,
                target,
                BUSYBOX,
                "readlink",
                &format!("/proc/self/ns/{name}"),
            ])
        };
        let container = format!("container:{id}");
        let own = engine.ok(&["exec", &id, "readlink", &format!("/proc/1/ns/{name}")]);
        assert_eq!(of(&container), own, "{flag} container:");
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("own namespace");
        assert_eq!(of("host"), host.display().to_string(), "{flag} host");
    }
    let uts = engine.ok(&[
        "run",
        "--rm",
        "--uts",
        "host",
        BUSYBOX,
        "readlink",
        "/proc/self/ns/uts",
    ]);
    assert_eq!(
        uts,
        std::fs::read_link("/proc/self/ns/uts")
            .expect("uts")
            .display()
            .to_string()
    );
}
