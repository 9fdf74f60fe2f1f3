//! Fields and flags that few use: each has its effect.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Command;

use hull_testkit::process::run;
use serde_json::{Value, json};

use crate::common::Runtime;

#[test]
fn network_devices_move_in() {
    let Some(rt) = Runtime::new() else { return };
    // Names of links are short.
    let name = format!("hrt{}", std::process::id() % 100_000);
    let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
    ip(&[
        "link",
        "add",
        &name,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{name}p"),
    ]);
    let output = rt.script(
        "netdev",
        "ls /sys/class/net; cat /sys/class/net/inside/flags",
        |spec| {
            spec["linux"]["netDevices"] = json!({&name: {"name": "inside"}});
        },
    );
    // Gone with the container's namespace, and its peer with it.
    let text = output.stdout;
    let _ = Command::new("ip").args(["link", "del", &name]).output();
    assert_eq!(text, "inside\nlo\n0x1003\n", "{}", output.stderr);
}

#[test]
fn personality_and_memory_policy() {
    let Some(rt) = Runtime::new() else { return };
    let output = rt.script(
        "personality",
        "uname -m; grep -c bind:0 /proc/self/numa_maps",
        |spec| {
            spec["linux"]["personality"] = json!({"domain": "LINUX32"});
            spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
        },
    );
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next(), Some("i686"), "{}", output.stderr);
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return hull_testkit::skip!("the kernel has no numa_maps");
    }
    assert!(lines.next().is_some_and(|n| n != "0"), "{}", output.stdout);
}

#[test]
fn the_cpus_of_an_exec() {
    let Some(rt) = Runtime::new() else { return };
    let bundle = rt.bundle("affinity", &["sleep", "1000"]);
    let (id, path) = (
        rt.id("affinity"),
        bundle.path().to_str().unwrap().to_owned(),
    );
    rt.call(&["create", "--bundle", &path, &id]).ok();
    rt.call(&["start", &id]).ok();
    let process = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
        "env": ["PATH=/bin"], "execCPUAffinity": {"initial": "0", "final": "1"}});
    let file = rt.root.file("process.json", process.to_string());
    let output = rt.call(&["exec", "--process", file.to_str().unwrap(), &id]);
    assert_eq!(output.ok(), "Cpus_allowed_list:\t1");
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn the_root_is_moved_where_it_cannot_be_pivoted() {
    let Some(rt) = Runtime::new() else { return };
    let bundle = rt.bundle(
        "move",
        &["/bin/sh", "-c", "ls /; grep -c ' / ' /proc/mounts"],
    );
    let path = bundle.path().to_str().unwrap().to_owned();
    let output = rt.call(&["run", "--no-pivot", "--bundle", &path, &rt.id("move")]);
    assert!(output.ok().contains("bin\ndev\n"), "{}", output.stdout);
}

#[test]
fn a_shared_root_stays_off_the_host() {
    let Some(rt) = Runtime::new() else { return };
    for propagation in ["rshared", "rslave", "rprivate", "shared"] {
        let output = rt.script(
            &format!("prop{propagation}"),
            "head -1 /proc/self/mountinfo",
            |spec| {
                spec["linux"]["rootfsPropagation"] = json!(propagation);
            },
        );
        assert_eq!(
            output.ok().contains("shared:"),
            propagation.contains("shared"),
            "{propagation}"
        );
    }
    let left = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!left.contains(&rt.root.name()), "{left}");
}

