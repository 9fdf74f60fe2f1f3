//! From create to remove.

use std::time::Duration;

use hull_api::container::WaitCondition;
use hull_api::exec::{ExecConfig, ExecStartConfig};
use hull_engine::Kind;
use hull_engine::containers::{AttachOptions, ListOptions, RemoveOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(runs_and_logs),
    case!(exit_codes),
    case!(attach_before_start),
    case!(the_end_is_told_after_the_output),
    case!(exec_in_a_running_container),
    case!(stop_kill_pause),
    case!(auto_remove),
    case!(daemon_restart),
    case!(volumes_and_mounts),
    case!(names_conflict),
    case!(users_and_limits),
    case!(restart_policy),
    case!(health_check),
    case!(copies_files),
    case!(stats_and_top),
    case!(events_tell),
    case!(many_at_once),
];

async fn runs_and_logs() {
    let fixture = Fixture::new().await;
    let begun = std::time::Instant::now();
    let (code, log) = fixture
        .output(
            "hello",
            Fixture::sh("echo out; echo err >&2; hostname; exit 3"),
        )
        .await;
    println!(
        "    create, start, wait, logs, remove: {} ms",
        begun.elapsed().as_millis()
    );
    assert_eq!(code, 3);
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
    fixture.finish().await;
}

