//! Images that are not what they say: archives, layers, registries. Each is refused in Docker's words and leaves nothing.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hull_testkit::image::{Image, Tar, busybox_layer};
use hull_testkit::process::eventually;

use crate::engine::{BUSYBOX, Engine, Kind, kind};
use crate::pull::Carrier;

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

/// Loads an archive that must be refused with one of these sentences.
#[track_caller]
fn refused_archive(engine: &Engine, archive: Vec<u8>, sentences: &[&str]) {
    let path = engine.root().file("refused.tar", archive);
    let output = engine.run(&["load", "-q", "-i", &path.display().to_string()]);
    assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(
        sentences.iter().any(|sentence| said.contains(sentence)),
        "{said}"
    );
    assert_eq!(engine.ok(&["images", "-aq"]), "", "{said}");
}

#[test]
fn a_corrupt_or_cut_layer_is_refused() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let image = Image::busybox("x:1");
    let whole = image.docker_archive();
    // One byte of a file's content: the tar stays one, the digest does not hold.
    let at = (whole.len() / 2..whole.len())
        .find(|at| whole[*at] != 0)
        .expect("content");
    let mut corrupt = whole.clone();
    corrupt[at] ^= 1;
    refused_archive(&engine, corrupt, &["invalid diffID for layer 0: expected"]);
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 3);
    refused_archive(&engine, cut, &["unexpected EOF"]);
    refused_archive(
        &engine,
        Vec::new(),
        &["EOF", "manifest.json", "repositories: no such file"],
    );
    let other = Tar::new().file("hello", 0o644, "world").finish();
    refused_archive(
        &engine,
        other,
        &["manifest.json", "repositories: no such file"],
    );
    // The store took no harm.
    engine.load(&Image::busybox(BUSYBOX));
    assert_eq!(engine.ok(&["run", "--rm", BUSYBOX, "echo", "fine"]), "fine");
}

/// A layer with a name longer than the format's fields, a sparse file and a device, as GNU tar writes them.
fn by_gnu_tar(engine: &Engine, long: &str) -> Vec<u8> {
    let folder = engine.root().folder("layer");
    let path = folder.join(long);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    std::fs::write(&path, "long").expect("write");
    let strange = engine.root().folder("layer/strange");
    let sparse = std::fs::File::create(strange.join("sparse")).expect("create");
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[7], 1 << 20).expect("write");
    let null = strange.join("null").display().to_string();
    engine.in_netns(&["mknod", &null, "c", "1", "3"]);
    let (archive, folder) = (
        engine.root().join("layer.tar"),
        folder.display().to_string(),
    );
    let to = archive.display().to_string();
    engine.in_netns(&[
        "tar",
        "--sparse",
        "--format=pax",
        "-C",
        &folder,
        "-cf",
        &to,
        ".",
    ]);
    std::fs::read(archive).expect("read")
}

/// Tars that Docker unpacks, each in its way, inside the root.
#[test]
fn strange_but_lawful_tars_are_unpacked() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let layer = Tar::new()
        .folder("strange", 0o755)
        .file("strange/../dots", 0o644, "dots")
        .file("/absolute", 0o644, "absolute")
        .symlink("strange/link", "/absolute")
        .hardlink("strange/hard", "/absolute")
        .fifo("strange/fifo")
        .finish();
    let image = Image::new("strange:1").layer(busybox_layer()).layer(layer);
    engine.load(&image.layer(by_gnu_tar(&engine, &long)));
    let script = format!(
        "cat /dots /strange/link /strange/hard /{long}; wc -c < /strange/sparse; test -p /strange/fifo && echo fifo; test -c /strange/null && echo device"
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "strange:1", "sh", "-c", &script]),
        "dotsabsoluteabsolutelong1048577\nfifo\ndevice"
    );
}

