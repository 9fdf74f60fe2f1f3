//! Bad bundles and configurations: refused with a reason, and nothing is left of the attempt.

use std::fs;

use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, is};

/// The container cannot be made; the runtime says why; [`Case`]'s drop checks that nothing remains.
#[track_caller]
fn refused(case: &Case) -> String {
    let output = case.try_create();
    assert_ne!(output.code(), 0, "it was made: {}", case.bundle.spec);
    assert!(
        !output.stderr.trim().is_empty() || !output.stdout.trim().is_empty(),
        "it does not say why"
    );
    assert_eq!(case.status(), None, "a container exists all the same");
    output.stderr + &output.stdout
}

#[track_caller]
fn refused_with(change: impl FnOnce(&mut Value)) -> String {
    refused(&Case::idle().edit(change))
}

#[test]
fn no_config() {
    let case = Case::idle();
    fs::remove_file(case.bundle.path().join("config.json")).expect("remove the config");
    assert!(refused(&case).contains("config.json"));
}

#[test]
fn no_json() {
    for text in [
        "",
        "{",
        "[]",
        "\"text\"",
        "{\"ociVersion\": 1}",
        "{\"process\": []}",
        "\u{0}",
    ] {
        let case = Case::idle();
        fs::write(case.bundle.path().join("config.json"), text).expect("write");
        refused(&case);
    }
}

#[test]
fn no_bundle() {
    let case = Case::idle();
    assert_ne!(
        case.call(["create", "--bundle", "/no/such/bundle", &case.id])
            .code(),
        0
    );
}

#[test]
fn no_root_file_system() {
    refused_with(|spec| spec["root"]["path"] = json!("no-such-rootfs"));
    refused_with(|spec| drop(spec.as_object_mut().expect("a spec").remove("root")));
}

#[test]
fn no_process() {
    refused_with(|spec| spec["process"]["args"] = json!([]));
    cannot!(is(&[Flavor::Crun]), "crun creates without a process");
    refused_with(|spec| drop(spec.as_object_mut().expect("a spec").remove("process")));
}

#[test]
fn a_relative_working_directory() {
    cannot!(is(&[Flavor::Crun]), "crun takes it");
    refused_with(|spec| spec["process"]["cwd"] = json!("relative"));
}

#[test]
fn wrong_types() {
    cannot!(is(&[Flavor::Crun]), "crun's parser takes what it can");
    refused_with(|spec| spec["process"]["args"] = json!("sleep 1"));
    refused_with(|spec| spec["linux"] = json!([]));
    refused_with(|spec| spec["process"]["user"]["uid"] = json!("root"));
    refused_with(|spec| spec["process"]["user"]["uid"] = json!(-1));
    refused_with(|spec| spec["mounts"] = json!({"destination": "/mnt"}));
    refused_with(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": "much"}));
}

#[test]
fn numbers_out_of_range() {
    refused_with(|spec| spec["process"]["user"]["uid"] = json!(4_294_967_296_u64));
    cannot!(is(&[Flavor::Crun]), "crun's parser takes what it can");
    refused_with(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 1e300}));
}

#[test]
fn unknown_values() {
    cannot!(is(&[Flavor::Crun]), "crun's parser takes what it can");
    refused_with(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({"type": "nonsense"}))
    });
    refused_with(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}])
    });
    refused_with(|spec| spec["linux"]["rootfsPropagation"] = json!("nonsense"));
    refused_with(|spec| spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NONSENSE"}));
    refused_with(|spec| {
        spec["linux"]["devices"] = json!([{"path": "/dev/x", "type": "x", "major": 1, "minor": 1}])
    });
}

#[test]
fn a_namespace_twice() {
    cannot!(is(&[Flavor::Crun]), "crun takes it");
    refused_with(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({"type": "pid"}))
    });
}

#[test]
fn a_namespace_path_that_is_none() {
    refused_with(|spec| spec["linux"]["namespaces"][1]["path"] = json!("/no/such/namespace"));
    refused_with(|spec| spec["linux"]["namespaces"][1]["path"] = json!("/etc/passwd"));
}

#[test]
fn a_host_name_without_its_namespace() {
    refused_with(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .retain(|entry| entry["type"] != "uts")
    });
}

