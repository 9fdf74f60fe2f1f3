//! The known escapes: each is tried, and fails.

use std::os::unix::fs::symlink;

use crate::common::Runtime;
use serde_json::json;

/// CVE-2019-5736: the program that enters the container is overwritten through /proc/PID/exe.
#[test]
fn the_runtime_s_file_cannot_be_written_through_proc() {
    let Some(rt) = Runtime::new() else { return };
    // The container's program is the runtime's own file, through the link in procfs.
    let mut bundle = rt.bundle("exe", &["/proc/self/exe", "--version"]);
    bundle.edit(|_| {});
    let output = rt.run("exe", &bundle);
    let ran = output.code() == 0;
    // Who shares the PID namespace can see it while it is not yet executed, too.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null && echo WRITTEN $p; done; done; true";
    let output = rt.script("write", script, |spec| {
        spec["process"]["capabilities"] = json!({});
    });
    assert_eq!(output.ok(), "", "ran {ran}");
    let before = std::fs::read(Runtime::program()).unwrap();
    assert!(before.starts_with(b"\x7fELF"));
}

/// CVE-2019-16884, CVE-2023-27561, CVE-2025-52881: a mount over procfs feigns what the runtime writes to or masks.
#[test]
fn nothing_is_mounted_inside_proc() {
    let Some(rt) = Runtime::new() else { return };
    for (name, destination) in [
        ("attr", "/proc/self/attr"),
        ("sys", "/proc/sys"),
        ("via", "/link/sys"),
    ] {
        let mut bundle = rt.bundle(name, &["true"]);
        symlink("/proc", bundle.rootfs("link")).unwrap();
        bundle.edit(|spec| {
            let mount = json!({"destination": destination, "type": "tmpfs", "source": "x"});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        });
        let output = rt.run(name, &bundle);
        assert_eq!(output.code(), 1, "{name}");
        assert!(
            output.stderr.contains("inside /proc"),
            "{name}: {}",
            output.stderr
        );
    }
}

/// CVE-2019-19921, CVE-2023-28642: /proc or /sys of the image is a symbolic link.
#[test]
fn proc_and_sys_are_mounted_on_real_directories_only() {
    let Some(rt) = Runtime::new() else { return };
    for (name, at) in [("proc", "proc"), ("sys", "sys")] {
        let mut bundle = rt.bundle(&format!("link{name}"), &["true"]);
        let _ = std::fs::remove_dir(bundle.rootfs(at));
        std::fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
        symlink("/elsewhere", bundle.rootfs(at)).unwrap();
        bundle.edit(|_| {});
        let output = rt.run(&format!("link{name}"), &bundle);
        assert_eq!(output.code(), 1);
        assert!(
            output.stderr.contains("ordinary directory"),
            "{}",
            output.stderr
        );
    }
}

/// Every plain path trick: destinations that lead out of the root.
#[test]
fn mounts_stay_inside_the_root() {
    let Some(rt) = Runtime::new() else { return };
    let outside = rt.root.folder("outside");
    for (name, destination) in [
        ("up", "/../../../../outside/x"),
        ("abs", "/abs/x"),
        ("rel", "/rel/x"),
    ] {
        let mut bundle = rt.bundle(name, &["sh", "-c", "echo fine"]);
        symlink(&outside, bundle.rootfs("abs")).unwrap();
        symlink("../../outside", bundle.rootfs("rel")).unwrap();
        std::fs::create_dir_all(bundle.rootfs(outside.to_str().unwrap())).unwrap();
        std::fs::create_dir_all(bundle.rootfs("outside")).unwrap();
        bundle.edit(|spec| {
            let mount = json!({"destination": destination, "type": "tmpfs", "source": "x"});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        });
        let output = rt.run(name, &bundle);
        assert_eq!(output.ok(), "fine");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}");
    }
}

