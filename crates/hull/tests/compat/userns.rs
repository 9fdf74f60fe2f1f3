//! `--userns-remap`: the containers' ids are a range of the host's, in processes and on disk.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use hull_testkit::image::{Image, Tar, busybox_layer};
use hull_testkit::process;

use crate::engine::{BUSYBOX, Engine, Kind, folder, kind};

/// First id of the range that the tests' user has.
const FIRST: u32 = 300_000;

/// Account files with the user `remapper` (and `norange`, which has none), put over the host's in the daemon's mount namespace.
fn accounts(engine: &Engine) -> Vec<String> {
    let mut binds = Vec::new();
    for (name, lines) in [
        (
            "passwd",
            "remapper:x:7001:7001::/:/bin/false\nnorange:x:7002:7002::/:/bin/false\n",
        ),
        ("group", "remapper:x:7001:\nnorange:x:7002:\n"),
        ("subuid", "remapper:300000:65536\n"),
        ("subgid", "remapper:300000:65536\n"),
    ] {
        let host = std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        let file = engine.root().file(name, format!("{host}{lines}"));
        binds.push(format!("mount --bind {} /etc/{name}", file.display()));
    }
    binds
}

/// An engine whose daemon remaps to `setting`.
fn remapped(setting: &str) -> Option<Engine> {
    if !std::path::Path::new("/etc/subuid").exists()
        || !std::path::Path::new("/etc/subgid").exists()
    {
        hull_testkit::skip!("the machine has no /etc/subuid to put a file over");
        return None;
    }
    let mut engine = Engine::prepare(&["--userns-remap", setting])?;
    let script = format!("{} && exec \"$@\"", accounts(&engine).join(" && "));
    engine.wrap(&[
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    Some(engine)
}

#[test]
fn files_and_processes_are_of_the_range() {
    let Some(mut engine) = remapped("remapper") else {
        return;
    };
    engine.start_daemon();
    let owned = Image::new("owned:1").layer(busybox_layer()).layer(
        Tar::new()
            .folder("implicit/below", 0o755)
            .file("data/file", 0o644, "x")
            .finish(),
    );
    engine.load(&Image::busybox(BUSYBOX));
    engine.load(&owned);
    let root = engine.root().join(format!("data/{FIRST}.{FIRST}"));
    assert!(root.is_dir(), "{} is the data root", root.display());
    assert_eq!(
        engine.ok(&["info", "--format", "{{.DockerRootDir}}"]),
        root.display().to_string()
    );
    assert!(
        engine
            .ok(&["info", "--format", "{{.SecurityOptions}}"])
            .contains("name=userns")
    );
    let inside = engine.ok(&[
        "run", "--rm", "owned:1", "/bin/sh", "-c",
        "stat -c %u:%g / /bin /data /data/file /implicit /etc/hosts /etc/resolv.conf /etc/hostname | sort -u; \
         touch /etc/hosts /new && echo ok > /dev/stdout; tr -s ' ' < /proc/self/uid_map; \
         cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip link show lo | grep -c LOOPBACK,UP",
    ]);
    assert_eq!(inside, "0:0\nok\n 0 300000 65536\n0\n1");
    // Seen from the host.
    let id = engine.ok(&[
        "run",
        "-d",
        "--name",
        "one",
        "-v",
        "vol:/v",
        BUSYBOX,
        "sh",
        "-c",
        "echo x > /v/x; touch /mine; chown 5:6 /mine; exec sleep 1000",
    ]);
    let pid = engine.inspect(&id, "{{.State.Pid}}");
    let owner = |path: &str| {
        let metadata = std::fs::metadata(path).expect("stat");
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner(&format!("/proc/{pid}/root/bin")), (FIRST, FIRST));
    assert_eq!(owner(&format!("/proc/{pid}")), (FIRST, FIRST));
    let volume = engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]);
    assert_eq!(
        (owner(&volume), owner(&format!("{volume}/x"))),
        ((FIRST, FIRST), (FIRST, FIRST))
    );
    // exec, cp, commit: the container's numbers on the outside.
    assert_eq!(
        engine.ok(&[
            "exec",
            "one",
            "sh",
            "-c",
            "id -u; echo out > /dev/stdout; stat -c %u:%g /mine"
        ]),
        "0\nout\n5:6"
    );
    assert_eq!(
        engine.ok(&[
            "exec",
            "-u",
            "1000",
            "one",
            "sh",
            "-c",
            "id -u; echo out > /dev/stdout"
        ]),
        "1000\nout"
    );
    let given = folder(&engine, "given");
    std::fs::write(given.join("file"), "given").expect("write");
    engine.ok(&[
        "cp",
        &given.join("file").display().to_string(),
        "one:/given",
    ]);
    assert_eq!(
        engine.ok(&["exec", "one", "stat", "-c", "%u:%g", "/given"]),
        "0:0"
    );
    engine.ok(&["commit", "one", "again:1"]);
    assert_eq!(
        engine.ok(&[
            "run", "--rm", "again:1", "stat", "-c", "%u:%g", "/mine", "/given"
        ]),
        "5:6\n0:0"
    );
    let exported = engine.root().join("export.tar").display().to_string();
    engine.ok(&["export", "-o", &exported, "one"]);
    let listed = process::run(
        Command::new("tar").args(["-tvf", &exported, "--numeric-owner", "mine"]),
        std::time::Duration::from_secs(20),
    );
    let listed = listed.expect("tar").stdout;
    assert!(listed.contains(" 5/6 "), "{listed}");
    // Networks.
    engine.ok(&["network", "create", "--subnet", "10.218.7.0/24", "net1"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "net1",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let ping = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "net1",
        BUSYBOX,
        "ping",
        "-c",
        "1",
        "-W",
        "2",
        "server",
    ]);
    assert!(ping.contains("1 packets received"), "{ping}");
    let parameter = "net.ipv4.ip_forward=0";
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--sysctl",
            parameter,
            BUSYBOX,
            "cat",
            "/proc/sys/net/ipv4/ip_forward"
        ]),
        "0"
    );
    // Out of it.
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--userns",
            "host",
            BUSYBOX,
            "sh",
            "-c",
            "tr -s ' ' < /proc/self/uid_map"
        ]),
        " 0 0 4294967295"
    );
    for (flags, message) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces",
        ),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            &["--pid", "host"],
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([BUSYBOX, "true"]);
        engine.fails(&args, 125, message);
    }
}

