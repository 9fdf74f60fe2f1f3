//! Volumes of plugins: a server that really mounts, and what the engine does when it misbehaves.

use std::time::Duration;

use hull_api::container::ContainerCreateRequest;
use hull_api::filters::Filters;
use hull_api::volume::VolumeCreateRequest;
use hull_engine::{Kind, PluginOptions};
use hull_testkit::plugin::{Manner, VolumePlugin};

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(a_volume_of_a_plugin),
    case!(a_plugin_that_misbehaves),
    case!(a_plugin_that_is_not_there),
    case!(mounts_of_what_ended_meanwhile_are_undone),
];

async fn with_plugin() -> (VolumePlugin, Fixture) {
    let fixture = Fixture::with(|options, root| {
        options.plugins = PluginOptions {
            directories: hull_plugin::Directories::at(&root.join("plugins")),
            patience: Duration::from_millis(1500),
            call_max: Duration::from_millis(1500),
        };
    })
    .await;
    let plugin = VolumePlugin::start("kplug", &fixture.root.join("plugins"), fixture.root.path());
    (plugin, fixture)
}

fn wanted(name: &str, driver: &str) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: name.to_owned(),
        driver: driver.to_owned(),
        ..Default::default()
    }
}

fn on(volume: &str, script: &str) -> ContainerCreateRequest {
    let mut request = Fixture::sh(script);
    request.host_config.binds = vec![format!("{volume}:/data")];
    request
}

async fn names(fixture: &Fixture) -> Vec<String> {
    let listed = fixture.engine.volumes.list(Filters::default()).await;
    let volumes = listed.expect("list").volumes;
    volumes.into_iter().map(|volume| volume.name).collect()
}

async fn a_volume_of_a_plugin() {
    let (plugin, fixture) = with_plugin().await;
    let volumes = &fixture.engine.volumes;
    let mut request = wanted("kv", "kplug");
    request.driver_opts.insert("size".into(), "1".into());
    request.labels.insert("a".into(), "b".into());
    let made = volumes.create(request).await.expect("create");
    assert_eq!(
        (made.driver.as_str(), made.scope.as_str()),
        ("kplug", "global")
    );
    assert_eq!(plugin.options("kv"), serde_json::json!({"size": "1"}));
    let (code, _) = fixture
        .output("one", on("kv", "echo written > /data/file"))
        .await;
    assert_eq!(code, 0);
    let data = plugin.data("kv").join("file");
    assert_eq!(std::fs::read_to_string(data).expect("read"), "written\n");
    assert_eq!(plugin.calls(), ["Create kv", "Mount kv", "Unmount kv"]);
    let shown = volumes.inspect("kv").await.expect("inspect");
    assert_eq!(shown.labels["a"], "b");
    assert_eq!(shown.options["size"], "1");
    assert_eq!(shown.status["mounts"], 0);

    // One that the plugin made by itself is listed, and used by its name alone.
    plugin.make("own");
    assert_eq!(names(&fixture).await, ["kv", "own"]);
    let id = fixture
        .run("two", on("own", "echo own > /data/file; sleep 1000"))
        .await;
    assert_eq!(plugin.mounts("own").len(), 1);
    let error = volumes
        .remove("own", false)
        .await
        .expect_err("it is in use");
    assert_eq!(error.kind, Kind::Conflict);
    let error = volumes
        .create(wanted("own", "local"))
        .await
        .expect_err("it is taken");
    assert_eq!(
        error.message,
        "create own: driver 'kplug' already has volume 'own': volume name must be unique"
    );
    let mounts = fixture
        .engine
        .containers
        .inspect(&id, false)
        .await
        .expect("inspect")
        .mounts;
    assert_eq!(
        (mounts[0].driver.as_str(), mounts[0].name.as_str()),
        ("kplug", "own")
    );
    fixture.remove(&id).await;
    assert!(plugin.mounts("own").is_empty());

    // Nothing of a plugin's is pruned; a volume without a name goes with its container.
    let mut all = Filters::default();
    all.add("all", "true");
    assert!(
        volumes
            .prune(all)
            .await
            .expect("prune")
            .volumes_deleted
            .is_empty()
    );
    let mut anonymous = Fixture::sh("true");
    anonymous.config.volumes = ["/data".to_owned()].into();
    anonymous.host_config.volume_driver = "kplug".to_owned();
    fixture.output("three", anonymous).await;
    assert_eq!(plugin.volumes(), ["kv", "own"]);
    volumes.remove("kv", false).await.expect("remove");
    // Gone behind the engine's back, and made there.
    plugin.make("late");
    volumes.remove("late", false).await.expect("remove");
    volumes.remove("own", false).await.expect("remove");
    assert!(plugin.volumes().is_empty());
    assert!(names(&fixture).await.is_empty());
    let info = fixture.engine.system.info().await.expect("info");
    assert_eq!(info.plugins.volume, ["kplug", "local"]);
    drop(plugin);
    fixture.finish().await;
}

