//! What no client sends: wrong types, endless and broken bodies, silence, floods. It is refused with a status that says so, in bounded
//! time and memory, and nobody else notices.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hull_testkit::process::eventually;

use crate::engine::{BUSYBOX, Engine, Kind, kind};
use crate::wire::{connect, read, request, request_as};

/// All routes of the description of API 1.55, one `METHOD /path` a line.
const DOCUMENTED: &str = include_str!("../../../daemon/src/routes/documented.txt");

/// The documented routes about things that are not there.
fn routes() -> impl Iterator<Item = (&'static str, String)> {
    DOCUMENTED.lines().map(|line| {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let path = path.replace("{id}", "nosuch").replace("{name}", "nosuch");
        let query = match path.as_str() {
            // Else it would go on for ever.
            "/events" => "?until=1",
            _ => "",
        };
        (method, format!("{path}{query}"))
    })
}

/// Bytes that the daemon has needed at most so far.
fn peak_memory(engine: &Engine) -> u64 {
    let pid = std::fs::read_to_string(engine.root().join("pid")).expect("read the pid file");
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("read its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        << 10
}

#[test]
fn every_documented_route_answers() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    for (method, path) in routes() {
        let answer = request(&engine, method, &path, b"{}");
        // `Unavailable`: no swarm here. `Not Implemented`: said by name. All else is the client's own fault or a success.
        let honest = matches!(answer.status, 200..=499 | 501 | 503);
        assert!(
            honest && answer.message() != "page not found",
            "{method} {path}: {}",
            answer.text
        );
    }
}

#[test]
fn a_body_of_another_shape_is_refused() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let bodies: [&[u8]; 8] = [
        b"[1,2]",
        b"\"text\"",
        b"7",
        b"{\"Image\":5,\"Cmd\":{},\"HostConfig\":7,\"Name\":[],\"Container\":{},\"Driver\":1,\"Detach\":\"x\"}",
        b"{\"Image\":\"\xff\xfe\"}",
        b"{\"Image\":",
        b"{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[[[[]]]]}}",
        b"\0\0\0\0",
    ];
    for (method, path) in routes().filter(|(method, _)| matches!(*method, "POST" | "PUT")) {
        for body in bodies {
            let answer = request(&engine, method, &path, body);
            assert!(
                matches!(answer.status, 200..=499 | 501 | 503),
                "{method} {path} {}: {}",
                String::from_utf8_lossy(body),
                answer.text
            );
        }
    }
    // Nothing came of any of them.
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    assert_eq!(engine.ok(&["volume", "ls", "-q", "-f", "name=nosuch"]), "");
    let create = "/containers/create";
    for (body, message) in [
        (
            &b"{\"Image\":5}"[..],
            "json: cannot unmarshal number into Go",
        ),
        (b"", "EOF"),
        (b"{", "nexpected"),
        (b"{} {}", "unexpected content after JSON"),
    ] {
        let answer = request(&engine, "POST", create, body);
        let said = answer.message();
        assert_eq!(answer.status, 400, "{said}");
        assert!(kind() == Kind::Docker || said.contains(message), "{said}");
    }
    let answer = request_as(&engine, "POST", create, "text/plain", b"{}");
    assert_eq!(answer.status, 400);
    assert!(
        answer.message().contains("must be 'application/json'"),
        "{}",
        answer.message()
    );
    // A member nobody knows is nobody's error, as in Docker.
    let answer = request(
        &engine,
        "POST",
        "/volumes/create",
        b"{\"Name\":\"surplus\",\"Nonsense\":{\"a\":[1]},\"labels\":null}",
    );
    assert_eq!(answer.status, 201, "{}", answer.text);
    engine.ok(&["volume", "rm", "surplus"]);
}

#[test]
fn wrong_parameters_are_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", BUSYBOX, "sleep", "1000"]);
    for (method, path) in [
        ("GET", "/containers/json?filters=nonsense"),
        (
            "GET",
            "/containers/json?filters=%7B%22status%22%3A%5B%22nonsense%22%5D%7D",
        ),
        ("GET", "/containers/json?limit=many"),
        ("GET", "/events?since=nonsense"),
        ("GET", "/containers/ID/logs"),
        ("POST", "/containers/ID/kill?signal=NOSUCH"),
        ("POST", "/containers/ID/wait?condition=nonsense"),
        ("POST", "/containers/ID/resize?h=x&w=y"),
        ("GET", "/containers/ID/archive"),
        ("GET", "/v9.99/info"),
        ("GET", "/v1.11/info"),
        ("GET", "/containers/json?filters=%ff"),
        ("POST", "/containers/create?name=bad/name"),
        ("GET", "/system/df?type=nonsense"),
    ] {
        let path = path.replace("ID", &id);
        let answer = request(&engine, method, &path, b"{}");
        // Docker 20.10 took some of these for zero, or for its own failure.
        let refused = answer.status == 400 || kind() == Kind::Docker;
        assert!(
            refused && !answer.message().is_empty(),
            "{method} {path}: {}",
            answer.text
        );
    }
}

