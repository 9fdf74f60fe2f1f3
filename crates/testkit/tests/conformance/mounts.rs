//! `root`, `mounts`, masked and read-only paths, propagation (config.md, "Mounts"; config-linux.md).

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::subject::{Case, Flavor, cannot, is};

/// The options of the topmost mount on `path` in a mountinfo text: the mount's own and the file system's.
fn options<'a>(mountinfo: &'a str, path: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(path))
        .unwrap_or_else(|| panic!("{path} is no mount in\n{mountinfo}"));
    let super_options = line.rsplit(' ').next().unwrap_or_default();
    (
        line.split(' ')
            .nth(5)
            .unwrap_or_default()
            .split(',')
            .collect(),
        super_options.split(',').collect(),
    )
}

fn mountinfo() -> Case {
    Case::new(&["cat", "/proc/self/mountinfo"])
}

#[test]
fn the_root_is_the_bundles() {
    let case = Case::new(&["cat", "/mark"]);
    case.file("mark", "of this bundle");
    assert_eq!(case.output(), "of this bundle");
}

#[test]
fn an_absolute_root() {
    let case = Case::new(&["cat", "/mark"]);
    case.file("mark", "absolute");
    let path = case.bundle.rootfs("");
    let case = case.edit(|spec| spec["root"]["path"] = json!(path));
    assert_eq!(case.output(), "absolute");
}

#[test]
fn a_read_only_root() {
    let case = Case::script("touch /file 2>&1; touch /dev/shm/file && echo fine")
        .edit(|spec| spec["root"]["readonly"] = json!(true));
    let output = case.run();
    assert!(
        output.stdout.contains("Read-only file system"),
        "{output:?}"
    );
    assert!(output.stdout.contains("fine"), "{output:?}");
    assert!(!case.bundle.rootfs("file").exists());
}

#[test]
fn the_old_root_is_gone() {
    let case = mountinfo();
    let output = case.output();
    // The root itself may show its path on the file system it is part of; nothing may be mounted from elsewhere but the devices.
    for line in output.lines().skip(1) {
        let target = line.split(' ').nth(4).unwrap_or_default();
        assert!(
            ["/proc", "/dev", "/sys"]
                .iter()
                .any(|known| target.starts_with(known)),
            "{line}"
        );
    }
}

#[test]
fn mount_options() {
    let case = mountinfo().mount(json!({
        "destination": "/mnt", "type": "tmpfs", "source": "tmpfs",
        "options": ["ro", "nosuid", "nodev", "noexec", "noatime", "size=4m", "mode=0710"],
    }));
    let output = case.output();
    let (own, fs) = options(&output, "/mnt");
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(own.contains(&option), "{option} in {own:?}");
    }
    assert!(
        fs.contains(&"size=4096k") && fs.contains(&"mode=710"),
        "{fs:?}"
    );
}

#[test]
fn later_options_win() {
    cannot!(is(&[Flavor::Crun]), "crun 1.8 lets ro win");
    let case = mountinfo().mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid", "rw", "suid", "noexec"]}));
    let output = case.output();
    let (own, _) = options(&output, "/mnt");
    assert!(
        own.contains(&"rw") && own.contains(&"noexec") && !own.contains(&"nosuid"),
        "{own:?}"
    );
}

#[test]
fn the_default_mounts_are_as_asked() {
    let case = mountinfo();
    let output = case.output();
    assert!(options(&output, "/sys").0.contains(&"ro"));
    for (path, wanted) in [
        ("/proc", ["nosuid", "nodev", "noexec"]),
        ("/dev/pts", ["nosuid", "noexec", "rw"]),
        ("/dev/shm", ["nosuid", "nodev", "noexec"]),
    ] {
        for option in wanted {
            assert!(
                options(&output, path).0.contains(&option),
                "{option} on {path}"
            );
        }
    }
}

