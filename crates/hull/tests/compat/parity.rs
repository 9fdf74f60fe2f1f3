//! Hull's own command line beside the real `docker`: on one daemon both must print the same and end with the same code.

use std::time::Duration;

use hull_testkit::docker::DockerCli;
use hull_testkit::process::{self, Output};
use hull_testkit::{binary, skips};

use crate::engine::{BUSYBOX, Engine};

/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The API version that both speak: the docker on the machine knows no newer one.
const API_VERSION: &str = "1.50";

struct Both {
    docker: DockerCli,
    hull: DockerCli,
    differences: Vec<String>,
    compared: usize,
}

impl Both {
    fn new(engine: &Engine) -> Option<Both> {
        let socket = format!("unix://{}", engine.root().join("e.sock").display());
        if skips::program("docker").is_none() {
            hull_testkit::skip!("no docker command line is installed");
            return None;
        }
        Some(Both {
            docker: DockerCli::new(&socket)?,
            hull: DockerCli::with_program(binary::hull(), &socket),
            differences: Vec::new(),
            compared: 0,
        })
    }

    /// Runs one command line with both, docker first.
    fn compare(&mut self, line: &str) {
        let words = split(line);
        let run = |cli: &DockerCli| -> Output {
            let mut command = cli.command(&words);
            command.env("DOCKER_API_VERSION", API_VERSION);
            process::run(&mut command, COMMAND_TIMEOUT).expect("run the client")
        };
        let (docker, hull) = (run(&self.docker), run(&self.hull));
        self.compared += 1;
        let seen = |output: &Output| {
            format!(
                "code {}\n--- stdout\n{}\n--- stderr\n{}",
                output.code(),
                normal(&output.stdout),
                normal(&output.stderr)
            )
        };
        let (docker, hull) = (seen(&docker), seen(&hull));
        if docker != hull {
            self.differences
                .push(format!("### {line}\ndocker: {docker}\nhull: {hull}"));
        }
    }

    fn all(&mut self, lines: &[&str]) {
        lines.iter().for_each(|line| self.compare(line));
    }

    fn finish(self) {
        assert!(
            self.differences.is_empty(),
            "{} of {} differ:\n{}",
            self.differences.len(),
            self.compared,
            self.differences.join("\n\n")
        );
    }
}

/// Splits at spaces outside single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// What may differ is made equal: the program's name, ids, numbers of time, the widths that follow from them.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        // docker's log lines about a start that failed come beside the message that both give.
        if line.starts_with("time=") {
            continue;
        }
        let line = line
            .replace("docker ", "hull ")
            .replace("docker: ", "hull: ");
        let mut line = mask(&line).split_whitespace().collect::<Vec<_>>().join(" ");
        for span in [
            "Less than a second",
            "# seconds",
            "# second",
            "About a minute",
        ] {
            line = line.replace(span, "SPAN");
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Ids become `ID`, other numbers `#`.
fn mask(line: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let hex = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        if hex {
            out.push_str("ID");
        } else {
            let mut number = false;
            for c in word.chars() {
                if !c.is_ascii_digit() {
                    out.push(c);
                } else if !number {
                    out.push('#');
                }
                number = c.is_ascii_digit();
            }
        }
        word.clear();
    };
    for c in line.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

#[test]
fn wrong_use_is_told_alike() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let Some(mut both) = Both::new(&engine) else {
        return;
    };
    both.all(&[
        "ps --foo",
        "ps -xyz",
        "ps a",
        "run",
        "run --foo x",
        "run --name",
        "run -e",
        "rm",
        "tag a",
        "container foo",
        "foo",
        "run -m x busybox",
        "run -p foo busybox",
        "run -p 80:80:80:80 busybox",
        "run -v :/x busybox",
        "run --rm=foo busybox",
        "run --cpus x busybox",
        "run UPPER",
        "run --ulimit a busybox",
        "run -a foo busybox",
        "run --health-interval x busybox",
        "run --mount type=foo busybox",
        "run --network a=b,c busybox",
        "run --add-host x busybox",
        "run --pull foo busybox",
        "run --env-file /nonex busybox",
        "run --rm --restart always busybox",
        "run --expose x busybox",
        "run --device x busybox",
        "run --security-opt seccomp=/nonex busybox",
        "exec a",
        "exec -it a b",
        "cp a b",
        "stop -t x a",
        "update a",
        "inspect --type foo x",
        "inspect --format '{{' x",
        "ps --format '{{.Foo}}'",
        "ps --format '{{.X'",
        "ps -f x",
        "volume create --label =",
        "login -p x --password-stdin",
        "run --help",
        "container ls --help",
        "image rm --help",
        "network create --help",
    ]);
    both.finish();
}

