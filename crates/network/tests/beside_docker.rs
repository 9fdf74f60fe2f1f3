//! Beside a real dockerd in the same network namespace: neither's firewall stops the other's containers.

mod support;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hull_network::Protocol;
use support::*;

/// dockerd needs some seconds, on a busy machine many.
const START_TIMEOUT: Duration = Duration::from_secs(60);

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // SIGTERM, so that it takes its containerd along.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A dockerd with every path of its own, once it answers.
fn dockerd(dir: &std::path::Path) -> Option<Daemon> {
    let at = |name: &str| dir.join(name).display().to_string();
    let child = Command::new("dockerd")
        .args([
            "--data-root",
            &at("docker"),
            "--exec-root",
            &at("docker-exec"),
            "--pidfile",
            &at("docker.pid"),
        ])
        .args([
            "-H",
            &format!("unix://{}", at("docker.sock")),
            "--bip",
            "10.204.200.1/24",
        ])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("docker.log")).expect("log"))
        .spawn()
        .ok()?;
    let mut daemon = Daemon(child);
    let start = Instant::now();
    while start.elapsed() < START_TIMEOUT {
        // Its last step before it answers: the firewall.
        if run("iptables", &["-S", "FORWARD"]).contains("DOCKER")
            && answers(&dir.join("docker.sock"))
        {
            return Some(daemon);
        }
        if daemon.0.try_wait().expect("wait").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!(
        "{}",
        std::fs::read_to_string(dir.join("docker.log")).unwrap_or_default()
    );
    None
}

fn answers(socket: &std::path::Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.contains("200 OK"))
}

#[test]
fn a_real_dockerd_does_not_stop_us() {
    machine(|dir| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("sysctl");
        let Some(daemon) = dockerd(dir) else {
            hull_testkit::skip!("no dockerd that starts here");
            return;
        };
        // It switches forwarding on, and closes FORWARD because it did.
        assert!(run("iptables", &["-S", "FORWARD"]).contains("-P FORWARD DROP"));
        let host = open(dir);
        let net = network(1);
        host.ensure_network(&net).expect("network");
        host.sync_firewall(std::slice::from_ref(&net), &[])
            .expect("firewall");
        let outside = neighbour(&host, "outside");
        let mut web = endpoint(&net, "web", 2);
        web.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let path = start(&host, &net, &mut web);
        let server = echo_peer(&path, 80, 2);
        assert_eq!(
            ask_from(&outside, "192.0.2.1:8080").as_deref(),
            Some("192.0.2.2")
        );
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("10.204.1.1"));
        let world = echo_peer(&outside, 7000, 1);
        assert_eq!(
            ask_from(&path, "192.0.2.2:7000").as_deref(),
            Some("192.0.2.1"),
            "masqueraded"
        );
        server.join().expect("server");
        world.join().expect("world");
        stop(&host, &net, &web);
        drop(daemon);
    });
}
