//! What is wrong is refused with Docker's sentence, and nothing half-made is left.

use hull_testkit::image::{Image, Tar, busybox_layer};

use crate::engine::{BUSYBOX, Engine};

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

#[test]
fn an_image_that_is_no_image() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let rubbish = engine.root().file("rubbish.tar", vec![7_u8; 100_000]);
    assert_ne!(
        engine
            .run(&["load", "-i", &rubbish.display().to_string()])
            .code(),
        0
    );
    let path = engine.root().join("cut.tar");
    let mut whole = Image::busybox("x:1").docker_archive();
    whole.truncate(whole.len() / 2);
    std::fs::write(&path, whole).expect("write");
    assert_ne!(
        engine
            .run(&["load", "-i", &path.display().to_string()])
            .code(),
        0
    );
    assert_eq!(engine.ok(&["images", "-aq"]), "");
}

#[test]
fn a_hostile_layer_stays_inside() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let outside = engine.root().folder("outside");
    let hostile = Tar::new()
        .symlink("escape", &outside.display().to_string())
        .file("escape/through-link", 0o644, "no")
        .symlink("up", "../../../../../../..")
        .file(&format!("up{}/up", outside.display()), 0o644, "no")
        .finish();
    let image = Image::new("hostile:1")
        .layer(busybox_layer())
        .layer(hostile);
    let path = engine.root().join("hostile.tar");
    image.write_docker_archive(&path).expect("write");
    let loaded = engine.run(&["load", "-i", &path.display().to_string()]);
    let escaped: Vec<_> = std::fs::read_dir(&outside).expect("list").collect();
    assert!(
        escaped.is_empty(),
        "a layer wrote outside its root ({})",
        loaded.stdout
    );
}

#[test]
fn a_wrong_architecture_says_so() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    elf.resize(256, 0);
    let image = Image::new("arm:1")
        .layer(busybox_layer())
        .layer(Tar::new().file("foreign", 0o755, elf).finish());
    engine.load(&image);
    let output = engine.run(&["run", "arm:1", "/foreign"]);
    assert_ne!(output.code(), 0);
    assert!(
        output.stderr.contains("exec format error"),
        "{}",
        output.stderr
    );
}