#[test]
fn mounts_that_cannot_be_made() {
    refused_with(|spec| {
        spec["mounts"]
            .as_array_mut()
            .expect("mounts")
            .push(json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"}))
    });
    refused_with(|spec| {
        spec["mounts"].as_array_mut().expect("mounts").push(json!({"destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"]}))
    });
    refused_with(|spec| {
        spec["mounts"].as_array_mut().expect("mounts").push(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nosuchoption=1"]}))
    });
}

#[test]
fn limits_that_the_kernel_refuses() {
    refused_with(|spec| spec["linux"]["resources"]["cpu"] = json!({"cpus": "1000-2000"}));
    refused_with(|spec| spec["linux"]["resources"]["cpu"] = json!({"cpus": "nonsense"}));
}

#[test]
fn a_program_that_is_not_there() {
    let case = Case::new(&["/no/such/program"]);
    let output = case.run();
    assert_ne!(output.code(), 0);
    assert!(
        output.stderr.contains("/no/such/program") || output.stderr.contains("No such file"),
        "{output:?}"
    );
}

#[test]
fn a_program_that_cannot_run() {
    let case = Case::new(&["/etc/passwd"]);
    let output = case.run();
    assert_ne!(output.code(), 0);
    assert!(
        output.stderr.to_lowercase().contains("permission denied"),
        "{output:?}"
    );
}

#[test]
fn a_terminal_without_a_console_socket() {
    let case = Case::idle().edit(|spec| spec["process"]["terminal"] = json!(true));
    refused(&case);
}

#[test]
fn a_console_socket_without_a_terminal() {
    cannot!(is(&[Flavor::Crun]), "crun ignores it");
    let case = Case::idle();
    let socket = case.root.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    let output = case.call([
        "create",
        "--console-socket",
        &socket.to_string_lossy(),
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ]);
    assert_ne!(output.code(), 0);
}

#[test]
fn errors_are_logged_where_asked() {
    let case = Case::idle().edit(|spec| spec["root"]["path"] = json!("no-such-rootfs"));
    let log = case.root.join("log.json");
    let mut command = case.runtime(Vec::<&str>::new());
    command.args([
        "--log",
        &log.to_string_lossy(),
        "--log-format",
        "json",
        "create",
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ]);
    let output =
        hull_testkit::process::run(&mut command, std::time::Duration::from_secs(60)).expect("run");
    assert_ne!(output.code(), 0);
    let text = fs::read_to_string(log).expect("the log");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error", "{text}");
    assert!(
        last["msg"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{text}"
    );
}

/// Types and numbers that cannot be: named by the path of their field, before anything is made.
#[test]
fn the_field_is_named() {
    cannot!(!is(&[Flavor::Hull]), "runc and crun have their own words");
    let resources = |name: &str, value: Value| {
        let name = name.to_owned();
        move |spec: &mut Value| spec["linux"]["resources"] = json!({name.as_str(): value})
    };
    let device = |major: i64| json!([{"path": "/dev/x", "type": "c", "major": major, "minor": 1}]);
    let said = |field: &str, change: &dyn Fn(&mut Value)| {
        let said = refused_with(|spec| change(spec));
        assert!(said.contains(&format!("{field}: ")), "{field}: {said}");
    };
    said("process.user.uid", &|s| {
        s["process"]["user"]["uid"] = json!(-1)
    });
    said("process.user.gid", &|s| {
        s["process"]["user"]["gid"] = json!(1_u64 << 32)
    });
    said("process.args", &|s| s["process"]["args"] = json!("sleep 1"));
    said("process.oomScoreAdj", &|s| {
        s["process"]["oomScoreAdj"] = json!(5000)
    });
    said("process.user.umask", &|s| {
        s["process"]["user"]["umask"] = json!(0o7777)
    });
    said("mounts", &|s| s["mounts"] = json!({}));
    said("mounts[0].destination", &|s| {
        s["mounts"] = json!([{"destination": 7}])
    });
    said("linux.devices[0].major", &|s| {
        s["linux"]["devices"] = device(-7)
    });
    said("hooks.poststop[0].timeout", &|s| {
        s["hooks"] = json!({"poststop": [{"path": "/bin/true", "timeout": -1}]})
    });
    for (member, value, field) in [
        ("memory", json!({"limit": "much"}), "memory.limit"),
        ("memory", json!({"limit": 1e30}), "memory.limit"),
        ("memory", json!({"limit": -5}), "memory.limit"),
        ("cpu", json!({"shares": -1}), "cpu.shares"),
        ("cpu", json!({"period": 1_u64 << 63}), "cpu.period"),
        ("pids", json!({"limit": 1e300}), "pids.limit"),
        ("blockIO", json!({"weight": 70_000}), "blockIO.weight"),
    ] {
        said(
            &format!("linux.resources.{field}"),
            &resources(member, value),
        );
    }
}

/// Without resctrl a class of service cannot be: said with the field, not passed over.
#[test]
fn intel_rdt_without_resctrl() {
    cannot!(
        !is(&[Flavor::Hull]),
        "runc and crun pass over intelRdt or fail in their own words"
    );
    cannot!(
        std::path::Path::new("/sys/fs/resctrl/schemata").exists(),
        "this machine has resctrl"
    );
    let said = refused_with(|spec| {
        spec["linux"]["intelRdt"] = json!({"closID": "gold", "schemata": ["L3:0=f"]})
    });
    assert!(
        said.contains("linux.intelRdt: resctrl is not mounted"),
        "{said}"
    );
    let said = refused_with(|spec| spec["linux"]["intelRdt"] = json!({"closID": "../gold"}));
    assert!(said.contains("linux.intelRdt.closID"), "{said}");
}
