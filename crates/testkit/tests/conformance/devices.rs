//! `linux.devices`, the default devices and the links beside them (config-linux.md, "Devices", "Default Devices").

use serde_json::json;

use crate::subject::Case;

/// A container that may read the kernel's log where the device rules let it: the node is 1:11, and no default.
fn with_log(script: &str, rules: serde_json::Value) -> Case {
    Case::script(script).edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set]
                .as_array_mut()
                .expect("capabilities")
                .push(json!("CAP_SYSLOG"));
        }
        spec["linux"]["resources"]["devices"] = rules;
    })
}

#[test]
fn the_default_devices_work() {
    let case = Case::script(
        "for node in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$node; done; \
         echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && head -c 1 /dev/random | wc -c; \
         echo x > /dev/full || echo full",
    );
    let output = case.output();
    for expected in [
        "null character special file 1:3 666",
        "zero character special file 1:5 666",
        "full character special file 1:7 666",
        "random character special file 1:8 666",
        "urandom character special file 1:9 666",
        "tty character special file 5:0 666",
    ] {
        assert!(
            output.contains(&format!("/dev/{expected}")),
            "{expected} in {output}"
        );
    }
    assert!(output.ends_with("4\n4\n1\nfull"), "{output}");
}

#[test]
fn the_links_in_dev() {
    let case = Case::script(
        "for link in fd stdin stdout stderr; do readlink /dev/$link; done; test -c /dev/ptmx && echo ptmx; test -d /dev/pts && echo pts",
    );
    assert_eq!(
        case.output(),
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\nptmx\npts"
    );
}

#[test]
fn listed_devices_are_made() {
    let case = Case::script("stat -c '%F %t:%T %a %u:%g' /dev/mine /dev/deep/fifo").edit(|spec| {
        spec["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/deep/fifo", "type": "p", "fileMode": 0o600, "uid": 0, "gid": 0},
        ]);
    });
    assert_eq!(
        case.output(),
        "character special file 1:3 640 7:8\nfifo 0:0 600 0:0"
    );
}

#[test]
fn devices_are_denied_but_for_the_rules() {
    let script = "mknod /tmp/kmsg c 1 11 && (exec 3< /tmp/kmsg) && echo opened; (exec 3< /dev/null) && echo null";
    let denied = with_log(script, json!([{"allow": false, "access": "rwm"}]));
    let output = denied.run();
    assert!(
        !output.stdout.contains("opened") && output.stdout.contains("null"),
        "{output:?}"
    );
    assert!(output.stderr.contains("not permitted"), "{output:?}");
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm"},
    ]);
    assert_eq!(with_log(script, rules).output(), "opened\nnull");
}

#[test]
fn access_is_told_apart() {
    let script = "mknod /tmp/kmsg c 1 11; (exec 3< /tmp/kmsg) && echo read; (exec 3> /tmp/kmsg) && echo write";
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm"},
    ]);
    let output = with_log(script, rules).run();
    assert!(
        output.stdout.contains("read") && !output.stdout.contains("write"),
        "{output:?}"
    );
}

#[test]
fn everything_is_allowed_when_asked() {
    let script = "mknod /tmp/kmsg c 1 11 && (exec 3< /tmp/kmsg) && echo opened";
    assert_eq!(
        with_log(script, json!([{"allow": true, "access": "rwm"}])).output(),
        "opened"
    );
}
