//! Links, old (the default bridge) and new (a name on a network), and networks that are not there yet.

use crate::engine::{BUSYBOX, Engine};
use crate::wire::request;

#[test]
fn a_link_of_the_default_bridge() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run", "-d", "--name", "db", "--expose", "6379", "-e", "WHO=me", BUSYBOX, "sleep", "1000",
    ]);
    engine.ok(&[
        "run", "-d", "--name", "web", "--link", "db:store", BUSYBOX, "sleep", "1000",
    ]);
    assert_eq!(
        engine.inspect("web", "{{json .HostConfig.Links}}"),
        "[\"/db:/web/store\"]"
    );
    assert!(
        engine
            .ok(&["exec", "web", "env"])
            .contains("STORE_PORT_6379_TCP_PROTO=tcp")
    );
    assert!(
        engine
            .ok(&["exec", "web", "cat", "/etc/hosts"])
            .contains("store")
    );
    let names = engine.ok(&[
        "ps",
        "--no-trunc",
        "--filter",
        "name=db",
        "--format",
        "{{.Names}}",
    ]);
    assert!(names.split(',').any(|name| name == "web/store"), "{names}");
    // A new name does not break it.
    engine.ok(&["rename", "db", "base"]);
    engine.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(
        engine.inspect("web", "{{json .HostConfig.Links}}"),
        "[\"/base:/web/store\"]"
    );
    engine.ok(&["rm", "--link", "web/store"]);
    assert_eq!(engine.inspect("web", "{{json .HostConfig.Links}}"), "null");
    assert!(
        !engine
            .ok(&["exec", "web", "cat", "/etc/hosts"])
            .contains("store")
    );
    assert_eq!(engine.inspect("base", "{{.State.Running}}"), "true");
    engine.fails(
        &["rm", "--link", "web/store"],
        1,
        "No such container: web/store",
    );
    engine.fails(
        &["create", "--link", "nobody:x", BUSYBOX],
        1,
        "could not get container for nobody",
    );
    // One to a container that is gone is gone; one to a container that does not run is an error.
    engine.ok(&[
        "create", "--name", "late", "--link", "base:b", BUSYBOX, "true",
    ]);
    engine.ok(&["kill", "base"]);
    engine.fails(
        &["start", "late"],
        1,
        "Cannot link to a non running container: /base AS /late/b",
    );
    engine.ok(&["rm", "base"]);
    engine.ok(&["start", "-a", "late"]);
}

#[test]
fn a_link_on_a_network_is_a_name() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["network", "create", "--subnet", "10.217.40.0/24", "mine"]);
    // The other may come later.
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "mine",
        "--link",
        "db:store",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    assert_eq!(
        engine.inspect("web", "{{json .NetworkSettings.Networks.mine.Links}}"),
        "[\"db:store\"]"
    );
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "mine",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let address = engine.inspect("db", "{{.NetworkSettings.Networks.mine.IPAddress}}");
    assert!(
        engine
            .ok(&["exec", "web", "nslookup", "store", "127.0.0.11"])
            .contains(&address)
    );
    // Nobody else calls it so.
    let other = engine.run(&[
        "exec",
        "db",
        "nslookup",
        "-timeout=1",
        "-retry=1",
        "store",
        "127.0.0.11",
    ]);
    assert!(!other.stdout.contains(&address), "{}", other.stdout);
}

#[test]
fn what_is_not_there_yet_is_refused_at_the_start() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let create = |name: &str, mode: &str| {
        let body = format!(
            "{{\"Image\":\"{BUSYBOX}\",\"Cmd\":[\"true\"],\"HostConfig\":{{\"NetworkMode\":\"{mode}\"}}}}"
        );
        request(
            &engine,
            "POST",
            &format!("/containers/create?name={name}"),
            body.as_bytes(),
        )
    };
    assert_eq!(create("early", "later").status, 201);
    let start = request(&engine, "POST", "/containers/early/start", b"");
    assert_eq!(start.status, 404, "{}", start.text);
    assert!(
        start.message().contains("network later not found"),
        "{}",
        start.message()
    );
    engine.ok(&["network", "create", "--subnet", "10.217.41.0/24", "later"]);
    engine.ok(&["start", "-a", "early"]);
    assert_eq!(create("joins", "container:other").status, 201);
    let start = request(&engine, "POST", "/containers/joins/start", b"");
    assert!(
        start.message().contains("No such container: other"),
        "{}",
        start.message()
    );
    engine.ok(&["run", "-d", "--name", "other", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["start", "-a", "joins"]);
    engine.fails(
        &["run", "--network", "nowhere", BUSYBOX],
        125,
        "network nowhere not found",
    );
}

#[test]
fn a_network_takes_its_settings_from_another() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "network",
        "create",
        "--config-only",
        "--subnet",
        "10.217.43.0/24",
        "--label",
        "a=b",
        "settings",
    ]);
    assert_eq!(
        engine.inspect("settings", "{{.ConfigOnly}} {{.Driver}}"),
        "true null"
    );
    engine.fails(
        &["network", "create", "--config-from", "nothing", "x"],
        1,
        "configuration network \"nothing\" does not exist",
    );
    engine.fails(
        &[
            "network",
            "create",
            "--config-from",
            "settings",
            "--subnet",
            "10.217.44.0/24",
            "x",
        ],
        1,
        "configurations are not supported if the network depends on a configuration network",
    );
    engine.ok(&["network", "create", "--config-from", "settings", "real"]);
    assert_eq!(
        engine.inspect(
            "real",
            "{{.ConfigFrom.Network}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}"
        ),
        "settings 10.217.43.0/24 b"
    );
    assert!(
        engine
            .ok(&["run", "--rm", "--network", "real", BUSYBOX, "ip", "address"])
            .contains("10.217.43.")
    );
    engine.fails(
        &["network", "rm", "settings"],
        1,
        "configuration network \"settings\" is in use",
    );
    engine.fails(
        &["run", "--network", "settings", BUSYBOX],
        125,
        "cannot create endpoint on configuration-only network",
    );
    engine.ok(&["network", "rm", "real"]);
    engine.ok(&["network", "rm", "settings"]);
}
