//! Log drivers that hand the log to a server: each against a server that reads the wire with code of its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hull_api::container::ContainerCreateRequest;

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(syslog_over_udp_tcp_and_unix),
    case!(syslog_is_understood_by_rsyslog),
    case!(gelf_in_chunks_and_over_tcp),
    case!(fluentd_with_acknowledgement_and_in_the_background),
    case!(journald_takes_small_and_large_entries),
    case!(a_slow_server_slows_the_container_unless_told_otherwise),
    case!(the_log_process_is_started_again_and_the_daemon_may_come_back),
];

const PATIENCE: Duration = Duration::from_secs(15);

fn logged(script: &str, driver: &str, options: &[(&str, &str)]) -> ContainerCreateRequest {
    let mut request = Fixture::sh(script);
    request.host_config.network_mode = "none".to_owned();
    request.host_config.log_config.kind = driver.to_owned();
    for (key, value) in options {
        let config = &mut request.host_config.log_config.config;
        config.insert((*key).to_owned(), (*value).to_owned());
    }
    request
}

/// What a thread reads, datagram by datagram.
fn datagrams(
    mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize> + Send + 'static,
) -> Receiver<Vec<u8>> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count) = receive(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    received
}

/// The first connection's bytes, cut at `end`.
fn stream(listener: TcpListener, end: u8) -> Receiver<Vec<u8>> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let Ok((connection, _)) = listener.accept() else {
            return;
        };
        let mut message = Vec::new();
        for byte in std::io::BufReader::new(connection).bytes() {
            match byte {
                Ok(byte) if byte == end => {
                    let _ = sender.send(std::mem::take(&mut message));
                }
                Ok(byte) => message.push(byte),
                Err(_) => return,
            }
        }
    });
    received
}

fn next(received: &Receiver<Vec<u8>>) -> Vec<u8> {
    received.recv_timeout(PATIENCE).expect("a message")
}

