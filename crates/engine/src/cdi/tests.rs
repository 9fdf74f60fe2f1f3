//! CDI files read, judged and applied; the host is asked only for /dev/null.

use proptest::prelude::*;

use super::*;

const YAML: &str = r#"
cdiVersion: "0.5.0"
kind: vendor.com/thing
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/thing0
      hostPath: /dev/null
      permissions: r
    additionalGids: [0, 44]
- name: all
  containerEdits:
    env: [WHICH=all]
containerEdits:
  env:
  - THING=yes
  mounts:
  - hostPath: /usr/lib
    containerPath: /thing/lib
    options: [ro, bind]
  hooks:
  - hookName: createContainer
    path: /bin/hook
    args: [hook, one]
  intelRdt:
    closID: c
"#;

fn registry(files: &[(&str, &str, &str)]) -> (tempfile::TempDir, Registry) {
    let root = tempfile::tempdir().unwrap();
    let mut dirs = Vec::new();
    for (dir, name, text) in files {
        let dir = root.path().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    let registry = Registry::read(&dirs);
    (root, registry)
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn edits_are_applied_once_for_the_file_and_for_each_device() {
    let (_root, registry) = registry(&[("a", "v.yaml", YAML)]);
    assert_eq!(registry.faults, Vec::<String>::new());
    assert!(
        registry
            .names()
            .eq(["vendor.com/thing=0", "vendor.com/thing=all"])
    );
    let mut spec = OciSpec {
        process: Some(hull_oci::runtime::Process::default()),
        ..OciSpec::default()
    };
    spec.process.as_mut().unwrap().env = vec!["THING=no".to_owned()];
    let wanted = names(&["vendor.com/thing=0", "vendor.com/thing=all"]);
    registry.inject(&wanted, &mut spec).unwrap();
    let process = spec.process.unwrap();
    assert_eq!(process.env, ["THING=yes", "WHICH=all"]);
    assert_eq!(process.user.additional_gids, [44]);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.devices.len(), 1);
    assert_eq!(
        (
            linux.devices[0].path.as_str(),
            linux.devices[0].major,
            linux.devices[0].minor
        ),
        ("/dev/thing0", 1, 3)
    );
    let rule = &linux.resources.unwrap().devices[0];
    assert_eq!(
        (rule.allow, rule.major, rule.minor, rule.access.as_deref()),
        (true, Some(1), Some(3), Some("r"))
    );
    assert_eq!(linux.intel_rdt.unwrap().clos_id.as_deref(), Some("c"));
    assert_eq!(spec.mounts.len(), 1);
    assert_eq!(spec.mounts[0].destination, "/thing/lib");
    assert_eq!(
        spec.hooks.unwrap().create_container[0].args,
        ["hook", "one"]
    );
}

#[test]
fn a_later_directory_counts_more_and_a_conflict_counts_nothing() {
    let file = |env: &str| {
        format!(
            r#"{{"cdiVersion":"1.0.0","kind":"v.com/c","devices":[{{"name":"d","containerEdits":{{"env":["FROM={env}"]}}}}]}}"#
        )
    };
    let (first, second) = (file("first"), file("second"));
    let (_root, later) = registry(&[("a", "x.json", &first), ("b", "x.json", &second)]);
    let mut spec = OciSpec {
        process: Some(hull_oci::runtime::Process::default()),
        ..OciSpec::default()
    };
    later.inject(&names(&["v.com/c=d"]), &mut spec).unwrap();
    assert_eq!(spec.process.unwrap().env, ["FROM=second"]);
    let (_root, conflict) = registry(&[("a", "x.json", &first), ("a", "y.json", &second)]);
    assert_eq!(conflict.names().count(), 0);
    let error = conflict.inject(&names(&["v.com/c=d", "x.y/z=1"]), &mut OciSpec::default());
    assert_eq!(
        error.unwrap_err().message,
        "CDI device injection failed: unresolvable CDI devices v.com/c=d, x.y/z=1"
    );
}

#[test]
fn what_breaks_the_rules_is_refused_by_name() {
    for (from, to, why) in [
        ("0.5.0", "9.0.0", "invalid version"),
        ("vendor.com/thing", "vendor.com", "invalid kind"),
        ("vendor.com/thing", "1vendor/thing", "invalid vendor"),
        ("vendor.com/thing", "vendor/th.ing", "invalid class"),
        ("name: all", "name: \"0\"", "multiple device"),
        ("name: all", "name: a/b", "invalid device name"),
        ("WHICH=all", "WHICH", "invalid environment variable"),
        ("permissions: r", "permissions: x", "invalid permissions"),
        ("createContainer", "never", "invalid hook name"),
        (
            "hostPath: /usr/lib",
            "hostPath: \"\"",
            "empty host or container path",
        ),
        ("devices:", "device:", "unknown field"),
    ] {
        let text = YAML.replacen(from, to, 1);
        let error = Spec::parse(&text).unwrap_err();
        assert!(error.contains(why), "{to}: {error}");
    }
}

#[test]
fn gpus_are_nvidias_devices() {
    let request = |count, ids: &[&str]| hull_api::host::DeviceRequest {
        count,
        device_ids: names(ids),
        capabilities: vec![names(&["gpu"])],
        ..Default::default()
    };
    let mut host = HostConfig::default();
    host.resources.device_requests = vec![request(-1, &[]), request(2, &[]), request(0, &["uuid"])];
    assert_eq!(
        requested(&host).unwrap(),
        ["all", "0", "1", "uuid"].map(|name| format!("nvidia.com/gpu={name}"))
    );
    let error = inject(&[], &host, &mut OciSpec::default())
        .unwrap_err()
        .message;
    assert_eq!(
        error,
        "could not select device driver \"\" with capabilities: [[gpu]]"
    );
    host.resources.device_requests[0].driver = "amd".to_owned();
    assert!(requested(&host).unwrap_err().message.contains("\"amd\""));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = Spec::parse(&text);
    }

    #[test]
    fn a_broken_file_is_answered(at in 0..YAML.len(), with in "\\PC{0,3}") {
        let mut text = YAML.to_owned();
        text.replace_range(at..=at, &with);
        let _ = Spec::parse(&text);
    }

    #[test]
    fn json_and_yaml_say_the_same(
        name in "[a-z0-9]([a-z0-9.:_-]{0,10}[a-z0-9])?",
        env in "[A-Z]{1,8}=[a-z0-9 ]{0,12}",
        gid in 1u32..100_000,
        minor in 0i64..300,
    ) {
        let value = serde_json::json!({
            "cdiVersion": "0.6.0", "kind": "vendor.com/c",
            "devices": [{"name": name, "containerEdits": {"env": [env], "additionalGids": [gid],
                "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 7, "minor": minor}]}}],
        });
        let yaml = format!(
            "cdiVersion: '0.6.0'\nkind: vendor.com/c\ndevices:\n- name: '{name}'\n  containerEdits:\n    env: ['{env}']\n    \
             additionalGids: [{gid}]\n    deviceNodes:\n    - {{path: /dev/x, type: c, major: 7, minor: {minor}}}\n"
        );
        prop_assert_eq!(Spec::parse(&value.to_string()), Spec::parse(&yaml));
        prop_assert!(Spec::parse(&yaml).is_ok());
    }
}