async fn a_plugin_that_misbehaves() {
    let (plugin, fixture) = with_plugin().await;
    let volumes = &fixture.engine.volumes;
    let cases = [
        (Manner::Refuses("no space".into()), "create bad: no space"),
        (Manner::Rubbish, "the plugin's answer makes no sense"),
        (Manner::Huge, "it is longer than"),
        (Manner::HangsUp, "connection"),
        (Manner::Silent, "context deadline exceeded"),
    ];
    for (manner, said) in cases.clone() {
        plugin.behave(manner.clone(), "Create");
        let error = volumes
            .create(wanted("bad", "kplug"))
            .await
            .expect_err("create");
        assert!(
            error.message.contains(said),
            "{manner:?}: {}",
            error.message
        );
        assert_eq!(names(&fixture).await, [""; 0], "{manner:?}");
    }
    plugin.behave(Manner::Good, "");
    volumes.create(wanted("kv", "kplug")).await.expect("create");
    let id = fixture.create("one", on("kv", "sleep 1000")).await;
    for (manner, said) in cases {
        plugin.behave(manner.clone(), "Mount");
        let error = fixture
            .engine
            .containers
            .start(&id)
            .await
            .expect_err("start");
        assert!(
            error.message.contains("error while mounting volume"),
            "{}",
            error.message
        );
        let said = said.trim_start_matches("create bad: ");
        assert!(
            error.message.contains(said),
            "{manner:?}: {}",
            error.message
        );
        assert!(plugin.mounts("kv").is_empty(), "{manner:?}");
        let state = fixture
            .engine
            .containers
            .inspect(&id, false)
            .await
            .expect("inspect")
            .state;
        assert!(!state.running, "{manner:?}");
    }
    plugin.behave(Manner::Silent, "List");
    plugin.calls();
    let listed = volumes.list(Filters::default()).await.expect("list");
    assert_eq!(listed.volumes.len(), 1);
    assert!(
        listed.warnings[0].starts_with("list kplug: "),
        "{:?}",
        listed.warnings
    );
    // It comes to its senses, and dies between mount and unmount.
    plugin.behave(Manner::Good, "");
    fixture.engine.containers.start(&id).await.expect("start");
    assert_eq!(plugin.mounts("kv").len(), 1);
    plugin.die();
    fixture
        .engine
        .containers
        .kill(&id, None)
        .await
        .expect("kill");
    let error = fixture
        .engine
        .containers
        .start(&id)
        .await
        .expect_err("start");
    assert!(error.message.contains("connect"), "{}", error.message);
    assert_eq!(plugin.mounts("kv").len(), 1, "nobody could undo it");
    std::fs::remove_file(fixture.root.join("plugins/kplug.sock")).expect("remove the socket");
    plugin.listen();
    fixture.engine.containers.start(&id).await.expect("start");
    assert_eq!(plugin.mounts("kv").len(), 1, "the same reference");
    fixture.remove(&id).await;
    assert!(plugin.mounts("kv").is_empty());
    volumes.remove("kv", false).await.expect("remove");
    drop(plugin);
    fixture.finish().await;
}

async fn a_plugin_that_is_not_there() {
    let (plugin, fixture) = with_plugin().await;
    let volumes = &fixture.engine.volumes;
    let error = volumes
        .create(wanted("kv", "nosuch"))
        .await
        .expect_err("create");
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(
        error.message,
        "create kv: error looking up volume plugin nosuch: plugin \"nosuch\" not found"
    );
    let mut request = on("kv", "true");
    request.host_config.volume_driver = "../kplug".to_owned();
    let refused = fixture.engine.containers.create(None, None, request).await;
    let error = refused.expect_err("create");
    assert!(
        error.message.contains("invalid plugin name"),
        "{}",
        error.message
    );
    // A volume whose plugin went away is shown, and can be forgotten.
    volumes.create(wanted("kv", "kplug")).await.expect("create");
    plugin.die();
    std::fs::remove_file(fixture.root.join("plugins/kplug.sock")).expect("remove the socket");
    let listed = volumes.list(Filters::default()).await.expect("list");
    assert_eq!(listed.volumes.len(), 1);
    assert_eq!(
        listed.warnings,
        ["list kplug: error looking up volume plugin kplug: plugin \"kplug\" not found"]
    );
    let error = volumes.inspect("kv").await.expect_err("inspect");
    assert_eq!(
        error.message,
        "error while checking if volume \"kv\" exists in driver \"kplug\": error looking up volume plugin kplug: plugin \"kplug\" not found"
    );
    assert!(volumes.remove("kv", false).await.is_err());
    volumes.remove("kv", true).await.expect("forget it");
    assert!(names(&fixture).await.is_empty());
    drop(plugin);
    fixture.finish().await;
}

async fn mounts_of_what_ended_meanwhile_are_undone() {
    let (plugin, fixture) = with_plugin().await;
    fixture
        .engine
        .volumes
        .create(wanted("kv", "kplug"))
        .await
        .expect("create");
    let ends = fixture.run("ends", on("kv", "sleep 1000")).await;
    let stays = fixture.run("stays", on("kv", "sleep 1000")).await;
    let before = plugin.mounts("kv");
    assert_eq!(before.len(), 2);
    plugin.calls();
    let pid = fixture.pid(&ends).await;
    // What the next daemon finds after this one left: one container has ended.
    fixture.engine.shutdown(false).await.expect("shutdown");
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let fixture = fixture.reopen().await;
    for _ in 0..100 {
        if plugin.mounts("kv").len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = plugin.mounts("kv");
    assert_eq!(after.len(), 1);
    assert!(before.contains(&after[0]));
    assert_eq!(
        plugin.calls(),
        ["Unmount kv"],
        "the other one is left alone"
    );
    fixture.remove(&stays).await;
    fixture.remove(&ends).await;
    assert_eq!(plugin.calls(), ["Unmount kv"]);
    fixture
        .engine
        .volumes
        .remove("kv", false)
        .await
        .expect("remove");
    drop(plugin);
    fixture.finish().await;
}
