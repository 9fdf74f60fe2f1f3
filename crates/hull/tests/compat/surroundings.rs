//! What surrounds the command line: completion in a shell, man pages, a daemon behind ssh, contexts, a daemon that is started when
//! none answers, and what the program says of its build.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use hull_testkit::docker::DockerCli;
use hull_testkit::process::{self, Output};
use hull_testkit::{TempRoot, binary, skips};

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// How long one command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

fn run(command: &mut Command) -> Output {
    process::run(command, TIMEOUT).expect("run a command")
}

fn socket(engine: &Engine) -> String {
    format!("unix://{}", engine.root().join("e.sock").display())
}

fn hull(engine: &Engine) -> DockerCli {
    DockerCli::with_program(binary::hull(), &socket(engine))
}

/// A folder for `PATH` in which `hull` is the program under test.
fn path_with_hull() -> (TempRoot, String) {
    let folder = TempRoot::new("hullpath");
    std::os::unix::fs::symlink(binary::hull(), folder.join("hull")).expect("link hull");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.path().display());
    (folder, path)
}

/// A container's start is refused for a port that a container of another daemon holds: the message says whose it is.
#[test]
fn a_port_of_another_daemon_is_named() {
    if kind() != Kind::Hull {
        hull_testkit::skip!("the hint is Hull's own");
        return;
    }
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run",
        "-d",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8090:80",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let other = TempRoot::new("hullother");
    let host = format!("unix://{}", other.join("o.sock").display());
    let mut daemon = engine
        .enter(binary::hull())
        .args(["daemon", "--bridge", "br-test", "-H", &host, "--data-root"])
        .arg(other.join("data"))
        .arg("--exec-root")
        .arg(other.join("run"))
        .arg("--pidfile")
        .arg(other.join("pid"))
        .stderr(std::fs::File::create(other.join("log")).expect("make the log"))
        .spawn()
        .expect("start the other daemon");
    let cli = hull_of(&host);
    let up = process::eventually(TIMEOUT, || cli.run(["version"]).status.success());
    let archive = other.join("load.tar");
    hull_testkit::image::Image::busybox(BUSYBOX)
        .write_docker_archive(&archive)
        .expect("write the archive");
    let loaded = cli.run(["load", "-q", "-i", &archive.display().to_string()]);
    let refused = cli.run(["run", "--name", "late", "-p", "8080:80", BUSYBOX, "true"]);
    let refused4 = cli.run(["run", "--name", "late4", "-p", "127.0.0.1:8090:80", BUSYBOX]);
    let removed = cli.run(["rm", "late", "late4"]);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("end the daemon");
    let ended = process::wait(&mut daemon, TIMEOUT).expect("wait for the daemon");
    let _ = daemon.kill();
    assert!(up, "the other daemon did not come up");
    assert!(loaded.status.success(), "{}", loaded.stderr);
    assert_eq!(refused.code(), 125, "{}", refused.stderr);
    let run_folder = engine.root().join("run");
    // A port of all addresses listens on IPv6, which the kernel's tables tell; one of IPv4 is only bound.
    let daemon = format!(", a Hull daemon with exec-root {})", run_folder.display());
    for (refused, words) in [
        (&refused, "address already in use (held by process "),
        (
            &refused4,
            "address already in use (nothing listens there: perhaps a container of process ",
        ),
    ] {
        let said = &refused.stderr;
        assert!(said.contains(words) && said.contains(&daemon), "{said}");
    }
    assert!(removed.status.success(), "{}", removed.stderr);
    assert!(ended.is_some(), "the other daemon did not stop");
}

fn hull_of(host: &str) -> DockerCli {
    DockerCli::with_program(binary::hull(), host)
}

/// Docker's own client reads the build out of `GET /version`; the commit is git's.
#[test]
fn the_build_is_told() {
    if kind() != Kind::Hull {
        hull_testkit::skip!("another daemon has another build");
        return;
    }
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let format = "{{.Server.GitCommit}} {{.Server.BuildTime}}";
    let server = engine.ok(&["version", "--format", format]);
    let (commit, time) = server.split_once(' ').expect("two words");
    let hex = commit.trim_end_matches("-dev");
    let known = hex.len() >= 7 && hex.chars().all(|c| c.is_ascii_hexdigit());
    assert!(known || commit == "unknown", "{server}");
    assert!(
        time.is_empty() == (commit == "unknown")
            && (time.is_empty() || time.ends_with(".000000000+00:00")),
        "{server}"
    );
    let own = hull(&engine).ok(["version", "--format", "{{.Client.GitCommit}}"]);
    assert_eq!(own, commit);
    let shown = engine.ok(&["version"]);
    assert!(
        shown.contains(&format!("Git commit:       {commit}")),
        "{shown}"
    );
}