#[test]
fn objects_are_shown_alike() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let Some(mut both) = Both::new(&engine) else {
        return;
    };
    let script = "echo hello; echo err >&2; sleep 1000";
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-l",
        "a=1",
        "-l",
        "b.c=2",
        "-v",
        "data:/data",
        "-p",
        "8080:80",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    engine.ok(&["run", "--name", "done", BUSYBOX, "true"]);
    engine.ok(&["network", "create", "--subnet", "10.213.0.0/24", "net1"]);
    both.all(&[
        "ps",
        "ps -a",
        "ps -aq --no-trunc",
        "ps -a --format json",
        "ps -a --format '{{.ID}} {{.Names}} {{.Ports}} {{.Mounts}} {{.Labels}} {{.Networks}} {{.LocalVolumes}} {{.Image}} {{.Command}}'",
        "ps -a --format 'table {{.Names}}\\t{{.Label \"b.c\"}}'",
        "ps -a -f name=web",
        "ps -f status=exited",
        "ps -f bogus=1",
        "inspect web",
        "inspect web nope",
        "inspect -f '{{json .Config}}' web",
        "inspect -f '{{.HostConfig.Memory}} {{.State.Status}} {{.ID}} {{.Config.Labels}} {{.Config.Env}}' web",
        "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{len $v.IPAddress}}{{end}}' web",
        "inspect -f '{{.Foo}}' web",
        "inspect -f json done",
        "inspect -f '{{.State}} {{.Mounts}}' done",
        "inspect -f '{{.Mounts}} {{.NetworkSettings.Ports}} {{.Config.ExposedPorts}}' web",
        "inspect -f '{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}} {{.HostConfig.PortBindings}} {{.GraphDriver.Name}}' web",
        "image inspect -f '{{.RootFS}}' busybox",
        "network inspect -f '{{.IPAM}} {{.Containers}}' net1",
        "image inspect busybox",
        "volume inspect data",
        "network inspect net1",
        "network inspect nope",
        "inspect data",
        "logs web",
        "logs --tail 1 web",
        "logs nope",
        "top web -o pid,comm",
        "port web",
        "port web 80",
        "port web 81",
        "images",
        "images --format json",
        "images --digests --no-trunc",
        "history busybox",
        "history --no-trunc -q busybox",
        "volume ls",
        "volume ls --format json",
        "network ls",
        "network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}'",
        "system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'",
        "info --format '{{.Driver}} {{.CgroupDriver}}'",
        "version --format '{{.Server.Version}}'",
        "context ls --format '{{.Name}} {{.Current}}'",
    ]);
    both.finish();
}

#[test]
fn deeds_end_alike() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let Some(mut both) = Both::new(&engine) else {
        return;
    };
    engine.ok(&["run", "-d", "--name", "up", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["create", "--name", "idle", BUSYBOX, "true"]);
    both.all(&[
        "run --rm busybox echo hi",
        "run --rm busybox sh -c 'echo out; echo err >&2; exit 3'",
        "run --rm busybox nosuch",
        "run --rm busybox /etc",
        "run --rm --pull never nosuch:x true",
        "run --rm --network nosuch busybox true",
        "run --rm --name bad/name busybox true",
        "create --name up busybox",
        "exec up echo hi",
        "exec up sh -c 'exit 7'",
        "exec up nosuch",
        "exec idle ls",
        "exec nope ls",
        "exec -w /nonex up true",
        "start nope",
        "start up nope",
        "stop nope",
        "kill -s FOO up",
        "kill idle",
        "pause idle",
        "unpause up",
        "rename up idle",
        "rm up",
        "rm nope nope2",
        "rm -f nope",
        "wait nope",
        "attach idle",
        "update --memory 1k up",
        "tag nope x:1",
        "rmi nope",
        "rmi -f nope",
        "volume rm nope",
        "network rm nope",
        "network rm none",
        "network connect nope up",
        "cp nope:/x /tmp",
        "cp up:/nope /tmp",
        "pull UPPER",
        "save nope -o /nonex/x",
        "load -i /nonex",
        "container prune -f --filter label=zzz",
        "volume prune -f --filter label=zzz",
        "network prune -f --filter label=zzz",
        "container prune",
    ]);
    both.finish();
}

#[test]
fn normalising_keeps_what_counts() {
    assert_eq!(
        normal("docker: no 'docker run --help'"),
        "hull: no 'hull run --help'\n"
    );
    assert_eq!(
        normal("abcdef012345   2 seconds ago  a1"),
        "ID SPAN ago a#\n"
    );
    assert_eq!(split("ps -f 'a b' c"), ["ps", "-f", "a b", "c"]);
}
