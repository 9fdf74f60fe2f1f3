//! User namespaces: mapped ids, foreign network namespaces, joined namespaces, idmapped mounts, rootless.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Runtime;
use hull_testkit::process::run;
use serde_json::{Value, json};

const MAP: [&str; 2] = ["uidMappings", "gidMappings"];

/// A new user namespace with ids from 100000, and a root that its users can reach.
fn mapped(spec: &mut Value) {
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    for field in MAP {
        spec["linux"][field] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
}

fn open_to_all(rt: &Runtime) {
    std::fs::set_permissions(rt.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn ids_are_mapped_and_everything_is_mounted() {
    let Some(rt) = Runtime::new() else { return };
    open_to_all(&rt);
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; ls -l /dev/null; echo x > /dev/null && echo ok; \
        mount -t tmpfs x /tmp && echo mounted; grep -c ' /sys ' /proc/mounts; hostname";
    let output = rt.script("ids", script, |spec| {
        mapped(spec);
        let caps = &mut spec["process"]["capabilities"];
        for set in ["bounding", "effective", "permitted"] {
            caps[set]
                .as_array_mut()
                .unwrap()
                .push(json!("CAP_SYS_ADMIN"));
        }
    });
    let text = output.ok();
    assert!(text.starts_with("0\n 0 100000 65536\ncrw-rw-rw-"), "{text}");
    assert!(text.ends_with("ok\nmounted\n1\nhull-test"), "{text}");
}

#[test]
fn exec_enters_the_user_namespace() {
    let Some(rt) = Runtime::new() else { return };
    open_to_all(&rt);
    let mut bundle = rt.bundle("exec", &["sleep", "1000"]);
    bundle.edit(mapped);
    bundle.edit(|spec| spec["process"]["oomScoreAdj"] = json!(300));
    let (id, path) = (rt.id("exec"), bundle.path().to_str().unwrap().to_owned());
    rt.call(&["create", "--bundle", &path, &id]).ok();
    rt.call(&["start", &id]).ok();
    let output = rt.call(&[
        "exec",
        &id,
        "sh",
        "-c",
        "id -u; tr -s ' ' < /proc/self/uid_map; echo $$; cat /proc/self/oom_score_adj /proc/1/oom_score_adj; exit 5",
    ]);
    assert_eq!(
        (output.code(), output.stdout.as_str()),
        (5, "0\n 0 100000 65536\n2\n300\n300\n"),
        "{}",
        output.stderr
    );
    let output = rt.call(&["exec", "--user", "1000", &id, "id", "-u"]);
    assert_eq!(output.ok(), "1000");
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn a_network_namespace_of_the_host_is_joined() {
    let Some(rt) = Runtime::new() else { return };
    open_to_all(&rt);
    let name = rt.root.name();
    let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
    ip(&["netns", "add", &name]);
    ip(&[
        "-n", &name, "link", "add", "hrt0", "type", "veth", "peer", "name", "hrt1",
    ]);
    let output = rt.script("join", "ls /sys/class/net /proc/sys/net/ipv4/conf | grep -c hrt0; ls /sys/kernel >/dev/null && echo sys", |spec| {
        mapped(spec);
        spec["linux"]["namespaces"][1]["path"] = json!(format!("/run/netns/{name}"));
    });
    ip(&["netns", "del", &name]);
    let text = output.ok();
    assert!(text.ends_with("sys"), "{text}");
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let Some(rt) = Runtime::new() else { return };
    open_to_all(&rt);
    let mut first = rt.bundle("first", &["sleep", "1000"]);
    first.edit(mapped);
    let (id, path) = (rt.id("first"), first.path().to_str().unwrap().to_owned());
    rt.call(&["create", "--bundle", &path, &id]).ok();
    rt.call(&["start", &id]).ok();
    let state: Value = serde_json::from_str(rt.call(&["state", &id]).ok()).unwrap();
    let pid = state["pid"].clone();
    let script = "ps | grep -c 'sleep 100[0]'; hostname; tr -s ' ' < /proc/self/uid_map";
    let output = rt.script("second", script, |spec| {
        spec["hostname"] = Value::Null;
        let path = |name: &str| json!(format!("/proc/{pid}/ns/{name}"));
        spec["linux"]["namespaces"] = json!([
            {"type": "user", "path": path("user")}, {"type": "pid", "path": path("pid")},
            {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")},
            {"type": "uts", "path": path("uts")}, {"type": "mount"}]);
    });
    assert_eq!(
        output.ok(),
        "1\nhull-test\n 0 100000 65536",
        "{}",
        output.stderr
    );
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn a_mount_is_idmapped() {
    let Some(rt) = Runtime::new() else { return };
    let source = rt.root.folder("source");
    std::fs::write(source.join("f"), "x").unwrap();
    let output = rt.script("idmap", "stat -c %u:%g /mapped/f /plain/f", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        let maps = json!([{"containerID": 0, "hostID": 4000, "size": 10}]);
        mounts.push(json!({"destination": "/mapped", "source": source, "options": ["rbind", "idmap"], "uidMappings": maps, "gidMappings": maps}));
        mounts.push(json!({"destination": "/plain", "source": source, "options": ["rbind"]}));
    });
    assert_eq!(output.ok(), "4000:4000\n0:0");
}

/// An ordinary user, with its own id alone and no privileges at all.
#[test]
fn rootless_with_one_id() {
    let Some(rt) = Runtime::new() else { return };
    if hull_testkit::skips::program("setpriv").is_none() {
        return hull_testkit::skip!("setpriv is not installed");
    }
    open_to_all(&rt);
    let mut bundle = rt.bundle(
        "rootless",
        &[
            "/bin/sh",
            "-c",
            "id -u; id -g; hostname; echo x > /made && cat /made; ls /dev/null",
        ],
    );
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        for field in MAP {
            spec["linux"][field] = json!([{"containerID": 0, "hostID": 4321, "size": 1}]);
        }
        spec["linux"]["cgroupsPath"] = Value::Null;
        // Its groups cannot be mapped.
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
        }
    });
    let state = rt.root.folder("rootless-state");
    for path in [bundle.path().to_owned(), state.clone()] {
        let chown = Command::new("chown")
            .args(["-R", "4321:4321"])
            .arg(path)
            .status()
            .unwrap();
        assert!(chown.success());
    }
    let call = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=4321",
            "--regid=4321",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        command
            .arg(Runtime::program())
            .arg("--root")
            .arg(&state)
            .args(args);
        run(&mut command, std::time::Duration::from_secs(60)).unwrap()
    };
    let path = bundle.path().to_str().unwrap().to_owned();
    let output = call(&["run", "--bundle", &path, "rl"]);
    assert_eq!(
        output.ok(),
        "0\n0\nhull-test\nx\n/dev/null",
        "{}",
        output.stderr
    );

    // create, exec, delete
    bundle.edit(|spec| {
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["process"]["oomScoreAdj"] = json!(500);
    });
    call(&["create", "--bundle", &path, "rl2"]).ok();
    call(&["start", "rl2"]).ok();
    let output = call(&["exec", "rl2", "sh", "-c", "id -u; echo $$"]);
    assert_eq!(output.ok(), "0\n2", "{}", output.stderr);
    call(&["delete", "--force", "rl2"]).ok();

    // Limits need a delegated cgroup, which this user has not.
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    let output = call(&["run", "--bundle", &path, "rl3"]);
    assert_eq!(output.code(), 1);
    assert!(
        output
            .stderr
            .contains("linux.resources: this user has no delegated cgroup"),
        "{}",
        output.stderr
    );
}

/// Ranges of ids through newuidmap(1), and an overlay of the user's own. The user is made up in a mount namespace of the test's.
#[test]
fn rootless_with_ranges() {
    let Some(rt) = Runtime::new() else { return };
    for program in ["newuidmap", "setpriv", "unshare"] {
        if hull_testkit::skips::program(program).is_none() {
            return hull_testkit::skip!("{program} is not installed");
        }
    }
    open_to_all(&rt);
    let mut bundle = rt.bundle("ranges", &["sleep", "1000"]);
    let state = rt.root.folder("ranges-state");
    let layers = ["lower", "upper", "work"].map(|name| rt.root.folder(name));
    std::fs::write(layers[0].join("f"), "below").unwrap();
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        for (field, own) in [("uidMappings", 4321), ("gidMappings", 4322)] {
            spec["linux"][field] = json!([{"containerID": 0, "hostID": own, "size": 1},
                {"containerID": 1, "hostID": 300_000, "size": 65_535}]);
        }
        spec["linux"]["cgroupsPath"] = Value::Null;
        let [lower, upper, work] = layers.each_ref().map(|path| path.display().to_string());
        spec["mounts"].as_array_mut().unwrap().push(json!({"destination": "/over", "type": "overlay",
            "source": "overlay", "options": [format!("lowerdir={lower}"), format!("upperdir={upper}"),
            format!("workdir={work}"), "userxattr"]}));
    });
    for path in layers.iter().chain([&state, &bundle.path().to_owned()]) {
        let mut chown = Command::new("chown");
        let chown = chown.args(["-R", "4321:4322"]).arg(path).status().unwrap();
        assert!(chown.success());
    }
    let files = [
        (
            "passwd",
            "root:x:0:0::/:/bin/sh\nhrt:x:4321:4322::/:/bin/sh\n",
        ),
        ("group", "root:x:0:\nhrt:x:4322:\n"),
        ("subuid", "hrt:300000:65536\n"),
        ("subgid", "hrt:300000:65536\n"),
    ];
    let etc = rt.root.folder("etc");
    for (name, text) in files {
        std::fs::write(etc.join(name), text).unwrap();
    }
    let script = "set -e
        for name in passwd group subuid subgid; do
            [ -e /etc/$name ] || : > /etc/$name
            mount --bind $ETC/$name /etc/$name
        done
        as() { setpriv --reuid=4321 --regid=4322 --clear-groups \"$@\"; }
        R=\"as $RUNTIME --root $STATE\"
        $R create --bundle $BUNDLE ranges
        $R start ranges
        $R exec ranges sh -c 'id -u; tr -s \" \" < /proc/self/uid_map; tr -s \" \" < /proc/self/gid_map'
        $R exec --user 1000:1000 ranges sh -c 'id -u; id -g; id > /tmp/by-another && stat -c %u:%g /tmp/by-another'
        $R exec ranges sh -c 'cat /over/f; echo; rm /over/f; mkdir /over/d; chown 5:5 /over/d; ls /over; stat -c %u:%g /over/d'
        $R exec --cap CAP_CHOWN ranges stat -c %g /dev/pts/ptmx
        $R kill ranges KILL
        $R delete --force ranges
        $R state ranges && exit 9
        exit 0";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation=private", "/bin/sh", "-c", script])
        .env("ETC", &etc)
        .env("RUNTIME", Runtime::program())
        .env("STATE", &state)
        .env("BUNDLE", bundle.path())
        .current_dir("/");
    std::fs::create_dir_all(bundle.rootfs("/tmp")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(bundle.rootfs("/tmp"), mode).unwrap();
    let output = run(&mut command, std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(
        output.ok(),
        "0\n 0 4321 1\n 1 300000 65535\n 0 4322 1\n 1 300000 65535\n\
         1000\n1000\n1000:1000\nbelow\nd\n5:5\n0",
        "{}",
        output.stderr
    );
    use std::os::unix::fs::MetadataExt;
    // Its ids on the disk, and a whiteout that needed no privilege.
    assert_eq!(
        std::fs::metadata(layers[1].join("d")).unwrap().uid(),
        300_004
    );
    assert!(std::fs::symlink_metadata(layers[1].join("f")).is_ok());
}

/// A user, a group and a further group that the map does not have: refused with the field, and nothing is made.
#[test]
fn ids_out_of_the_map_are_refused() {
    let Some(rt) = Runtime::new() else { return };
    open_to_all(&rt);
    for (field, user) in [
        ("process.user.uid", json!({"uid": 70_000, "gid": 0})),
        ("process.user.gid", json!({"uid": 0, "gid": 70_000})),
        (
            "process.user.additionalGids",
            json!({"uid": 0, "gid": 0, "additionalGids": [70_000]}),
        ),
    ] {
        let name = field.rsplit('.').next().unwrap().to_lowercase();
        let output = rt.script(&name, "true", |spec| {
            mapped(spec);
            spec["process"]["user"] = user;
        });
        assert_eq!(output.code(), 1, "{field}");
        assert!(output.stderr.contains(field), "{field}: {}", output.stderr);
    }
}