#[test]
fn binds_of_directories_and_files() {
    let case = Case::script("cat /mnt/deep/file /etc/hosts; echo changed > /mnt/deep/file");
    let (folder, file) = (
        case.root.folder("source"),
        case.root.file("hosts", "the hosts"),
    );
    let inner = case.root.file("source/file", "the file\n");
    let case = case
        .mount(json!({"destination": "/mnt/deep", "type": "bind", "source": folder, "options": ["bind"]}))
        .mount(json!({"destination": "/etc/hosts", "type": "bind", "source": file, "options": ["rbind", "ro"]}));
    assert_eq!(case.output(), "the file\nthe hosts");
    assert_eq!(fs::read_to_string(inner).expect("the file"), "changed\n");
}

#[test]
fn a_read_only_bind() {
    let case = Case::script("touch /mnt/file 2>&1; cat /mnt/inner");
    let folder = case.root.folder("source");
    case.root.file("source/inner", "inner");
    let case = case.mount(json!({"destination": "/mnt", "type": "bind", "source": folder, "options": ["bind", "ro", "nosuid"]}));
    let output = case.run();
    assert!(
        output.stdout.contains("Read-only file system") && output.stdout.contains("inner"),
        "{output:?}"
    );
    assert!(!folder.join("file").exists());
}

#[test]
fn a_bind_relative_to_the_bundle() {
    let case = Case::new(&["cat", "/mnt/file"]);
    fs::create_dir(case.bundle.path().join("relative")).expect("make a directory");
    fs::write(case.bundle.path().join("relative/file"), "relative").expect("write");
    let case = case.mount(
        json!({"destination": "/mnt", "type": "bind", "source": "relative", "options": ["bind"]}),
    );
    assert_eq!(case.output(), "relative");
}

#[test]
fn tmpcopyup_keeps_what_was_there() {
    let case = Case::script("cat /data/kept; echo new > /data/new; cat /data/new")
        .mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    fs::create_dir(case.bundle.rootfs("data")).expect("make /data");
    case.file("data/kept", "kept\n");
    assert_eq!(case.output(), "kept\nnew");
    assert!(!case.bundle.rootfs("data/new").exists());
}

#[test]
fn recursive_read_only() {
    cannot!(
        is(&[Flavor::Runc]),
        "runc 1.1 has no recursive mount attributes"
    );
    let case = Case::script("touch /mnt/shm/file 2>&1; touch /mnt/file 2>&1; true")
        .mount(json!({"destination": "/mnt", "type": "bind", "source": "/dev", "options": ["rbind", "rro"]}));
    let output = case.output();
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
}