async fn syslog_over_udp_tcp_and_unix() {
    let fixture = Fixture::new().await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", udp.local_addr().unwrap());
    let received = datagrams(move |buffer| udp.recv(buffer));
    let options = [
        ("syslog-address", address.as_str()),
        ("syslog-facility", "local3"),
        ("syslog-format", "rfc5424micro"),
        ("tag", "{{.Name}}/{{.ID}}"),
    ];
    let request = logged("echo out; sleep 0.2; echo err >&2", "syslog", &options);
    let (code, log) = fixture.output("udp", request).await;
    assert_eq!(
        (code, log.as_str()),
        (0, "out\nerr\n"),
        "docker logs reads the copy"
    );
    for (priority, text) in [(19 << 3 | 6, "out"), (19 << 3 | 3, "err")] {
        let message = String::from_utf8(next(&received)).unwrap();
        let words: Vec<&str> = message.splitn(8, ' ').collect();
        assert_eq!(words[0], format!("<{priority}>1"), "{message}");
        let time: jiff::Timestamp = words[1].parse().expect("a time");
        assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 60);
        assert!(
            words[3].starts_with("udp/") && words[3] == words[5],
            "{message}"
        );
        assert_eq!(words[7], format!("{text}\n").as_str());
    }
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let received = stream(tcp, b'\n');
    let options = [
        ("syslog-address", address.as_str()),
        ("cache-disabled", "true"),
    ];
    let id = fixture
        .run("tcp", logged("echo over tcp", "syslog", &options))
        .await;
    let message = String::from_utf8(next(&received)).unwrap();
    assert!(message.starts_with("<30>"), "{message}");
    assert!(
        message.ends_with(": over tcp") && message.contains(&id[..12]),
        "{message}"
    );
    let refused = fixture
        .engine
        .containers
        .logs(&id, Default::default())
        .await;
    assert!(refused.is_err(), "cache-disabled leaves nothing to read");
    fixture.remove(&id).await;

    let path = fixture.root.join("log.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let received = datagrams(move |buffer| socket.recv(buffer));
    let address = format!("unixgram://{}", path.display());
    let options = [
        ("syslog-address", address.as_str()),
        ("syslog-format", "rfc3164"),
    ];
    fixture
        .output("unix", logged("printf 'no end'", "syslog", &options))
        .await;
    let message = String::from_utf8(next(&received)).unwrap();
    assert!(message.ends_with("]: no end\n"), "{message}");

    let request = logged("true", "syslog", &[("syslog-address", "tcp://127.0.0.1:1")]);
    let id = fixture.create("refused", request).await;
    let error = fixture
        .engine
        .containers
        .start(&id)
        .await
        .unwrap_err()
        .message;
    assert!(
        error.contains(
            "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused"
        ),
        "{error}"
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

/// A process that ends with the test, whichever way that goes.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn syslog_is_understood_by_rsyslog() {
    let Some(program) = hull_testkit::skips::program("rsyslogd") else {
        hull_testkit::skip!("rsyslogd is not installed");
        return;
    };
    let fixture = Fixture::new().await;
    let port = hull_testkit::net::free_port();
    let (config, out) = (fixture.root.join("rsyslog.conf"), fixture.root.join("out"));
    let text = format!(
        "module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         template(name=\"t\" type=\"string\" string=\"%syslogfacility-text%.%syslogseverity-text% %app-name%:%msg%\\n\")\n\
         action(type=\"omfile\" file=\"{}\" template=\"t\")\n",
        out.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = std::process::Command::new(program)
        .arg("-n")
        .arg("-f")
        .arg(&config)
        .arg("-i")
        .arg(fixture.root.join("rsyslog.pid"))
        .spawn()
        .unwrap();
    let server = Ended(server);
    assert!(hull_testkit::net::wait_for_port(port, PATIENCE));
    let address = format!("tcp://127.0.0.1:{port}");
    for format in ["rfc3164", "rfc5424"] {
        let options = [
            ("syslog-address", address.as_str()),
            ("syslog-format", format),
            ("tag", format),
        ];
        fixture
            .output(format, logged("echo hello rsyslog", "syslog", &options))
            .await;
    }
    let read = || std::fs::read_to_string(&out).unwrap_or_default();
    let came = hull_testkit::process::eventually(PATIENCE, || read().lines().count() == 2);
    drop(server);
    assert!(came, "{}", read());
    for line in read().lines() {
        let (head, message) = line.split_once(':').unwrap();
        assert!(
            ["daemon.info rfc3164", "daemon.info rfc5424"].contains(&head),
            "{line}"
        );
        assert_eq!(message.trim(), "hello rsyslog");
    }
    fixture.finish().await;
}

async fn gelf_in_chunks_and_over_tcp() {
    let fixture = Fixture::new().await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", udp.local_addr().unwrap());
    let received = datagrams(move |buffer| udp.recv(buffer));
    let options = [
        ("gelf-address", address.as_str()),
        ("gelf-compression-type", "none"),
        ("labels", "com.x"),
        ("env-regex", "^MY"),
    ];
    let mut request = logged(
        "head -c 3000 /dev/zero | tr '\\0' x; echo",
        "gelf",
        &options,
    );
    request
        .config
        .labels
        .insert("com.x".to_owned(), "v".to_owned());
    request.config.env = vec!["MY_VAR=1".to_owned()];
    fixture.output("gelf", request).await;
    let mut chunks = BTreeMap::new();
    loop {
        let datagram = next(&received);
        assert!(datagram.len() <= 1420 && datagram.starts_with(&[0x1e, 0x0f]));
        chunks.insert(datagram[10], datagram[12..].to_vec());
        if chunks.len() == usize::from(datagram[11]) {
            break;
        }
    }
    let text: Vec<u8> = chunks.into_values().flatten().collect();
    let message: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(message["version"], "1.1");
    assert_eq!(message["short_message"], "x".repeat(3000));
    assert_eq!(message["level"], 6);
    assert_eq!(message["_com.x"], "v");
    assert_eq!(message["_MY_VAR"], "1");
    assert_eq!(message["_container_name"], "gelf");
    assert!(
        message["_image_id"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert!(
        message["_command"]
            .as_str()
            .unwrap()
            .starts_with("sh -c head")
    );

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let received = stream(tcp, 0);
    let options = [("gelf-address", address.as_str())];
    fixture
        .output("tcp", logged("echo oops >&2", "gelf", &options))
        .await;
    let message: serde_json::Value = serde_json::from_slice(&next(&received)).unwrap();
    assert_eq!(
        (message["level"].as_i64(), message["short_message"].as_str()),
        (Some(3), Some("oops"))
    );
    fixture.finish().await;
}

/// As much of msgpack as a forward message has.
#[derive(Debug, Clone, PartialEq)]
enum Pack {
    Number(u64),
    Text(String),
    List(Vec<Pack>),
    Map(Vec<(String, Pack)>),
    Time(u32, u32),
}

fn unpack(input: &mut impl Read) -> std::io::Result<Pack> {
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        input.read_exact(&mut bytes).map(|()| bytes)
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let head = take(1)?[0];
    let text = |bytes| Pack::Text(String::from_utf8(bytes).unwrap());
    Ok(match head {
        0x00..=0x7f => Pack::Number(head.into()),
        0xa0..=0xbf => text(take(usize::from(head & 31))?),
        0xd9..=0xdb => {
            let length = number(take(1 << (head - 0xd9))?) as usize;
            text(take(length)?)
        }
        0xcc..=0xcf => Pack::Number(number(take(1 << (head - 0xcc))?)),
        0xd7 => {
            let bytes = take(9)?;
            assert_eq!(bytes[0], 0, "EventTime is extension type 0");
            Pack::Time(
                number(bytes[1..5].to_vec()) as u32,
                number(bytes[5..].to_vec()) as u32,
            )
        }
        0x90..=0x9f => {
            let list: std::io::Result<_> = (0..head & 15).map(|_| unpack(input)).collect();
            Pack::List(list?)
        }
        0x80..=0x8f | 0xde => {
            let count = match head {
                0xde => number(take(2)?),
                _ => u64::from(head & 15),
            };
            let mut map = Vec::new();
            for _ in 0..count {
                let Pack::Text(key) = unpack(input)? else {
                    panic!("a key is text")
                };
                map.push((key, unpack(input)?));
            }
            Pack::Map(map)
        }
        other => panic!("msgpack {other:#x}"),
    })
}

fn member(map: &Pack, name: &str) -> Option<String> {
    let Pack::Map(map) = map else {
        panic!("{map:?} is not a map")
    };
    map.iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| match value {
            Pack::Text(text) => text.clone(),
            other => format!("{other:?}"),
        })
}

/// A forward server: acknowledges, and gives what it read.
fn forward_server(listener: TcpListener) -> Receiver<Pack> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().take(2) {
            let Ok(mut connection) = connection else {
                return;
            };
            while let Ok(message) = unpack(&mut connection) {
                let Pack::List(parts) = &message else {
                    panic!("{message:?}")
                };
                if let Some(chunk) = member(&parts[3], "chunk") {
                    let mut answer = b"\x81\xa3ack\xd9".to_vec();
                    answer.push(chunk.len() as u8);
                    answer.extend_from_slice(chunk.as_bytes());
                    connection.write_all(&answer).unwrap();
                }
                let _ = sender.send(message);
            }
        }
    });
    received
}