async fn exit_codes() {
    let fixture = Fixture::new().await;
    for (program, code, said) in [
        (
            "nosuch",
            127,
            "exec: \"nosuch\": executable file not found in $PATH: unknown",
        ),
        ("/nosuch", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let mut request = Fixture::sh("");
        request.config.cmd = vec![program.to_owned()];
        let id = fixture.create("bad", request).await;
        let error = fixture.engine.containers.start(&id).await.unwrap_err();
        assert!(error.message.contains(said), "{}", error.message);
        assert_eq!(error.kind, Kind::InvalidParameter);
        let state = fixture
            .engine
            .containers
            .inspect(&id, false)
            .await
            .unwrap()
            .state;
        assert_eq!(
            (state.exit_code, state.status.as_str()),
            (code, "created"),
            "{program}"
        );
        assert!(state.error.contains(said));
        fixture.remove(&id).await;
    }
    fixture.finish().await;
}

async fn attach_before_start() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("read line; echo got $line");
    request.config.open_stdin = true;
    request.config.stdin_once = true;
    let id = fixture.create("att", request).await;
    let options = AttachOptions {
        stream: true,
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachOptions::default()
    };
    let mut streams = fixture
        .engine
        .containers
        .attach(&id, options)
        .await
        .unwrap();
    fixture.engine.containers.start(&id).await.unwrap();
    streams.writer.write_all(b"hello\n").await.unwrap();
    streams.writer.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(
        Duration::from_secs(5),
        streams.reader.read_to_end(&mut bytes),
    )
    .await
    .expect("the stream ends")
    .unwrap();
    assert_eq!(
        bytes,
        [&[1, 0, 0, 0, 0, 0, 0, 10][..], b"got hello\n"].concat()
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

/// As by dockerd: who waited for the end finds all output at the attached client, however late that one reads.
async fn the_end_is_told_after_the_output() {
    let fixture = Fixture::new().await;
    let id = fixture.create("late", Fixture::sh("echo out")).await;
    let options = AttachOptions {
        stream: true,
        stdout: true,
        ..AttachOptions::default()
    };
    let containers = &fixture.engine.containers;
    let mut streams = containers.attach(&id, options).await.unwrap();
    let end = containers.wait(&id, WaitCondition::NextExit).await.unwrap();
    containers.start(&id).await.unwrap();
    let reading = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut bytes = Vec::new();
        streams.reader.read_to_end(&mut bytes).await.unwrap();
        (bytes, std::time::Instant::now())
    });
    end.await.unwrap();
    let told = std::time::Instant::now();
    let (bytes, read) = reading.await.unwrap();
    assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x04out\n");
    assert!(read <= told, "told {:?} too early", read - told);
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn exec_in_a_running_container() {
    let fixture = Fixture::new().await;
    let id = fixture.run("host", Fixture::sh("sleep 1000")).await;
    // It has no terminal, and nobody minds.
    fixture.engine.containers.resize(&id, 24, 80).await.unwrap();
    let run = async |cmd: &[&str]| {
        let config = ExecConfig {
            cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecConfig::default()
        };
        let exec = fixture.engine.execs.create(&id, config).await.unwrap();
        let mut streams = fixture
            .engine
            .execs
            .start(&exec, ExecStartConfig::default())
            .await
            .unwrap()
            .unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(
            Duration::from_secs(5),
            streams.reader.read_to_end(&mut bytes),
        )
        .await
        .expect("the stream ends")
        .unwrap();
        // Asked once: who has seen the end of the output is told the code, as by dockerd.
        let code = fixture.engine.execs.inspect(&exec).await.unwrap().exit_code;
        (code, String::from_utf8_lossy(&bytes).into_owned())
    };
    let begun = std::time::Instant::now();
    let (code, text) = run(&["sh", "-c", "echo hi; exit 4"]).await;
    println!("    exec: {} ms", begun.elapsed().as_millis());
    assert_eq!(code, Some(4));
    assert!(text.contains("hi"));
    for _ in 0..20 {
        assert_eq!(run(&["false"]).await.0, Some(1));
    }
    let (code, text) = run(&["nosuch"]).await;
    assert_eq!(code, Some(127));
    assert!(
        text.contains("OCI runtime exec failed")
            && text.contains("executable file not found in $PATH"),
        "{text}"
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn stop_kill_pause() {
    let fixture = Fixture::new().await;
    let containers = &fixture.engine.containers;
    let id = fixture
        .run(
            "web",
            Fixture::sh("trap 'exit 7' TERM; while true; do sleep 0.05; done"),
        )
        .await;
    assert_eq!(
        containers.start(&id).await.unwrap_err().kind,
        Kind::NotModified
    );
    containers.pause("web").await.unwrap();
    assert_eq!(
        containers.inspect("web", false).await.unwrap().state.status,
        "paused"
    );
    assert!(
        containers
            .pause("web")
            .await
            .unwrap_err()
            .message
            .contains("is already paused")
    );
    containers.unpause("web").await.unwrap();
    containers.stop("web", None, Some(5)).await.unwrap();
    let state = containers.inspect("web", false).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", 7));
    assert_eq!(
        containers.stop("web", None, None).await.unwrap_err().kind,
        Kind::NotModified
    );
    assert!(
        containers
            .kill("web", None)
            .await
            .unwrap_err()
            .message
            .ends_with("is not running")
    );
    containers.start("web").await.unwrap();
    assert!(
        containers
            .remove("web", RemoveOptions::default())
            .await
            .unwrap_err()
            .message
            .contains("container is running")
    );
    containers.restart("web", None, Some(5)).await.unwrap();
    containers.kill("web", Some("SIGKILL")).await.unwrap();
    assert_eq!(
        containers
            .inspect("web", false)
            .await
            .unwrap()
            .state
            .exit_code,
        137
    );
    // One that ignores the signal is killed.
    let stubborn = fixture
        .run(
            "stubborn",
            Fixture::sh("trap '' TERM; while true; do sleep 0.05; done"),
        )
        .await;
    containers.stop(&stubborn, None, Some(0)).await.unwrap();
    assert_eq!(
        containers
            .inspect(&stubborn, false)
            .await
            .unwrap()
            .state
            .exit_code,
        137
    );
    assert_eq!(
        containers
            .list(ListOptions {
                all: true,
                ..ListOptions::default()
            })
            .await
            .unwrap()
            .len(),
        2
    );
    fixture.remove(&id).await;
    fixture.remove(&stubborn).await;
    fixture.finish().await;
}

async fn auto_remove() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("exit 5");
    request.host_config.auto_remove = true;
    let id = fixture.create("once", request).await;
    let wait = fixture
        .engine
        .containers
        .wait(&id, WaitCondition::Removed)
        .await
        .unwrap();
    fixture.engine.containers.start(&id).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("it goes")
        .unwrap();
    assert_eq!(answer.status_code, 5);
    assert_eq!(
        fixture
            .engine
            .containers
            .inspect(&id, false)
            .await
            .unwrap_err()
            .kind,
        Kind::NotFound
    );
    fixture.finish().await;
}

async fn daemon_restart() {
    let mut fixture = Fixture::new().await;
    let running = fixture
        .run(
            "running",
            Fixture::sh("i=0; while true; do echo $i; i=$((i+1)); sleep 0.01; done"),
        )
        .await;
    let ends = fixture.run("ends", Fixture::sh("sleep 0.2; exit 9")).await;
    let before = fixture
        .engine
        .containers
        .inspect(&running, false)
        .await
        .unwrap()
        .state;
    fixture.engine.shutdown(false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    fixture = fixture.reopen().await;
    let after = fixture
        .engine
        .containers
        .inspect(&running, false)
        .await
        .unwrap()
        .state;
    assert_eq!((after.pid, after.status.as_str()), (before.pid, "running"));
    assert_eq!(after.started_at, before.started_at);
    let wait = fixture
        .engine
        .containers
        .wait(&ends, WaitCondition::NotRunning)
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it ends")
        .unwrap();
    let ended = fixture
        .engine
        .containers
        .inspect(&ends, false)
        .await
        .unwrap()
        .state;
    assert_eq!((ended.status.as_str(), ended.exit_code), ("exited", 9));
    fixture
        .engine
        .containers
        .stop(&running, None, Some(0))
        .await
        .unwrap();
    // Not a line is missing.
    let log = fixture.log(&running).await;
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line, number.to_string());
    }
    assert!(log.lines().count() > 5, "{log}");
    fixture.remove(&running).await;
    fixture.remove(&ends).await;
    fixture.finish().await;
}

async fn volumes_and_mounts() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh(
        "cat /etc2/passwd | head -1; echo data > /vol/file; ls /tmpfs; touch /tmpfs/x && echo tmp; touch /host/y || echo read-only",
    );
    let host = fixture.root.folder("host");
    request.host_config.binds = vec![
        "site:/vol".to_owned(),
        "copy:/etc2".to_owned(),
        format!("{}:/host:ro", host.display()),
    ];
    request
        .host_config
        .tmpfs
        .insert("/tmpfs".to_owned(), "size=1m".to_owned());
    let (code, log) = fixture.output("vols", request).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("tmp\n") && log.contains("read-only"), "{log}");
    let site = fixture.engine.volumes.inspect("site").await.unwrap();
    assert_eq!(
        std::fs::read_to_string(format!("{}/file", site.mountpoint)).unwrap(),
        "data\n"
    );
    // A named volume is filled from the image.
    let mut request = Fixture::sh("ls /bin/sh && cat /etc/passwd");
    request.host_config.binds = vec!["filled:/etc".to_owned()];
    let (code, log) = fixture.output("fill", request).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("root:x:0:0"), "{log}");
    for name in ["site", "copy", "filled"] {
        fixture.engine.volumes.remove(name, false).await.unwrap();
    }
    let mut request = Fixture::sh("true");
    request.config.volumes.insert("/anon".to_owned());
    let id = fixture.create("anon", request).await;
    assert_eq!(
        fixture
            .engine
            .volumes
            .list(Default::default())
            .await
            .unwrap()
            .volumes
            .len(),
        1
    );
    fixture.remove(&id).await;
    assert!(
        fixture
            .engine
            .volumes
            .list(Default::default())
            .await
            .unwrap()
            .volumes
            .is_empty()
    );
    fixture.finish().await;
}