/// What bash offers for a line, by the function that `hull completion bash` defines.
fn offered(engine: &Engine, path: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
        source <(hull completion bash)
        complete -p hull >/dev/null || exit 9
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        _hull_complete
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = run(Command::new("bash")
        .args(["--norc", "-c", script, "bash"])
        .args(words)
        .env("PATH", path)
        .env("DOCKER_HOST", socket(engine)));
    output.ok().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_live_names() {
    let Some(engine) = Engine::start() else {
        return;
    };
    if skips::program("bash").is_none() {
        hull_testkit::skip!("no bash is installed");
        return;
    }
    let (_folder, path) = path_with_hull();
    engine.ok(&["run", "-d", "--name", "webfront", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["create", "--name", "webidle", BUSYBOX, "true"]);
    let offered = |words: &[&str]| offered(&engine, &path, words);
    assert_eq!(offered(&["hull", "st"]), ["start", "stats", "stop"]);
    assert_eq!(offered(&["hull", "stop", "web"]), ["webfront"]);
    assert_eq!(offered(&["hull", "start", "web"]), ["webidle"]);
    assert_eq!(offered(&["hull", "rm", "web"]), ["webfront", "webidle"]);
    assert_eq!(
        offered(&["hull", "run", "--restart", "un"]),
        ["unless-stopped"]
    );
    assert!(offered(&["hull", "run", "busy"]).contains(&BUSYBOX.to_owned()));
}

#[test]
fn man_pages_are_read_without_a_warning() {
    if skips::program("groff").is_none() {
        hull_testkit::skip!("no groff is installed");
        return;
    }
    let folder = TempRoot::new("hullman");
    run(Command::new(binary::hull()).arg("__man").arg(folder.path())).ok();
    let mut pages: Vec<_> = std::fs::read_dir(folder.path())
        .expect("list the pages")
        .map(|entry| entry.expect("a page").path())
        .collect();
    pages.sort();
    assert!(pages.len() > 100, "only {} pages", pages.len());
    let output = run(Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .args(&pages));
    assert_eq!(output.ok(), "");
    assert_eq!(output.stderr, "");
    let shown = run(Command::new("groff")
        .args(["-man", "-Tutf8", "-P-cbou"])
        .arg(folder.join("hull-run.1")));
    for words in ["NAME", "SYNOPSIS", "hull run [OPTIONS] IMAGE", "--cap-add"] {
        assert!(shown.ok().contains(words), "{words:?} in\n{}", shown.stdout);
    }
}

/// `DOCKER_HOST=ssh://..` with an ssh that runs the remote command here.
#[test]
fn a_daemon_is_reached_through_ssh() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let (folder, path) = path_with_hull();
    let log = folder.join("ssh.log");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nDOCKER_HOST={} exec sh -c \"$*\"\n",
        log.display(),
        socket(&engine)
    );
    let ssh = folder.file("ssh", script);
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let far = |host: &str, args: &[&str]| {
        run(hull_of(host)
            .command(args)
            .env("PATH", &path)
            .env_remove("DOCKER_TLS"))
    };
    let host = "ssh://me@far.example:2222";
    let output = far(host, &["run", "--rm", BUSYBOX, "echo", "through"]);
    assert_eq!(output.ok(), "through", "{}", output.stderr);
    let called = std::fs::read_to_string(&log).expect("ssh was called");
    let first = called.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("-l me -p 2222 ") && first.contains(" -- far.example "),
        "{called}"
    );
    // A path names the socket there.
    let at_socket = format!(
        "ssh://far.example{}",
        engine.root().join("e.sock").display()
    );
    assert_eq!(far(&at_socket, &["ps", "-q"]).ok(), "");
    let wrong = far("ssh://far.example/nonexistent.sock", &["ps"]);
    assert_eq!(wrong.code(), 1, "{}", wrong.stderr);
    // Docker's client runs the same far end.
    if let Some(docker) = DockerCli::new(host) {
        let link = folder.join("docker");
        std::os::unix::fs::symlink(binary::hull(), link).expect("link docker");
        let output = run(docker
            .command(["version", "-f", "{{.Server.Os}}"])
            .env("PATH", &path));
        assert_eq!(output.ok(), "linux", "{}", output.stderr);
    }
}