async fn fluentd_with_acknowledgement_and_in_the_background() {
    let fixture = Fixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let received = forward_server(listener);
    let options = [
        ("fluentd-address", address.as_str()),
        ("fluentd-request-ack", "true"),
        ("fluentd-sub-second-precision", "true"),
        ("tag", "docker.{{.Name}}"),
        ("env", "A"),
    ];
    let script = "echo short; head -c 20000 /dev/zero | tr '\\0' y; echo";
    let mut request = logged(script, "fluentd", &options);
    request.config.env = vec!["A=b".to_owned()];
    fixture.output("ack", request).await;
    let mut parts = Vec::new();
    for _ in 0..3 {
        let Pack::List(message) = received.recv_timeout(PATIENCE).expect("a message") else {
            panic!("a message is a list")
        };
        assert_eq!(message[0], Pack::Text("docker.ack".to_owned()));
        assert!(matches!(message[1], Pack::Time(seconds, _) if seconds > 1_700_000_000));
        parts.push(message[2].clone());
    }
    let shows = |part: &Pack, name: &str| member(part, name).unwrap_or_default();
    assert_eq!(shows(&parts[0], "log"), "short");
    assert_eq!(shows(&parts[0], "source"), "stdout");
    assert_eq!(shows(&parts[0], "container_name"), "/ack");
    assert_eq!(shows(&parts[0], "A"), "b");
    assert_eq!(member(&parts[0], "partial_message"), None);
    for (part, (ordinal, last, length)) in parts[1..]
        .iter()
        .zip([("1", "false", 16384), ("2", "true", 3616)])
    {
        assert_eq!(shows(part, "partial_message"), "true");
        assert_eq!(shows(part, "partial_ordinal"), ordinal);
        assert_eq!(shows(part, "partial_last"), last);
        assert_eq!(shows(part, "log").len(), length);
    }
    assert_eq!(
        shows(&parts[1], "partial_id"),
        shows(&parts[2], "partial_id")
    );

    // In the background: the container starts though nobody listens, and the server that comes later gets all of it.
    let port = hull_testkit::net::free_port();
    let address = format!("127.0.0.1:{port}");
    let options = [
        ("fluentd-address", address.as_str()),
        ("fluentd-async", "true"),
        ("fluentd-retry-wait", "50ms"),
    ];
    let id = fixture
        .run(
            "later",
            logged("echo early; sleep 100", "fluentd", &options),
        )
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let received = forward_server(TcpListener::bind(&address).unwrap());
    let Pack::List(message) = received.recv_timeout(PATIENCE).expect("a message") else {
        panic!("a message is a list")
    };
    assert!(matches!(message[1], Pack::Number(_)), "seconds");
    assert_eq!(shows(&message[2], "log"), "early");
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn journald_takes_small_and_large_entries() {
    let fixture = Fixture::with(|options, root| options.journal = root.join("journal")).await;
    let id = fixture
        .create("nobody", logged("true", "journald", &[]))
        .await;
    let error = fixture
        .engine
        .containers
        .start(&id)
        .await
        .unwrap_err()
        .message;
    assert!(
        error.contains("journald is not enabled on this host"),
        "{error}"
    );
    fixture.remove(&id).await;

    let socket = UnixDatagram::bind(fixture.root.join("journal")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = logged(
        "echo 'a b'; sleep 0.3; echo big >&2",
        "journald",
        &[("labels", "my.label"), ("tag", "t")],
    );
    // A label larger than any datagram.
    request
        .config
        .labels
        .insert("my.label".to_owned(), "L".repeat(400 << 10));
    let id = fixture.run("journal", request).await;
    for (text, priority) in [("a b", "6"), ("big", "3")] {
        let mut buffer = vec![0; 1 << 16];
        let (count, files) = hull_sys::fdpass::recv(socket.as_fd(), &mut buffer).unwrap();
        assert_eq!(count, 0, "a large entry comes as a file");
        let mut entry = Vec::new();
        std::fs::File::from(files.into_iter().next().expect("a file"))
            .read_to_end(&mut entry)
            .unwrap();
        let fields: BTreeMap<&str, &str> = std::str::from_utf8(&entry)
            .unwrap()
            .lines()
            .map(|line| line.split_once('=').expect("a field"))
            .collect();
        assert_eq!(fields["MESSAGE"], text);
        assert_eq!(fields["PRIORITY"], priority);
        assert_eq!(fields["CONTAINER_ID_FULL"], id);
        assert_eq!(fields["CONTAINER_NAME"], "journal");
        assert_eq!(fields["SYSLOG_IDENTIFIER"], "t");
        assert_eq!(fields["MY_LABEL"].len(), 400 << 10);
    }
    fixture.remove(&id).await;
    let id = fixture
        .run("small", logged("echo small", "journald", &[]))
        .await;
    let mut buffer = vec![0; 1 << 16];
    let count = socket.recv(&mut buffer).unwrap();
    let entry = String::from_utf8(buffer[..count].to_vec()).unwrap();
    assert!(entry.contains("\nMESSAGE=small\n"), "{entry}");
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn a_slow_server_slows_the_container_unless_told_otherwise() {
    let fixture = Fixture::new().await;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let options = [
        ("gelf-address", address.as_str()),
        ("gelf-tcp-max-reconnect", "0"),
        ("cache-disabled", "true"),
    ];
    // More than every buffer between the process and the server that does not read.
    let script = "head -c 24000000 /dev/zero | tr '\\0' 'z' | fold -w 1000; echo done > /tmp/done; sleep 100";
    let slow = fixture.run("slow", logged(script, "gelf", &options)).await;
    let options = [
        ("gelf-address", address.as_str()),
        ("gelf-tcp-max-reconnect", "0"),
        ("cache-disabled", "true"),
        ("mode", "non-blocking"),
        ("max-buffer-size", "64k"),
    ];
    let free = fixture.run("free", logged(script, "gelf", &options)).await;
    let mut waited = Duration::ZERO;
    while !is_done(&fixture, &free).await {
        assert!(
            waited < PATIENCE,
            "a non-blocking log stopped its container"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += Duration::from_millis(100);
    }
    assert!(
        !is_done(&fixture, &slow).await,
        "a blocking log lets its container run ahead"
    );
    drop(tcp);
    for id in [&slow, &free] {
        fixture.remove(id).await;
    }
    fixture.finish().await;
}

async fn is_done(fixture: &Fixture, id: &str) -> bool {
    let stat = fixture.engine.containers.archive_stat(id, "/tmp/done");
    stat.await.is_ok()
}

async fn the_log_process_is_started_again_and_the_daemon_may_come_back() {
    let fixture = Fixture::new().await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", udp.local_addr().unwrap());
    let received = datagrams(move |buffer| udp.recv(buffer));
    let options = [("syslog-address", address.as_str())];
    let script = "i=0; while sleep 0.1; do i=$((i+1)); echo n$i; done";
    let id = fixture
        .run("again", logged(script, "syslog", &options))
        .await;
    next(&received);
    let log_process = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            line == b"hull-shim\0shim\0log\0" && folder.ends_with(&id)
        })
        .expect("the log process");
    let before = std::process::Command::new("kill")
        .arg("-9")
        .arg(log_process.to_string())
        .status();
    assert!(before.unwrap().success());
    while received.try_recv().is_ok() {}
    next(&received);
    let fixture = fixture.reopen().await;
    while received.try_recv().is_ok() {}
    next(&received);
    let log = fixture.log(&id).await;
    let numbers: Vec<usize> = log.lines().map(|line| line[1..].parse().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len()).collect::<Vec<_>>(),
        "the copy has no gap"
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}