#[test]
fn an_id_that_begins_several_is_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    // Seventeen ids have sixteen first digits.
    let ids: Vec<String> = (0..17)
        .map(|_| engine.ok(&["create", BUSYBOX, "true"]))
        .collect();
    let digit = ids.iter().enumerate().find_map(|(at, id)| {
        let digit = id.get(..1)?;
        ids.iter()
            .skip(at + 1)
            .any(|other| other.starts_with(digit))
            .then_some(digit)
    });
    let digit = digit.expect("two begin with the same");
    for args in [
        &["start", digit][..],
        &["rm", "-f", digit],
        &["inspect", "--type", "container", digit],
    ] {
        let output = engine.run(args);
        assert_ne!(output.code(), 0);
        let said = output.stderr.to_lowercase();
        assert!(
            said.contains(&format!("multiple ids found with provided prefix: {digit}")),
            "{said}"
        );
    }
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 17);
}

#[test]
fn a_huge_body_is_not_kept() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    if kind() == Kind::Docker {
        // It reads all of it.
        return;
    }
    const LEN: usize = 100 << 20;
    const GROWTH_MAX: u64 = 64 << 20;
    let before = peak_memory(&engine);
    let piece = vec![b' '; 1 << 20];
    for chunked in [false, true] {
        let mut stream = connect(&engine);
        let length = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {LEN}"),
        };
        let head = format!(
            "POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("send the head");
        for _ in 0..LEN / piece.len() {
            let sent = match chunked {
                true => write!(stream, "{:x}\r\n", piece.len())
                    .and_then(|()| stream.write_all(&piece))
                    .and_then(|()| stream.write_all(b"\r\n")),
                false => stream.write_all(&piece),
            };
            if sent.is_err() {
                break;
            }
        }
        let answer = read(&mut stream);
        // The connection may be reset under the answer, with the body still on its way.
        assert!(matches!(answer.status, 0 | 413), "{}", answer.text);
    }
    let growth = peak_memory(&engine).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "the daemon grew by {growth} bytes");
}

#[test]
fn silent_and_cut_clients_disturb_nobody() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        BUSYBOX,
        "sh",
        "-c",
        "while :; do echo line; sleep 0.1; done",
    ]);
    // Heads that never end, and bodies that never come.
    let mut silent: Vec<UnixStream> = Vec::new();
    for at in 0..200 {
        let mut stream = connect(&engine);
        let text = match at % 3 {
            0 => "GET /info HTTP/1.1\r\nHost: x\r\n",
            1 => {
                "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"Image\":"
            }
            _ => "G",
        };
        stream.write_all(text.as_bytes()).expect("send");
        silent.push(stream);
    }
    // Streams that are left in the middle.
    for path in [
        "logs?follow=1&stdout=1",
        "stats",
        "export",
        "attach/ws?stream=1",
    ] {
        let mut stream = connect(&engine);
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let more = if path.contains("ws") { upgrade } else { "" };
        write!(
            stream,
            "GET /containers/{id}/{path} HTTP/1.1\r\nHost: x\r\n{more}\r\n"
        )
        .expect("send");
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).expect("the answer begins");
    }
    let mut half = connect(&engine);
    half.write_all(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\nhalf").expect("send");
    drop(half);
    let begun = Instant::now();
    assert_eq!(engine.inspect(&id, "{{.State.Running}}"), "true");
    assert_eq!(engine.ok(&["exec", &id, "echo", "fine"]), "fine");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "others waited {:?}",
        begun.elapsed()
    );
    drop(silent);
}

#[test]
fn ten_thousand_connections() {
    const COUNT: usize = 10_000;
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < 15_000) {
        hull_testkit::skip!("fewer than 15000 files may be open");
        return;
    }
    let mut open = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        // The queue of the socket is short: wait until the engine has taken some.
        let path = engine.root().join("e.sock");
        let connected = eventually(Duration::from_secs(10), || {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    open.push(stream);
                    true
                }
                Err(_) => false,
            }
        });
        assert!(connected, "connection {} was refused", open.len());
    }
    let answer = request(&engine, "GET", "/_ping", b"");
    assert_eq!(answer.status, 200, "{}", answer.text);
    drop(open);
    assert_eq!(request(&engine, "GET", "/_ping", b"").status, 200);
}