#[test]
fn users_without_ranges_are_refused() {
    for (setting, message) in [
        (
            "nosuch",
            "Error during uid lookup for \"nosuch\": getent unable to find entry \"nosuch\" in passwd database",
        ),
        (
            "norange",
            "Can't create ID mappings: no subuid ranges found for user \"norange\"",
        ),
        (
            "remapper:nosuch",
            "Error during groupname lookup for \"nosuch\": getent unable to find entry \"nosuch\" in group database",
        ),
        (
            "a:b:c",
            "Invalid user/group specification in --userns-remap: \"a:b:c\"",
        ),
    ] {
        let Some(mut engine) = remapped(setting) else {
            return;
        };
        let said = engine.refused_daemon();
        let said = said.replace("\\\"", "\"");
        engine.abandon();
        assert!(said.contains(message), "{setting}: {said}");
    }
    // By number too.
    if kind() == Kind::Hull {
        let Some(mut engine) = remapped("7001") else {
            return;
        };
        engine.start_daemon();
        assert!(
            engine
                .ok(&["info", "--format", "{{.DockerRootDir}}"])
                .ends_with("/300000.300000")
        );
    }
}

/// `default` makes the user and its ranges where they are missing: in a copy of /etc of the daemon's own.
#[test]
fn the_default_user_is_made() {
    let Some(mut engine) = Engine::prepare(&["--userns-remap", "default"]) else {
        return;
    };
    let etc = engine.root().join("etc").display().to_string();
    let script = format!(
        "cp -a /etc {etc} && sed -i /^dockremap:/d {etc}/passwd {etc}/group {etc}/subuid {etc}/subgid && \
         mount --bind {etc} /etc && exec \"$@\""
    );
    let private = ["unshare", "-m", "--propagation", "private"];
    engine.wrap(&[&private[..], &["sh", "-c", &script, "sh"]].concat());
    engine.start_daemon();
    engine.load(&Image::busybox(BUSYBOX));
    let made = |file: &str| {
        let text = std::fs::read_to_string(format!("{etc}/{file}")).expect("read");
        let line = text.lines().find(|line| line.starts_with("dockremap:"));
        line.unwrap_or_else(|| panic!("no dockremap in {file}"))
            .to_owned()
    };
    made("passwd");
    let first = |file: &str| made(file).split(':').nth(1).unwrap_or_default().to_owned();
    let (uid, gid) = (first("subuid"), first("subgid"));
    assert!(
        engine
            .ok(&["info", "--format", "{{.DockerRootDir}}"])
            .ends_with(&format!("/{uid}.{gid}"))
    );
    let map = engine.ok(&["run", "--rm", BUSYBOX, "cat", "/proc/self/uid_map"]);
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(map, ["0", &uid, "65536"]);
    // The next start finds the user.
    engine.stop_daemon();
    let before = std::fs::read_to_string(format!("{etc}/subuid")).expect("read");
    let script = format!("mount --bind {etc} /etc && exec \"$@\"");
    engine.wrap(&[&private[..], &["sh", "-c", &script, "sh"]].concat());
    engine.start_daemon();
    assert_eq!(engine.ok(&["run", "--rm", BUSYBOX, "id", "-u"]), "0");
    let after = std::fs::read_to_string(format!("{etc}/subuid")).expect("read");
    assert_eq!(before, after);
}