/// CVE-2021-30465: another process swaps a directory of the root and a link out of it while mounts are made.
#[test]
fn mounts_stay_inside_while_links_are_swapped() {
    let Some(rt) = Runtime::new() else { return };
    let outside = rt.root.folder("outside");
    let mut bundle = rt.bundle("swap", &["true"]);
    let (here, there) = (bundle.rootfs("swapped"), bundle.rootfs("other"));
    std::fs::create_dir(&here).unwrap();
    symlink(&outside, &there).unwrap();
    bundle.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        for name in ["a", "b", "c"] {
            mounts.push(json!({"destination": format!("/swapped/{name}/deep"), "type": "tmpfs", "source": "x",
                "options": ["tmpcopyup"]}));
        }
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE);
            }
        });
        for turn in 0..15 {
            let output = rt.run(&format!("swap{turn}"), &bundle);
            // Refused or made inside, as the moment has it.
            let left = std::fs::read_dir(&outside).unwrap().count();
            assert_eq!(left, 0, "{turn}: {}", output.stderr);
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(!mounts.contains(&*outside.to_string_lossy()), "{mounts}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// CVE-2022-29162 (and CVE-2022-24769 of engines): capabilities are inheritable, so that a file's own inheritable set raises them.
#[test]
fn no_capability_is_inheritable_unasked() {
    let Some(rt) = Runtime::new() else { return };
    let bundle = rt.bundle("inherit", &["sleep", "1000"]);
    let (id, path) = (rt.id("inherit"), bundle.path().to_str().unwrap().to_owned());
    rt.call(&["create", "--bundle", &path, &id]).ok();
    rt.call(&["start", &id]).ok();
    let seen = |options: &[&str]| {
        let command = [id.as_str(), "grep", "CapInh", "/proc/self/status"];
        rt.call(&[&["exec"], options, &command].concat())
            .ok()
            .to_owned()
    };
    for options in [&[][..], &["--cap", "CAP_NET_ADMIN"], &["--user", "1000"]] {
        assert_eq!(seen(options), "CapInh:\t0000000000000000", "{options:?}");
    }
    rt.call(&["delete", "--force", &id]).ok();
}

/// CVE-2024-21626: the working directory is a descriptor of the host that leaked.
#[test]
fn the_working_directory_lies_below_the_root() {
    let Some(rt) = Runtime::new() else { return };
    for number in 3..12 {
        let name = format!("cwd{number}");
        let output = rt.script(
            &name,
            // A descriptor of the container's own root does no harm; the image has no such file.
            "cat ../../../../../../etc/hostname",
            |spec| {
                spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
            },
        );
        assert_ne!(output.code(), 0, "{number}: {}", output.stdout);
    }
}

/// CVE-2024-45310: the runtime makes files outside while it makes mount points.
#[test]
fn mount_points_are_not_made_outside() {
    let Some(rt) = Runtime::new() else { return };
    let mut bundle = rt.bundle("dangling", &["true"]);
    let target = rt.root.join("made");
    symlink(&target, bundle.rootfs("dangling")).unwrap();
    bundle.edit(|spec| {
        let mount =
            json!({"destination": "/dangling", "source": "/etc/hostname", "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    rt.run("dangling", &bundle);
    assert!(!target.exists());
}

/// CVE-2025-31133: /dev/null of the image is something else, and masks bind it.
#[test]
fn masks_come_from_the_host_s_null() {
    let Some(rt) = Runtime::new() else { return };
    let mut bundle = rt.bundle(
        "null",
        &[
            "sh",
            "-c",
            "cat /etc/secret; echo over > /etc/secret; cat /etc/victim",
        ],
    );
    std::fs::create_dir_all(bundle.rootfs("dev")).unwrap();
    std::fs::write(bundle.rootfs("etc/secret"), "secret").unwrap();
    std::fs::write(bundle.rootfs("etc/victim"), "victim").unwrap();
    symlink("/etc/victim", bundle.rootfs("dev/null")).unwrap();
    bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/etc/secret"]);
        // The image's own /dev.
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let output = rt.run("null", &bundle);
    // Either refused because of the link in the device's place, or masked by the real one.
    if output.code() == 0 {
        assert_eq!(output.stdout, "victim");
    } else {
        assert!(output.stderr.contains("/dev/null"), "{}", output.stderr);
    }
}

/// CVE-2025-52565: /dev/console or /dev/pts of the image lead elsewhere.
#[test]
fn the_console_is_not_bound_elsewhere() {
    let Some(rt) = Runtime::new() else { return };
    let mut bundle = rt.bundle("console", &["true"]);
    std::fs::create_dir_all(bundle.rootfs("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", bundle.rootfs("dev/pts")).unwrap();
    bundle.edit(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let output = rt.run("console", &bundle);
    assert_ne!(output.code(), 0);
}

/// Devices of the host are out of reach even with the right to make their nodes.
#[test]
fn the_host_s_disks_cannot_be_opened() {
    let Some(rt) = Runtime::new() else { return };
    let script = "mknod /tmp/disk b 259 0 || mknod /tmp/disk b 8 0; cat /tmp/disk >/dev/null && echo READ; mknod /tmp/mem c 1 1; cat /tmp/mem > /dev/null && echo READ; mknod /tmp/z c 1 5 && head -c1 /tmp/z | wc -c";
    let output = rt.script("disk", script, |_| {});
    assert_eq!(output.stdout, "1\n", "{}", output.stderr);
}

/// Masked and read-only paths hold.
#[test]
fn protected_paths_are_protected() {
    let Some(rt) = Runtime::new() else { return };
    let script = "cat /proc/keys; ls /sys/firmware; (echo x > /proc/sys/kernel/hostname) 2>&1; (echo x > /sys/x) 2>&1";
    let output = rt.script("protected", script, |_| {});
    assert_eq!(
        output.stdout.matches("Read-only file system").count(),
        2,
        "{}",
        output.stdout
    );
    assert_eq!(output.stdout.lines().count(), 2, "{}", output.stdout);
}