#[test]
fn a_tar_may_not_leave_its_root() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let outside = engine.root().folder("outside");
    let up = "../".repeat(20);
    let inside_outside = outside.display().to_string();
    for layer in [
        Tar::new().file(&format!("{up}{inside_outside}/dots"), 0o644, "no"),
        Tar::new().hardlink("hard", &format!("{up}etc/shadow")),
        Tar::new()
            .symlink("way", &inside_outside)
            .hardlink("hard", "way/../../etc/shadow"),
    ] {
        let image = Image::new("leaves:1")
            .layer(busybox_layer())
            .layer(layer.finish());
        let path = engine.root().join("leaves.tar");
        image.write_docker_archive(&path).expect("write");
        // Some are taken with the way out cut off, some refused, as in Docker.
        engine.run(&["load", "-q", "-i", &path.display().to_string()]);
        assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0);
        if !engine.ok(&["images", "-q", "leaves"]).is_empty() {
            let shadow = engine.run(&["run", "--rm", "leaves:1", "cat", "/hard"]);
            assert!(!shadow.stdout.contains("root:"), "{}", shadow.stdout);
            engine.ok(&["rmi", "-f", "leaves:1"]);
        }
    }
    // Into a container likewise.
    engine.load(&Image::busybox(BUSYBOX));
    let id = engine.ok(&["create", BUSYBOX, "true"]);
    let hostile = Tar::new()
        .symlink("escape", &inside_outside)
        .file("escape/through", 0o644, "no")
        .file(&format!("{up}{inside_outside}/dots"), 0o644, "no")
        .finish();
    let file = engine.root().file("hostile-cp.tar", hostile);
    let mut copy = engine.cli().command(["cp", "-", &format!("{id}:/tmp")]);
    copy.stdin(std::fs::File::open(file).expect("open"));
    let _ = hull_testkit::process::run(&mut copy, Duration::from_secs(30)).expect("run cp");
    assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0);
}

/// What the registry below does wrong, by the repository's name.
fn answer(files: &BTreeMap<String, Vec<u8>>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut send = |status: &str, kind: &str, body: &[u8], promised: usize| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {promised}\r\n\r\n"
        )?;
        stream.write_all(body)
    };
    let json = "application/json";
    let mut words = path.trim_start_matches("/v2/").split('/');
    let (repository, what, which) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    match (repository, what) {
        ("", _) => send("200 OK", json, b"{}", 2),
        ("hangs", _) => {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        ("rubbish", _) => send("200 OK", "text/html", b"<html>not a registry", 20),
        ("cuts", _) => send("200 OK", json, b"{\"schemaVersion\":", 5000),
        (_, "manifests") if which != "1" && !which.starts_with("sha256:") => {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            send("404 Not Found", json, body, body.len())
        }
        (_, "manifests") => {
            let body = &files["manifest"];
            send(
                "200 OK",
                "application/vnd.oci.image.manifest.v1+json",
                body,
                body.len(),
            )
        }
        (_, "blobs") => {
            let whole = &files[which];
            let layer = whole.len() > 100_000;
            let octets = "application/octet-stream";
            match repository {
                "corrupt" if layer => {
                    let mut body = whole.clone();
                    let middle = body.len() / 2;
                    body[middle] ^= 1;
                    send("200 OK", octets, &body, body.len())
                }
                "short" if layer => send("200 OK", octets, &whole[..whole.len() / 2], whole.len()),
                _ => send("200 OK", octets, whole, whole.len()),
            }
        }
        _ => send("404 Not Found", json, b"{}", 2),
    }
}

/// Serves busybox, more or less, on 127.0.0.1 until the tests end.
fn bad_registry(engine: &Engine) -> (String, Carrier) {
    let folder = engine.root().folder("layout");
    let image = Image::busybox("x:1");
    image.write_oci_layout(&folder).expect("write the layout");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("blobs/sha256")).expect("list") {
        let entry = entry.expect("entry");
        let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
        let content = std::fs::read(entry.path()).expect("read");
        if digest == image.manifest_digest() {
            files.insert("manifest".to_owned(), content.clone());
        }
        files.insert(digest, content);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = Arc::clone(&files);
            std::thread::spawn(move || {
                let _ = answer(&files, stream);
            });
        }
    });
    (format!("127.0.0.1:{port}"), Carrier::new(engine, port))
}