async fn names_conflict() {
    let fixture = Fixture::new().await;
    let id = fixture.create("taken", Fixture::sh("true")).await;
    let error = fixture
        .engine
        .containers
        .create(Some("taken"), None, Fixture::sh("true"))
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) \
             that container to be able to reuse that name."
        )
    );
    let mut request = Fixture::sh("true");
    request.config.image = "nosuch".to_owned();
    let error = fixture
        .engine
        .containers
        .create(None, None, request)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::NotFound, "No such image: nosuch:latest")
    );
    fixture
        .engine
        .containers
        .rename("taken", "free")
        .await
        .unwrap();
    assert_eq!(
        fixture
            .engine
            .containers
            .inspect("free", false)
            .await
            .unwrap()
            .name,
        "/free"
    );
    assert_eq!(
        fixture
            .engine
            .containers
            .inspect("taken", false)
            .await
            .unwrap_err()
            .message,
        "No such container: taken"
    );
    fixture.remove("free").await;
    fixture.finish().await;
}

async fn users_and_limits() {
    let fixture = Fixture::new().await;
    let mut request =
        Fixture::sh("id; echo HOME=$HOME; pwd; ulimit -n; cat /proc/self/status | grep -i capeff");
    request.config.user = "nobody".to_owned();
    request.config.working_dir = "/made/up".to_owned();
    request.host_config.resources.memory = 64 << 20;
    request.host_config.resources.pids_limit = Some(50);
    request.host_config.resources.ulimits = vec![hull_api::host::Ulimit {
        name: "nofile".into(),
        soft: 100,
        hard: 200,
    }];
    let (code, log) = fixture.output("user", request).await;
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("uid=65534(nobody) gid=65534(nobody)") && log.contains("100(users)"),
        "{log}"
    );
    assert!(log.contains("HOME=/home\n/made/up\n100\n"), "{log}");
    assert!(log.contains("0000000000000000"), "{log}");
    let mut request = Fixture::sh("true");
    request.config.user = "foo".to_owned();
    let id = fixture.create("nouser", request).await;
    let error = fixture.engine.containers.start(&id).await.unwrap_err();
    assert!(
        error
            .message
            .contains("unable to find user foo: no matching entries in passwd file"),
        "{}",
        error.message
    );
    fixture.remove(&id).await;
    let mut request = Fixture::sh("head -c 100m /dev/zero | tail");
    request.host_config.resources.memory = 16 << 20;
    let id = fixture.create("oom", request).await;
    let wait = fixture
        .engine
        .containers
        .wait(&id, WaitCondition::NextExit)
        .await
        .unwrap();
    fixture.engine.containers.start(&id).await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .expect("it ends")
            .unwrap()
            .status_code,
        137
    );
    assert!(
        fixture
            .engine
            .containers
            .inspect(&id, false)
            .await
            .unwrap()
            .state
            .oom_killed
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn restart_policy() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("exit 1");
    request.host_config.restart_policy = hull_api::host::RestartPolicy {
        name: "on-failure".into(),
        maximum_retry_count: 2,
    };
    let id = fixture.run("again", request).await;
    // A wait answers at the first exit, as in Docker; the last one is looked for.
    let mut inspect = fixture.engine.containers.inspect(&id, false).await.unwrap();
    for _ in 0..200 {
        inspect = fixture.engine.containers.inspect(&id, false).await.unwrap();
        if inspect.state.status == "exited" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((inspect.restart_count, inspect.state.exit_code), (2, 1));
    assert_eq!(inspect.state.status, "exited");
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn health_check() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("sleep 0.3; touch /ready; sleep 1000");
    request.config.healthcheck = Some(hull_api::container::HealthConfig {
        test: ["CMD-SHELL", "echo probing; test -e /ready"]
            .map(str::to_owned)
            .to_vec(),
        interval: 50_000_000,
        retries: 100,
        ..Default::default()
    });
    let id = fixture.run("healthy", request).await;
    let mut health = None;
    for _ in 0..100 {
        health = fixture
            .engine
            .containers
            .inspect(&id, false)
            .await
            .unwrap()
            .state
            .health;
        if health
            .as_ref()
            .is_some_and(|health| health.status == "healthy")
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let health = health.unwrap();
    assert_eq!(health.status, "healthy");
    assert!(health.log.last().unwrap().output.contains("probing"));
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn copies_files() {
    use futures_util::StreamExt;
    let fixture = Fixture::new().await;
    let containers = &fixture.engine.containers;
    let id = fixture
        .create(
            "files",
            Fixture::sh("cat /tmp/in/file; echo more > /made; exec sleep 1000"),
        )
        .await;
    let archive = hull_testkit::image::Tar::new()
        .folder("in", 0o755)
        .file("in/file", 0o644, "given")
        .finish();
    let put = async |path: &str| {
        let tar = Box::new(std::io::Cursor::new(archive.clone()));
        containers
            .archive_put(&id, path, Default::default(), tar)
            .await
    };
    put("/tmp").await.unwrap();
    assert_eq!(put("/no/such").await.unwrap_err().kind, Kind::NotFound);
    let read = async |path: &str| {
        let (stat, mut stream) = containers.archive_get(&id, path).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        (stat, bytes)
    };
    let (stat, bytes) = read("/tmp/in").await;
    assert_eq!((stat.name.as_str(), stat.mode >> 31), ("in", 1));
    assert!(String::from_utf8_lossy(&bytes).contains("given"));
    // And while it runs.
    containers.start(&id).await.unwrap();
    for _ in 0..100 {
        if fixture.log(&id).await.contains("given")
            && containers.archive_stat(&id, "/made").await.is_ok()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, bytes) = read("/made").await;
    assert!(String::from_utf8_lossy(&bytes).contains("more"));
    put("/root").await.unwrap();
    let changes = containers.changes(&id).await.unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change.path == "/made" && change.kind == 1),
        "{changes:?}"
    );
    let mut export = containers.export(&id).await.unwrap();
    let mut size = 0;
    while let Some(piece) = export.next().await {
        size += piece.unwrap().len();
    }
    assert!(size > 1 << 20);
    let commit = hull_engine::images::CommitOptions {
        container: id.clone(),
        repo: "kept".into(),
        pause: true,
        ..Default::default()
    };
    let image = fixture.engine.images.commit(commit).await.unwrap();
    assert_eq!(
        fixture
            .engine
            .images
            .inspect("kept", false)
            .await
            .unwrap()
            .id,
        image
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn stats_and_top() {
    use futures_util::StreamExt;
    let fixture = Fixture::new().await;
    let id = fixture.run("busy", Fixture::sh("exec sleep 1000")).await;
    let mut stream = fixture
        .engine
        .containers
        .stats(&id, false, true)
        .await
        .unwrap();
    let stats = stream.next().await.unwrap().unwrap();
    assert!(
        stats.memory_stats.usage > 0 && stats.pids_stats.current == 1,
        "{stats:?}"
    );
    assert!(stats.networks.unwrap().contains_key("eth0"));
    assert!(stream.next().await.is_none());
    let top = fixture.engine.containers.top(&id, "").await.unwrap();
    assert_eq!(top.processes.len(), 1, "{top:?}");
    assert!(top.processes[0].last().unwrap().contains("sleep 1000"));
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn events_tell() {
    use futures_util::StreamExt;
    let fixture = Fixture::new().await;
    let mut events = fixture
        .engine
        .events
        .subscribe(None, None, Default::default())
        .unwrap();
    let (code, _) = fixture.output("told", Fixture::sh("true")).await;
    assert_eq!(code, 0);
    let mut seen = Vec::new();
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(300), events.next()).await
    {
        let event = event.unwrap();
        seen.push(format!("{} {}", event.kind, event.action));
    }
    let expected = [
        "container create",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
    ];
    assert_eq!(seen, expected);
    fixture.finish().await;
}

async fn many_at_once() {
    let fixture = std::sync::Arc::new(Fixture::new().await);
    let begun = std::time::Instant::now();
    let mut clients = Vec::new();
    for client in 0..8 {
        let fixture = fixture.clone();
        clients.push(tokio::spawn(async move {
            for round in 0..4 {
                let mut request = Fixture::sh("echo $HOSTNAME; exec sleep 1000");
                request
                    .host_config
                    .port_bindings
                    .insert("80/tcp".to_owned(), Some(vec![Default::default()]));
                let id = fixture
                    .run(&format!("many-{client}-{round}"), request)
                    .await;
                let wait = fixture
                    .engine
                    .containers
                    .wait(&id, WaitCondition::Removed)
                    .await
                    .unwrap();
                match round % 3 {
                    0 => fixture.engine.containers.kill(&id, None).await.unwrap(),
                    1 => fixture
                        .engine
                        .containers
                        .stop(&id, None, Some(0))
                        .await
                        .unwrap(),
                    _ => fixture
                        .engine
                        .containers
                        .restart(&id, None, Some(0))
                        .await
                        .unwrap(),
                }
                fixture.remove(&id).await;
                tokio::time::timeout(Duration::from_secs(30), wait)
                    .await
                    .expect("it is gone")
                    .unwrap();
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    println!(
        "    32 containers, 8 at a time: {} ms",
        begun.elapsed().as_millis()
    );
    std::sync::Arc::into_inner(fixture)
        .expect("no other user")
        .finish()
        .await;
}