/// Nobody answers, and nothing hangs: no call of init's that could be notified stands between the filter and the hand-over, of the
/// container's process and of an exec's.
#[test]
fn a_notified_sendmsg_does_not_hang_create_or_exec() {
    let Some(rt) = Runtime::new() else { return };
    let path = rt.root.join("listener");
    let listener = UnixListener::bind(&path).unwrap();
    for no_new_privileges in [true, false] {
        let name = format!("sendmsg{no_new_privileges}");
        let mut bundle = rt.bundle(&name, &["sleep", "1000"]);
        bundle.edit(|spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                "syscalls": [{"names": ["sendmsg", "sendto", "sendmmsg"], "action": "SCMP_ACT_NOTIFY"}]});
        });
        let (id, bundle_path) = (rt.id(&name), bundle.path().to_str().unwrap().to_owned());
        rt.call(&["create", "--bundle", &bundle_path, &id]).ok();
        let given = || {
            let (socket, _) = listener.accept().unwrap();
            let mut text = [0; 8192];
            let (n, fds) = hull_sys::fdpass::recv(socket.as_fd(), &mut text).unwrap();
            let message: Value = serde_json::from_slice(&text[..n]).unwrap();
            assert_eq!(fds.len(), 1);
            (message, fds)
        };
        let (message, _fd) = given();
        assert_eq!(message["state"]["status"], "creating");
        assert_eq!(message["pid"], message["state"]["pid"]);
        rt.call(&["start", &id]).ok();
        assert_eq!(rt.call(&["exec", &id, "echo", "done"]).ok(), "done");
        let (exec, _fd) = given();
        assert_eq!(exec["state"]["status"], "running");
        assert_eq!(exec["state"]["id"], json!(id));
        assert_ne!(exec["pid"], exec["state"]["pid"]);
        rt.call(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn the_seccomp_listener_gets_the_descriptor() {
    let Some(rt) = Runtime::new() else { return };
    let path = rt.root.join("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let mut bundle = rt.bundle("notify", &["mkdir", "/made"]);
    bundle.edit(|spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "listenerMetadata": "meta",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]});
    });
    let (id, bundle_path) = (rt.id("notify"), bundle.path().to_str().unwrap().to_owned());
    rt.call(&["create", "--bundle", &bundle_path, &id]).ok();
    rt.call(&["start", &id]).ok();
    let (socket, _) = listener.accept().unwrap();
    let mut text = [0; 8192];
    let (n, fds) = hull_sys::fdpass::recv(socket.as_fd(), &mut text).unwrap();
    let message: Value = serde_json::from_slice(&text[..n]).unwrap();
    let state: Value = serde_json::from_str(rt.call(&["state", &id]).ok()).unwrap();
    assert_eq!(fds.len(), 1);
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(message["metadata"], "meta");
    assert_eq!(message["pid"], state["pid"]);
    assert_eq!(message["state"]["id"], json!(id));
    // Nobody answers: with the descriptor closed the call fails with ENOSYS.
    drop(fds);
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn sockets_are_passed_on_and_the_pidfd_handed_out() {
    let Some(rt) = Runtime::new() else { return };
    let path = rt.root.join("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    let bundle = rt.bundle(
        "fds",
        &[
            "/bin/sh",
            "-c",
            "echo $LISTEN_FDS $LISTEN_PID; ls /proc/$$/fd | tr '\\n' ' '",
        ],
    );
    let (id, bundle_path) = (rt.id("fds"), bundle.path().to_str().unwrap().to_owned());
    let socket = path.to_str().unwrap();
    // The shell gives descriptor 3 to the runtime, and nothing that another test left open while this one forked.
    let create = format!(
        "exec 3</dev/null 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-; LISTEN_FDS=1 exec '{}' --root '{}' create --pidfd-socket '{socket}' --bundle '{bundle_path}' '{id}'",
        Runtime::program().display(),
        rt.root.join("state").display(),
    );
    let output = rt.root.join("output");
    let file = std::fs::File::create(&output).unwrap();
    let status = Command::new("sh")
        .args(["-c", &create])
        .stdin(std::process::Stdio::null())
        .stdout(file)
        .status();
    assert!(status.unwrap().success());
    let (connection, _) = listener.accept().unwrap();
    let (_, fds) = hull_sys::fdpass::recv(connection.as_fd(), &mut [0; 64]).unwrap();
    rt.call(&["start", &id]).ok();
    assert!(hull_sys::pidfd::ended_within(fds[0].as_fd(), 10_000).unwrap());
    let text = std::fs::read_to_string(output).unwrap();
    assert_eq!(text, "1 1\n0 1 2 3 ");
    rt.call(&["delete", "--force", &id]).ok();
}

#[test]
fn the_log_is_what_containerd_reads() {
    let Some(rt) = Runtime::new() else { return };
    let log = rt.root.join("log.json");
    let mut command = Command::new(Runtime::program());
    command
        .args(["--log-format", "json", "--log"])
        .arg(&log)
        .args(["state", "none"]);
    let output = run(&mut command, std::time::Duration::from_secs(30)).unwrap();
    assert_eq!(output.code(), 1);
    let line: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(
        line["msg"],
        "runc state failed: container does not exist: none"
    );
}

/// Daemons that end remove the empty cgroup above the containers', while others make containers in it.
#[test]
fn an_empty_parent_is_removed_and_made_again() {
    use hull_runtime::CgroupManager;
    use hull_runtime::cgroup::{CgroupPaths, Host, remove_empty};
    use std::sync::atomic::{AtomicBool, Ordering};

    let Some(rt) = Runtime::new() else { return };
    let parent = rt.id("parent");
    let host = Host::probe().expect("hierarchies");
    let dirs = |host: &Host| -> Vec<std::path::PathBuf> {
        let hierarchies = host.hierarchies().iter();
        hierarchies.map(|h| h.mount.join(&parent)).collect()
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                remove_empty(&parent).expect("remove");
            }
        });
        let makers: Vec<_> = (0..4)
            .map(|worker| {
                let (host, parent) = (&host, &parent);
                scope.spawn(move || {
                    for n in 0..50 {
                        let path = format!("/{parent}/{worker}-{n}");
                        let manager = CgroupManager::Cgroupfs;
                        let paths = CgroupPaths::locate(host, Some(&path), "x", manager, false)
                            .expect("locate");
                        paths.create(&Default::default()).expect("create");
                        assert!(paths.all().all(std::path::Path::exists));
                        paths.remove().expect("remove");
                    }
                })
            })
            .collect();
        for maker in makers {
            maker.join().expect("a maker");
        }
        done.store(true, Ordering::Relaxed);
        remover.join().expect("the remover");
    });
    // One with something in it stays, and says nothing.
    let manager = CgroupManager::Cgroupfs;
    let path = format!("/{parent}/kept");
    let kept = CgroupPaths::locate(&host, Some(&path), "x", manager, false).expect("locate");
    kept.create(&Default::default()).expect("create");
    remove_empty(&parent).expect("in use");
    assert!(kept.all().all(std::path::Path::exists));
    kept.remove().expect("remove");
    remove_empty(&parent).expect("empty");
    assert!(dirs(&host).iter().all(|dir| !dir.exists()));
}
