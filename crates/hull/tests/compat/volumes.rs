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