/// Contexts: made, used, shown, carried away and removed by both clients, each in a configuration of its own.
#[test]
fn contexts_are_dockers() {
    let Some(docker) = DockerCli::new("") else {
        hull_testkit::skip!("no docker command line is installed");
        return;
    };
    let hull = DockerCli::with_program(binary::hull(), "");
    let folder = TempRoot::new("hullctx");
    let seen = |cli: &DockerCli, line: &str| {
        let mut command = cli.command(line.split(' '));
        command.env_remove("DOCKER_HOST").current_dir(folder.path());
        let output = run(&mut command);
        let own = cli.config_folder().display().to_string();
        let text = format!("{}\n{}\n{}", output.code(), output.stdout, output.stderr);
        text.replace(&own, "CONFIG")
            .replace("unix:///run/hull/hull.sock", "unix:///var/run/docker.sock")
            .replace("docker ", "hull ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut differences = Vec::new();
    for line in [
        "context create far --description Far --docker host=tcp://192.0.2.1:2375",
        "context create far --docker host=tcp://192.0.2.1:2375",
        "context create bad/name",
        "context create near --docker host=unix:///run/near.sock",
        "context create copy --from far",
        "context use far",
        "context show",
        "context ls",
        "context ls -q",
        "context ls --format {{.Name}}:{{.DockerEndpoint}}:{{.Current}}",
        "context inspect far",
        "context inspect",
        "context inspect nope",
        "context update far --description Farther",
        "context inspect -f {{.Name}} far",
        "context inspect far",
        "context export near near.tar",
        "context export near near.tar",
        "context import again near.tar",
        "context import again near.tar",
        "context inspect again",
        "context rm far",
        "context use default",
        "context rm far near again copy",
        "context rm far",
        "context rm default",
        "context use nope",
        "context ls -q",
    ] {
        let theirs = seen(&docker, line);
        // Each exports to the same file; the second of the two exports is refused for both.
        if line == "context export near near.tar" && theirs.starts_with('0') {
            std::fs::rename(folder.join("near.tar"), folder.join("theirs.tar")).expect("rename");
        }
        let ours = seen(&hull, line);
        if ours != theirs {
            differences.push(format!("{line}\ndocker: {theirs}\nhull: {ours}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    // What one carries away the other takes in.
    for (cli, file) in [(&hull, "theirs.tar"), (&docker, "near.tar")] {
        let taken = seen(cli, &format!("context import swapped {file}"));
        assert!(taken.starts_with('0'), "{taken}");
        let host = seen(cli, "context inspect -f {{.Endpoints.docker.Host}} swapped");
        assert_eq!(host, "0 unix:///run/near.sock");
    }
}

/// `hull run` where no daemon answers starts one, unless told not to. On a `/run`, `/var/lib`, `/var/log`, network and processes of
/// its own, with which the daemon ends.
#[test]
fn a_daemon_is_started_where_none_answers() {
    if !skips::is_root() {
        hull_testkit::skip!("namespaces need root");
        return;
    }
    let script = r#"
        for folder in /run /var/lib /var/log; do mount -t tmpfs none $folder || exit 9; done
        ip link set lo up
        hull --no-autostart run --pull never nosuch 2>&1; echo "told not to: $?"
        hull ps 2>/dev/null; echo "only run starts one: $?"
        hull run --pull never nosuch 2>&1; echo "started: $?"
        hull version -f '{{.Server.Os}}'
        hull run --pull never nosuch 2>&1; echo "again: $?"
        kill $(cat /run/hull.pid /run/docker.pid /run/hull/*.pid 2>/dev/null) 2>/dev/null
        for i in 1 2 3 4 5 6 7 8 9 10; do hull ps >/dev/null 2>&1 || break; sleep 0.5; done
    "#;
    let (folder, path) = path_with_hull();
    let output = run(Command::new("unshare")
        .args([
            "-mnp",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            script,
        ])
        .env("PATH", &path)
        .env("DOCKER_CONFIG", folder.path())
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT"));
    let said = output.ok();
    let (refused, rest) = said.split_once("told not to: 125").expect(said);
    assert!(!refused.contains("starting one"), "{said}");
    let (_, rest) = rest.split_once("only run starts one: 1").expect(said);
    let (first, rest) = rest.split_once("started: 125\nlinux\n").expect(said);
    assert!(first.contains("starting one in the background"), "{said}");
    assert!(first.contains("No such image: nosuch"), "{said}");
    let (second, _) = rest.split_once("again: 125").expect(said);
    assert!(!second.contains("starting one"), "{said}");
}

/// The cgroup above the containers' goes with the last daemon that uses it.
#[test]
fn no_empty_cgroup_is_left() {
    if kind() != Kind::Hull {
        hull_testkit::skip!("dockerd leaves its own");
        return;
    }
    let Some(mut engine) = Engine::start() else {
        return;
    };
    engine.ok(&["run", "-d", "--name", "up", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["rm", "-f", "up"]);
    engine.stop_daemon();
    let left = || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("list");
        hierarchies
            .flatten()
            .any(|one| one.path().join("hull").exists())
    };
    // Daemons of other tests use it too: then they remove it.
    let others = || {
        let processes = std::fs::read_dir("/proc").expect("list").flatten();
        processes
            .filter_map(|one| std::fs::read(one.path().join("cmdline")).ok())
            .any(|line| {
                let mut words = line.split(|byte| *byte == 0);
                words.next().is_some_and(|name| name.ends_with(b"hull"))
                    && words
                        .next()
                        .is_some_and(|word| word == b"daemon" || word == b"shim")
            })
    };
    let gone = process::eventually(TIMEOUT, || !left() || others());
    assert!(gone, "/sys/fs/cgroup/*/hull stays");
}
