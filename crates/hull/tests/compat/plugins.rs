//! Volumes of plugins, as the docker command line shows them. The plugin is a server of the test's own, which really mounts.

use hull_testkit::image::{Image, Tar, busybox_layer};
use hull_testkit::plugin::VolumePlugin;

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// An engine with a plugin, and the plugin's name: one of this test's own, as are its volumes' names, since dockerd looks in one place
/// only.
fn with_plugin() -> Option<(VolumePlugin, Engine, String)> {
    let mut engine = Engine::prepare(&[])?;
    let name = engine.root().name().to_lowercase().replace('-', "");
    let sockets = match kind() {
        Kind::Docker => "/run/docker/plugins".into(),
        Kind::Hull => engine.root().join("plugins"),
    };
    if kind() == Kind::Hull {
        engine.push_args(&["--plugin-dir", &sockets.display().to_string()]);
    }
    let plugin = VolumePlugin::start(&name, &sockets, &engine.root().join("plugin"));
    engine.start_daemon();
    engine.load(&Image::busybox(BUSYBOX));
    Some((plugin, engine, name))
}

#[test]
fn the_life_of_a_volume() {
    let Some((plugin, engine, driver)) = with_plugin() else {
        return;
    };
    engine.ok(&[
        "volume", "create", "-d", &driver, "-o", "size=1g", "--label", "l=1", "vv",
    ]);
    assert_eq!(plugin.options("vv"), serde_json::json!({"size": "1g"}));
    let format =
        "{{.Driver}} {{.Scope}} {{.Options.size}} {{.Labels.l}} {{.Status.mounts}} {{.CreatedAt}}";
    assert_eq!(
        engine.ok(&["volume", "inspect", "--format", format, "vv"]),
        format!("{driver} global 1g 1 0 0001-01-01T00:00:00Z")
    );
    let shown = engine.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", "vv"]);
    assert!(shown.ends_with("/plugin/mnt/vv"), "{shown}");
    plugin.make("own");
    let own = format!("driver={driver}");
    let list = ["volume", "ls", "--filter", &own];
    assert_eq!(
        engine.ok(&[&list[..], &["--format", "{{.Driver}} {{.Name}}"]].concat()),
        format!("{driver} own\n{driver} vv")
    );
    assert_eq!(
        engine.ok(&["volume", "ls", "-q", "--filter", "driver=local"]),
        ""
    );
    let drivers = engine.ok(&["info", "--format", "{{json .Plugins.Volume}}"]);
    assert!(drivers.contains(&format!("{driver:?}")), "{drivers}");
    engine.fails(
        &["volume", "create", "vv"],
        1,
        &format!(
            "create vv: driver '{driver}' already has volume 'vv': volume name must be unique"
        ),
    );
    let prune: &[&str] = match kind() {
        // It prunes all of them without being told.
        Kind::Docker => &["volume", "prune", "-f"],
        Kind::Hull => &["volume", "prune", "-f", "-a"],
    };
    engine.ok(prune);
    assert_eq!(plugin.volumes(), ["own", "vv"]);
    assert_eq!(engine.ok(&["volume", "rm", "vv", "own"]), "vv\nown");
    assert!(plugin.volumes().is_empty());
    engine.fails(&["volume", "inspect", "vv"], 1, "no such volume");
}