#[test]
fn a_registry_that_lies_cuts_or_hangs() {
    let Some(engine) = Engine::start_empty(&["--max-download-attempts", "1"]) else {
        return;
    };
    let (host, _carrier) = bad_registry(&engine);
    let nothing = |what: &str| {
        assert_eq!(engine.ok(&["images", "-aq"]), "", "{what}");
        assert_eq!(engine.ok(&["ps", "-aq"]), "", "{what}");
    };
    let zero = format!("{host}/corrupt@sha256:{}", "0".repeat(64));
    for (name, sentences) in [
        (format!("{host}/good:nope"), &["manifest unknown"][..]),
        (
            zero,
            &[
                "manifest verification failed for digest sha256:",
                "does not match",
            ],
        ),
        (
            format!("{host}/rubbish:1"),
            &[
                "invalid character '<' looking for beginning of value",
                "unsupported",
                "text/html",
                "missing signature key",
                "manifest is not valid: ",
            ],
        ),
        (format!("{host}/cuts:1"), &["unexpected EOF"]),
        (
            format!("{host}/corrupt:1"),
            &["filesystem layer verification failed for digest sha256:"],
        ),
        (
            format!("{host}/short:1"),
            &[
                "unexpected EOF",
                "expected HTTP 206 from byte range request",
            ],
        ),
    ] {
        for words in [vec!["pull", &name], vec!["run", "--rm", &name, "true"]] {
            let output = engine.run(&words);
            let code = if words[0] == "run" { 125 } else { 1 };
            assert_eq!(output.code(), code, "{words:?}: {}", output.stderr);
            assert!(
                sentences.iter().any(|one| output.stderr.contains(one)),
                "{words:?}: {}",
                output.stderr
            );
            nothing(&name);
        }
    }
    // One that hangs: others are served, and the client may go away.
    let mut waiting = engine
        .cli()
        .command(["pull", &format!("{host}/hangs:1")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a pull");
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().expect("look").is_none(), "it waits");
    let good = format!("{host}/good:1");
    engine.ok(&["pull", "-q", &good]);
    assert_eq!(engine.ok(&["run", "--rm", &good, "echo", "fine"]), "fine");
    let pid = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupt");
    let begun = Instant::now();
    waiting.wait().expect("the client ends");
    assert!(begun.elapsed() < Duration::from_secs(10));
    engine.ok(&["rmi", &good]);
    nothing("hangs");
}

/// A tmpfs as the daemon's data root, in a mount namespace of its own.
fn small_disk(mib: u32) -> Option<Engine> {
    let mut engine = Engine::prepare(&[])?;
    let data = engine.root().folder("data");
    let script = format!(
        "mount -t tmpfs -o size={mib}m small {} && exec \"$@\"",
        data.display()
    );
    let private = ["unshare", "-m", "--propagation", "private"];
    let words = [&private[..], &["sh", "-c", &script, "sh"]].concat();
    engine.wrap(&words);
    engine.start_daemon();
    Some(engine)
}

#[test]
fn a_full_disk_is_said_and_left_clean() {
    let Some(engine) = small_disk(24) else {
        return;
    };
    const FULL: &str = "no space left on device";
    engine.load(&Image::busybox(BUSYBOX));
    let before = engine.ok(&["images", "-aq"]);
    let noise: Vec<u8> = (0..40_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let big = Image::new("big:1").layer(Tar::new().file("noise", 0o644, noise).finish());
    let path = engine.root().join("big.tar");
    big.write_docker_archive(&path).expect("write");
    let loaded = engine.run(&["load", "-q", "-i", &path.display().to_string()]);
    assert_eq!(loaded.code(), 1, "{}", loaded.stdout);
    let said = format!("{}{}", loaded.stdout, loaded.stderr).to_lowercase();
    // The answer comes while the client still sends, who may see the connection end instead.
    assert!(
        said.contains(FULL) || said.contains("broken pipe"),
        "{said}"
    );
    assert_eq!(engine.ok(&["images", "-aq"]), before);
    // What was begun is gone: there is room for a container that fills the disk itself, and is told.
    let fill = "dd if=/dev/zero of=/fill bs=1M count=40 2>&1; echo still here; sleep 1000";
    let id = engine.ok(&["run", "-d", "--name", "filler", BUSYBOX, "sh", "-c", fill]);
    let wrote = eventually(Duration::from_secs(20), || {
        engine
            .run(&["logs", "filler"])
            .stdout
            .contains("still here")
            || engine
                .run(&["exec", "filler", "ls", "-l", "/fill"])
                .status
                .success()
    });
    assert!(wrote);
    // The engine still answers, stops it, and removes it; then there is room again.
    assert_eq!(engine.inspect(&id, "{{.State.Running}}"), "true");
    if kind() == Kind::Hull {
        let refused = engine.run(&["run", "--name", "late", BUSYBOX, "sh", "-c", "echo x > /x"]);
        assert!(refused.code() != 0, "there is no room: {}", refused.stdout);
        let said = refused.stderr.to_lowercase();
        assert!(said.contains(FULL), "{said}");
        engine.run(&["rm", "-f", "late"]);
    }
    engine.ok(&["rm", "-f", "filler"]);
    assert_eq!(engine.ok(&["run", "--rm", BUSYBOX, "echo", "fine"]), "fine");
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}
