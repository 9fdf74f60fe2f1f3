//! docker-compose 1.29, of Debian: a project of two services comes up, finds itself by name, grows, and goes without a trace.

use std::process::Command;
use std::time::Duration;

use hull_testkit::process::{self, Output};
use hull_testkit::skips;

use crate::engine::Engine;

const PROJECT: &str = r#"
version: "2.4"
services:
  web:
    image: busybox
    command: sh -c "mkdir -p /www; echo found > /www/index.html; exec httpd -f -p 80 -h /www"
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1/"], interval: 1s, retries: 20}
    networks: [front]
    volumes: ["data:/data"]
  client:
    image: busybox
    command: sh -c "wget -q -O - http://web/; exec sleep 1000"
    depends_on: {web: {condition: service_healthy}}
    networks: [front]
    links: ["web:store"]
    volumes: ["data:/data:ro"]
networks:
  front: {ipam: {config: [{subnet: 10.217.42.0/24}]}}
volumes:
  data: {}
"#;

#[test]
fn a_project_from_up_to_down() {
    if skips::program("docker-compose").is_none() {
        hull_testkit::skip!("docker-compose is not installed");
        return;
    }
    let Some(engine) = Engine::start() else {
        return;
    };
    let file = engine.root().file("compose.yml", PROJECT);
    let compose = |args: &[&str]| -> Output {
        let mut command = Command::new("docker-compose");
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", engine.root().join("e.sock").display()),
            )
            // It asks for 1.38 of its own accord, which Docker 29 does not speak either.
            .env("COMPOSE_API_VERSION", "1.40")
            .args(["-p", "smoke", "-f"])
            .arg(&file)
            .args(args);
        let output =
            process::run(&mut command, Duration::from_secs(90)).expect("run docker-compose");
        assert!(
            output.status.success(),
            "{args:?}: {}{}",
            output.stdout,
            output.stderr
        );
        output
    };
    compose(&["up", "-d"]);
    assert_eq!(
        engine.inspect("smoke_web_1", "{{.State.Health.Status}}"),
        "healthy"
    );
    let logs = process::eventually(Duration::from_secs(10), || {
        compose(&["logs", "--no-color", "client"])
            .stdout
            .contains("found")
    });
    assert!(logs, "the client did not reach the server by its name");
    compose(&["exec", "-T", "web", "sh", "-c", "echo kept > /data/file"]);
    assert_eq!(
        compose(&["exec", "-T", "client", "cat", "/data/file"])
            .stdout
            .trim(),
        "kept"
    );
    assert_eq!(
        compose(&[
            "exec",
            "-T",
            "client",
            "wget",
            "-q",
            "-O",
            "-",
            "http://store/"
        ])
        .stdout
        .trim(),
        "found"
    );
    compose(&["up", "-d", "--scale", "web=3"]);
    let names = compose(&["exec", "-T", "client", "nslookup", "web", "127.0.0.11"]).stdout;
    assert_eq!(names.matches("10.217.42.").count(), 3, "{names}");
    compose(&["restart", "-t", "1", "client"]);
    assert_eq!(compose(&["ps", "-q"]).stdout.lines().count(), 4);
    compose(&["down", "-v", "-t", "1"]);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(
        engine.ok(&["network", "ls", "-q", "--filter", "type=custom"]),
        ""
    );
}