#[test]
fn containers_use_it() {
    let Some((plugin, engine, driver)) = with_plugin() else {
        return;
    };
    let data = Tar::new()
        .folder("data", 0o755)
        .file("data/from-image", 0o644, "image\n")
        .finish();
    engine.load(
        &Image::new("filled:latest")
            .layer(busybox_layer())
            .layer(data),
    );
    // Filled from the image at its creation, and mounted once more for the run.
    let volume = format!("type=volume,src=used,dst=/data,volume-driver={driver},volume-opt=k=v");
    let run = ["run", "--rm", "--mount", &volume, "filled"];
    let said = engine.ok(&[&run[..], &["cat", "/data/from-image"]].concat());
    assert_eq!(said, "image");
    assert_eq!(plugin.options("used"), serde_json::json!({"k": "v"}));
    assert_eq!(
        plugin.calls(),
        [
            "Create used",
            "Mount used",
            "Unmount used",
            "Mount used",
            "Unmount used"
        ]
    );
    // Two containers have two references; a copy has one of its own.
    let id = engine.ok(&["run", "-d", "-v", "used:/data", BUSYBOX, "sleep", "1000"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "two",
        "--volumes-from",
        &id,
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    assert_eq!(plugin.mounts("used").len(), 2);
    engine.fails(&["volume", "rm", "used"], 1, "volume is in use");
    assert_eq!(
        engine.inspect(
            &id,
            "{{(index .Mounts 0).Driver}} {{(index .Mounts 0).Name}}"
        ),
        format!("{driver} used")
    );
    engine.ok(&["rm", "-f", &id, "two"]);
    assert!(plugin.mounts("used").is_empty());
    engine.ok(&["create", "--name", "still", "-v", "used:/data", BUSYBOX]);
    let copy = engine.root().join("copy").display().to_string();
    engine.ok(&["cp", "still:/data/from-image", &copy]);
    assert_eq!(std::fs::read_to_string(copy).expect("read"), "image\n");
    engine.ok(&["rm", "still"]);
    assert!(plugin.mounts("used").is_empty(), "after the copy");
    // --volume-driver, with a name and without.
    let on = ["run", "--rm", "--volume-driver", &driver];
    engine.ok(&[
        &on[..],
        &["-v", "named-used:/d", "-v", "/anonymous", BUSYBOX, "true"],
    ]
    .concat());
    assert_eq!(plugin.volumes(), ["named-used", "used"]);
    engine.ok(&["volume", "rm", "used", "named-used"]);
}

#[test]
fn what_it_refuses_is_said() {
    let Some((plugin, engine, driver)) = with_plugin() else {
        return;
    };
    use hull_testkit::plugin::Manner;
    plugin.behave(Manner::Refuses("no space left".into()), "Create");
    let create = ["volume", "create", "-d", &driver, "refused"];
    engine.fails(
        &create,
        1,
        "Error response from daemon: create refused: no space left",
    );
    let own = format!("driver={driver}");
    assert_eq!(engine.ok(&["volume", "ls", "-q", "--filter", &own]), "");
    plugin.behave(Manner::Rubbish, "Create");
    engine.fails(&create, 1, "create refused: ");
    plugin.behave(Manner::Refuses("is broken".into()), "Mount");
    engine.ok(&create);
    let run = [
        "run",
        "--name",
        "cc",
        "-v",
        "refused:/data",
        BUSYBOX,
        "true",
    ];
    engine.fails(&run, 125, "error while mounting volume '");
    engine.fails(&["start", "cc"], 1, "is broken");
    plugin.behave(Manner::Good, "");
    engine.ok(&["start", "-a", "cc"]);
    engine.ok(&["rm", "cc"]);
    if kind() == Kind::Hull {
        // dockerd looks for it for 15 seconds before it says the same.
        engine.fails(
            &["volume", "create", "-d", "nosuchplugin", "ww"],
            1,
            "create ww: error looking up volume plugin nosuchplugin: plugin \"nosuchplugin\" not found",
        );
    }
    engine.ok(&["volume", "rm", "refused"]);
}

#[test]
fn a_killed_daemon_undoes_what_ended_and_nothing_else() {
    if kind() == Kind::Docker {
        hull_testkit::skip!("dockerd's containers end with it");
        return;
    }
    let Some((plugin, mut engine, driver)) = with_plugin() else {
        return;
    };
    engine.ok(&["volume", "create", "-d", &driver, "kept"]);
    let run = |name: &str| {
        engine.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "-v",
            "kept:/data",
            BUSYBOX,
            "sleep",
            "1000",
        ]);
    };
    run("ends");
    run("stays");
    let pid: i32 = engine
        .inspect("ends", "{{.State.Pid}}")
        .parse()
        .expect("a pid");
    let before = plugin.mounts("kept");
    plugin.calls();
    engine.kill_daemon();
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill it");
    engine.start_daemon();
    let undone = hull_testkit::process::eventually(std::time::Duration::from_secs(10), || {
        plugin.mounts("kept").len() == 1
    });
    assert!(undone, "{:?}", plugin.mounts("kept"));
    assert!(before.contains(&plugin.mounts("kept")[0]));
    assert_eq!(plugin.calls(), ["Unmount kept"]);
    engine.ok(&["exec", "stays", "touch", "/data/still-there"]);
    engine.ok(&["start", "ends"]);
    assert_eq!(plugin.mounts("kept").len(), 2);
    engine.ok(&["rm", "-f", "ends", "stays"]);
    assert_eq!(
        plugin.calls(),
        ["Mount kept", "Unmount kept", "Unmount kept"]
    );
    engine.ok(&["volume", "rm", "kept"]);
}
