//! Volumes, bind mounts and tmpfs.

use hull_testkit::image::{Image, Tar, busybox_layer};

use crate::engine::{BUSYBOX, Engine, Kind, folder, kind};

#[test]
fn a_named_volume_is_filled_and_kept() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let filled = Image::new("filled:latest").layer(busybox_layer()).layer(
        Tar::new()
            .folder("data", 0o750)
            .file("data/from-image", 0o640, "image")
            .finish(),
    );
    engine.load(&filled);
    let read = engine.ok(&[
        "run",
        "--rm",
        "-v",
        "vol:/data",
        "filled",
        "sh",
        "-c",
        "cat /data/from-image; echo more > /data/more; stat -c %a /data",
    ]);
    assert_eq!(read, "image750");
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "-v",
            "vol:/elsewhere",
            BUSYBOX,
            "ls",
            "/elsewhere"
        ]),
        "from-image\nmore"
    );
    let read_only = engine.run(&[
        "run",
        "--rm",
        "-v",
        "vol:/data:ro",
        BUSYBOX,
        "touch",
        "/data/x",
    ]);
    assert!(
        read_only.stderr.contains("Read-only file system"),
        "{}",
        read_only.stderr
    );
    let no_copy = engine.ok(&[
        "run",
        "--rm",
        "-v",
        "empty:/data:nocopy",
        "filled",
        "ls",
        "/data",
    ]);
    assert_eq!(no_copy, "");
    let id = engine.ok(&["create", "-v", "vol:/data", BUSYBOX]);
    engine.fails(&["volume", "rm", "vol"], 1, "volume is in use");
    engine.ok(&["rm", &id]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "empty\nvol");
    assert_eq!(engine.ok(&["volume", "rm", "vol", "empty"]), "vol\nempty");
    engine.fails(&["volume", "inspect", "vol"], 1, "no such volume");
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["run", "--rm", "-v", "/data", BUSYBOX, "touch", "/data/x"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    let id = engine.ok(&["create", "-v", "/data", BUSYBOX]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]).lines().count(), 1);
    engine.ok(&["rm", &id]);
    assert_eq!(
        engine
            .ok(&["volume", "ls", "-q", "--filter", "dangling=true"])
            .lines()
            .count(),
        1
    );
    let left = engine.ok(&["volume", "ls", "-q"]);
    engine.ok(&["volume", "rm", &left]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn bind_mounts_show_the_hosts_files() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let host = folder(&engine, "bound");
    std::fs::write(host.join("file"), "from host").expect("write");
    let host = host.display().to_string();
    let read = engine.ok(&[
        "run",
        "--rm",
        "-v",
        &format!("{host}:/in"),
        BUSYBOX,
        "sh",
        "-c",
        "cat /in/file; echo back > /in/back",
    ]);
    assert_eq!(read, "from host");
    assert_eq!(
        std::fs::read_to_string(format!("{host}/back")).expect("read"),
        "back\n"
    );
    let one = engine.ok(&[
        "run",
        "--rm",
        "-v",
        &format!("{host}/file:/single:ro"),
        BUSYBOX,
        "cat",
        "/single",
    ]);
    assert_eq!(one, "from host");
    let mount = format!("type=bind,source={host},target=/in,readonly");
    let output = engine.run(&["run", "--rm", "--mount", &mount, BUSYBOX, "touch", "/in/x"]);
    assert!(
        output.stderr.contains("Read-only file system"),
        "{}",
        output.stderr
    );
    engine.fails(
        &[
            "run",
            "--rm",
            "--mount",
            "type=bind,source=/no/such/path,target=/in",
            BUSYBOX,
        ],
        125,
        "bind source path does not exist: /no/such/path",
    );
    engine.ok(&[
        "run",
        "--rm",
        "-v",
        &format!("{host}/made:/in"),
        BUSYBOX,
        "true",
    ]);
    assert!(
        std::path::Path::new(&format!("{host}/made")).is_dir(),
        "-v makes a missing source"
    );
    engine.fails(
        &["run", "-v", "relative/path:/in", BUSYBOX],
        125,
        "includes invalid characters for a local volume name",
    );
}

#[test]
fn volumes_from_and_tmpfs() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run",
        "--name",
        "source",
        "-v",
        "shared:/shared",
        BUSYBOX,
        "sh",
        "-c",
        "echo x > /shared/x",
    ]);
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--volumes-from",
            "source",
            BUSYBOX,
            "cat",
            "/shared/x"
        ]),
        "x"
    );
    let read_only = engine.run(&[
        "run",
        "--rm",
        "--volumes-from",
        "source:ro",
        BUSYBOX,
        "touch",
        "/shared/y",
    ]);
    assert!(
        read_only.stderr.contains("Read-only"),
        "{}",
        read_only.stderr
    );
    let tmpfs = engine.ok(&[
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=4m,mode=700",
        BUSYBOX,
        "sh",
        "-c",
        "df -k /t | tail -1; stat -c %a /t",
    ]);
    assert!(
        tmpfs.contains(" 4096 ") && tmpfs.ends_with("700"),
        "{tmpfs}"
    );
    let tmpfs = engine.ok(&[
        "run",
        "--rm",
        "--mount",
        "type=tmpfs,target=/t,tmpfs-size=2m",
        BUSYBOX,
        "df",
        "-k",
        "/t",
    ]);
    assert!(tmpfs.contains(" 2048 "), "{tmpfs}");
}

