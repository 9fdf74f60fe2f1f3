//! SIGHUP and the daemon's own log: what is read again, what a bad file does, and lines as JSON.

use crate::engine::Engine;

const LABELS: &str = "{{.Labels}} {{.Debug}} {{.DefaultRuntime}} {{.RegistryConfig.Mirrors}}";

#[test]
fn sighup_reads_the_file_again() {
    let Some(mut engine) = Engine::prepare(&[]) else {
        return;
    };
    let file = engine.root().file("daemon.json", r#"{"labels": ["a=1"]}"#);
    engine.push_args(&["--config-file", &file.display().to_string()]);
    engine.start_daemon();
    let info = || engine.ok(&["info", "--format", LABELS]);
    let write = |text: &str| std::fs::write(&file, text).expect("write the file");
    assert_eq!(info(), "[a=1] false runc []");

    write(
        r#"{"labels": ["b=2", "c=3"], "debug": true, "default-runtime": "other", "max-concurrent-downloads": 7,
            "runtimes": {"other": {"path": "/bin/true"}}, "registry-mirrors": ["https://mirror.example/"],
            "shutdown-timeout": 9, "live-restore": true, "features": {"x": true}, "insecure-registries": ["r.example"]}"#,
    );
    engine.reload_daemon("Reloaded configuration: ");
    let changed = "[b=2 c=3] true other [https://mirror.example/]";
    assert_eq!(info(), changed);
    let events = || -> Vec<serde_json::Value> {
        // The second that is running counts too: the client sends whole ones.
        let until = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a time after 1970")
            .as_secs()
            + 1;
        let until = until.to_string();
        let told = engine.ok(&[
            "events",
            "--since",
            "1",
            "--until",
            &until,
            "--filter",
            "event=reload",
            "--format",
            "json",
        ]);
        let event = |line| serde_json::from_str(line).expect("an event");
        told.lines().map(event).collect()
    };
    let told = events();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["Type"], "daemon");
    for (name, value) in [
        ("debug", "true"),
        ("default-runtime", "other"),
        ("features", "map[x:true]"),
        ("insecure-registries", r#"["r.example"]"#),
        ("labels", r#"["b=2","c=3"]"#),
        ("live-restore", "true"),
        ("max-concurrent-downloads", "7"),
        ("max-concurrent-uploads", "5"),
        ("registry-mirrors", r#"["https://mirror.example/"]"#),
        ("runtimes", "other:/bin/true"),
        ("shutdown-timeout", "9"),
    ] {
        assert_eq!(told[0]["Actor"]["Attributes"][name], value, "{name}");
    }

    for (text, said) in [
        ("{", "unable to configure the Docker daemon with file "),
        (
            r#"{"labels": ["z=1"], "no-such-key": 1}"#,
            "the following directives don't match any configuration option: no-such-key",
        ),
        (
            r#"{"labels": ["z=1"], "default-runtime": "missing"}"#,
            "file configuration validation failed: specified default runtime 'missing' does not exist",
        ),
        (
            r#"{"labels": ["z=1"], "registry-mirrors": ["no address"]}"#,
            "Error reconfiguring the daemon: invalid mirror: ",
        ),
    ] {
        write(text);
        engine.reload_daemon(said);
        assert_eq!(info(), changed, "after {text}");
    }
    assert_eq!(events().len(), 1, "a refused file is no reload");
    write("{}");
}

#[test]
fn the_log_as_json() {
    let Some(engine) = Engine::start_empty(&["--log-format", "json"]) else {
        return;
    };
    let log = engine.daemon_log();
    assert!(log.lines().count() > 0, "it says something");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            ["level", "msg", "time"]
                .iter()
                .all(|key| line[key].is_string()),
            "{line}"
        );
    }
    assert!(
        log.contains(r#""level":"info""#) && log.contains(r#""msg":"daemon is ready""#),
        "{log}"
    );
}