#[test]
fn destinations_that_are_links_stay_inside() {
    cannot!(
        is(&[Flavor::Crun]),
        "crun 1.8 refuses links to what is not there"
    );
    // An image may hold any link; mounting through it must end inside the root file system.
    let case = Case::new(&["cat", "/inside/file"]);
    let (outside, source) = (case.root.folder("outside"), case.root.folder("source"));
    case.root.file("source/file", "mounted");
    symlink("/inside", case.bundle.rootfs("link")).expect("make a link");
    symlink(&outside, case.bundle.rootfs("away")).expect("make a link");
    let case = case
        .mount(
            json!({"destination": "/link", "type": "bind", "source": source, "options": ["bind"]}),
        )
        .mount(json!({"destination": "/away/made", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(case.output(), "mounted");
    assert!(
        !outside.join("made").exists(),
        "the runtime made a directory outside of the root file system"
    );
}

#[test]
fn parent_references_in_destinations_stay_inside() {
    let case = Case::new(&["cat", "/escaped/file"]);
    let source = case.root.folder("source");
    case.root.file("source/file", "mounted");
    let case = case.mount(json!({"destination": "/../../escaped", "type": "bind", "source": source, "options": ["bind"]}));
    assert_eq!(case.output(), "mounted");
    assert!(!case.bundle.path().join("escaped").exists() && !case.root.join("escaped").exists());
}

#[test]
fn masked_paths_show_nothing() {
    let case = Case::script(
        "wc -c < /secret; ls -A /secrets; cat /proc/kcore | wc -c; ls -A /sys/firmware; echo end",
    )
    .edit(|spec| {
        spec["linux"]["maskedPaths"]
            .as_array_mut()
            .expect("paths")
            .extend([json!("/secret"), json!("/secrets"), json!("/not/there")]);
    });
    case.file("secret", "secret");
    fs::create_dir(case.bundle.rootfs("secrets")).expect("make a directory");
    case.file("secrets/file", "secret");
    assert_eq!(case.output(), "0\n0\nend");
}

#[test]
fn masked_directories_cannot_be_written() {
    let case = Case::script("touch /secrets/new 2>&1; true")
        .edit(|spec| spec["linux"]["maskedPaths"] = json!(["/secrets"]));
    fs::create_dir(case.bundle.rootfs("secrets")).expect("make a directory");
    assert!(case.output().contains("Read-only file system"));
}

#[test]
fn read_only_paths() {
    let case =
        Case::script("cat /kept/file; touch /kept/new 2>&1; echo 1 > /proc/sys/vm/drop_caches")
            .edit(|spec| {
                spec["linux"]["readonlyPaths"]
                    .as_array_mut()
                    .expect("paths")
                    .extend([json!("/kept"), json!("/not/there")]);
            });
    fs::create_dir(case.bundle.rootfs("kept")).expect("make a directory");
    case.file("kept/file", "kept\n");
    let output = case.run();
    assert!(
        output.stdout.starts_with("kept\n") && output.stdout.contains("Read-only file system"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("Read-only file system"),
        "{output:?}"
    );
}

#[test]
fn propagation_of_the_root() {
    for (wanted, mark) in [("shared", "shared:"), ("slave", "master:"), ("private", "")] {
        let case = mountinfo().edit(|spec| spec["linux"]["rootfsPropagation"] = json!(wanted));
        let output = case.output();
        let line = output
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"))
            .expect("the root");
        let tags = line.split(" - ").next().unwrap_or_default();
        if is(&[Flavor::Runc]) && wanted == "shared" {
            // runc 1.1 shares the root only while it prepares it.
            continue;
        }
        match mark {
            "" => assert!(
                !tags.contains("shared:") && !tags.contains("master:"),
                "{wanted}: {line}"
            ),
            // A slave of a private mount has no master to show.
            "master:" => assert!(!tags.contains("shared:"), "{wanted}: {line}"),
            mark => assert!(tags.contains(mark), "{wanted}: {line}"),
        }
    }
}

#[test]
fn propagation_of_a_mount() {
    cannot!(
        is(&[Flavor::Crun]),
        "crun 1.8 applies it to bind mounts only"
    );
    let case = mountinfo().mount(
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["rshared"]}),
    );
    let output = case.output();
    let line = output
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/mnt"))
        .expect("the mount");
    assert!(line.contains("shared:"), "{line}");
}

#[test]
fn mounts_do_not_come_back_to_the_host() {
    let before = fs::read_to_string("/proc/self/mountinfo")
        .expect("mounts")
        .lines()
        .count();
    let case = Case::idle();
    case.up();
    let id = &case.id;
    let ours = fs::read_to_string("/proc/self/mountinfo")
        .expect("mounts")
        .lines()
        .filter(|line| line.contains(id.as_str()))
        .count();
    assert_eq!(ours, 0, "a container's mounts are seen on the host");
    assert!(before > 0);
}

#[test]
fn control_groups_are_shown() {
    let case = Case::script("cat /proc/self/mountinfo; ls /sys/fs/cgroup; touch /sys/fs/cgroup/new 2>&1; for folder in /sys/fs/cgroup/*/; do mkdir $folder/new 2>&1; done; true")
        .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}));
    let output = case.output();
    assert!(output.contains(" /sys/fs/cgroup"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    let file = if crate::subject::cgroup_v2() {
        "cgroup.procs"
    } else {
        "memory"
    };
    assert!(output.lines().any(|line| line == file), "{output}");
}