#[test]
fn a_folder_of_an_image_is_mounted() {
    // Mounts of images came with Docker 28.
    if kind() == Kind::Docker {
        return;
    }
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.load(
        &Image::new("files:1")
            .layer(
                Tar::new()
                    .file("etc/app/old", 0o644, "old")
                    .file("etc/app/gone", 0o644, "x")
                    .finish(),
            )
            .layer(
                Tar::new()
                    .file("etc/app/new", 0o644, "new")
                    .file("etc/app/.wh.gone", 0o644, "")
                    .finish(),
            ),
    );
    let list = |subpath: &str| {
        let mount = format!("type=image,source=files:1,target=/m,image-subpath={subpath}");
        engine.run(&[
            "run",
            "--rm",
            "--mount",
            &mount,
            BUSYBOX,
            "sh",
            "-c",
            "ls /m; cat /m/* 2>/dev/null || cat /m; ! touch /m/x 2>/dev/null",
        ])
    };
    assert_eq!(list("etc/app").ok(), "new\nold\nnewold");
    assert_eq!(list("etc/app/old").ok(), "/m\nold");
    let refused = list("etc/none");
    assert!(
        refused.stderr.contains("cannot access path etc/none"),
        "{}",
        refused.stderr
    );
}

/// What the daemon's mount table says of a volume: it has a table of its own, as it runs in a network namespace.
fn mounted(engine: &Engine, volume: &str) -> usize {
    let pid = std::fs::read_to_string(engine.root().join("pid")).expect("the daemon's pid");
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", pid.trim()))
        .expect("the daemon's mounts");
    let point = format!("/volumes/{volume}/_data ");
    table.lines().filter(|line| line.contains(&point)).count()
}

#[test]
fn a_volumes_own_file_system_is_mounted_while_it_is_used() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let tmpfs = [
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=3m,uid=7",
    ];
    engine.ok(&[&tmpfs[..], &["mem"]].concat());
    assert_eq!(mounted(&engine, "mem"), 0);
    for name in ["first", "second"] {
        engine.ok(&[
            "run", "-d", "--name", name, "-v", "mem:/m", BUSYBOX, "sleep", "1000",
        ]);
    }
    let seen = "df -k /m | tail -1; stat -c %u /m; echo x > /m/shared";
    let seen = engine.ok(&["exec", "first", "sh", "-c", seen]);
    assert!(seen.contains(" 3072 ") && seen.ends_with('7'), "{seen}");
    engine.ok(&["rm", "-f", "first"]);
    assert_eq!(engine.ok(&["exec", "second", "cat", "/m/shared"]), "x");
    assert_eq!(mounted(&engine, "mem"), 1);
    engine.fails(&["volume", "rm", "mem"], 1, "volume is in use");
    engine.ok(&["rm", "-f", "second"]);
    assert_eq!(mounted(&engine, "mem"), 0);
    engine.ok(&["volume", "rm", "mem"]);

    let host = folder(&engine, "bound");
    std::fs::write(host.join("file"), "from host").expect("write");
    let device = format!("device={}", host.display());
    let bind = [
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind,ro",
        "-o",
    ];
    engine.ok(&[&bind[..], &[&device, "bound"]].concat());
    let read = "cat /b/file; ! touch /b/x 2>/dev/null && echo ' refused'";
    let read = engine.ok(&["run", "--rm", "-v", "bound:/b", BUSYBOX, "sh", "-c", read]);
    assert_eq!(read, "from host refused");
    engine.ok(&["create", "--name", "still", "-v", "bound:/b", BUSYBOX]);
    let copy = folder(&engine, "copy");
    let copy = copy.display().to_string();
    engine.ok(&["cp", "still:/b/file", &copy]);
    let copied = std::fs::read_to_string(format!("{copy}/file")).expect("the copy");
    assert_eq!(copied, "from host");
    engine.ok(&["rm", "still"]);
    assert_eq!(mounted(&engine, "bound"), 0);
    engine.ok(&["volume", "rm", "bound"]);
    assert!(host.join("file").exists(), "what was bound is left alone");
}

#[test]
fn a_volume_that_cannot_be_mounted_is_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    for (options, said) in [
        (&["-o", "bogus=x"][..], "invalid option: \"bogus\""),
        (&["-o", "type=tmpfs"], "missing required option: \"device\""),
        (
            &["-o", "size=1g"],
            "quota size requested but no quota support",
        ),
    ] {
        let create = [&["volume", "create"], options, &["bad"]].concat();
        engine.fails(&create, 1, &format!("create bad: {said}"));
    }
    let absent = [
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        "device=/no/such",
        "absent",
    ];
    engine.ok(&absent);
    let run = ["run", "--name", "user", "-v", "absent:/m", BUSYBOX, "true"];
    let refused = engine.run(&run);
    // The command line takes the words "no such file or directory" for a program that is not there.
    assert_eq!(refused.status.code(), Some(127), "{}", refused.stderr);
    for part in [
        "error while mounting volume '",
        "/volumes/absent/_data': failed to mount local volume: mount /no/such:",
        "/volumes/absent/_data, flags: 0x1000: no such file or directory",
    ] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    engine.ok(&["rm", "user"]);
    engine.ok(&["volume", "rm", "absent"]);
}
