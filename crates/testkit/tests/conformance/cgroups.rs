//! `linux.resources`, `linux.cgroupsPath`, `update` and `events` (config-linux.md, "Control groups").

use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, cgroup_file, cgroup_folders, cgroup_v2, is};

fn with(resources: Value) -> Case {
    Case::idle().edit(|spec| {
        for (key, value) in resources.as_object().expect("an object") {
            spec["linux"]["resources"][key] = value.clone();
        }
    })
}

#[test]
fn the_container_is_in_its_cgroup() {
    let case = Case::idle();
    case.up();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", case.pid())).expect("cgroups");
    assert!(
        own.lines()
            .any(|line| line.ends_with(&format!(":/{}", case.id))),
        "{own}"
    );
    assert!(!cgroup_folders(&case.id).is_empty());
    case.call(["delete", "--force", &case.id]).ok();
    assert!(
        cgroup_folders(&case.id).is_empty(),
        "the cgroup remains: {:?}",
        cgroup_folders(&case.id)
    );
}

#[test]
fn memory() {
    let case = with(json!({"memory": {"limit": 64 << 20, "reservation": 32 << 20}}));
    case.up();
    assert_eq!(
        cgroup_file(&case, "memory/memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(
        cgroup_file(&case, "memory/memory.soft_limit_in_bytes", "memory.low"),
        (32 << 20).to_string()
    );
}

#[test]
fn memory_with_swap() {
    cannot!(
        cgroup_v2()
            && !std::path::Path::new("/sys/fs/cgroup/init/memory.swap.max").exists()
            && !std::path::Path::new("/proc/swaps").exists(),
        "no swap accounting"
    );
    let case = with(json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}));
    case.up();
    // The spec counts memory and swap together, as v1 does; v2 counts swap alone.
    let expected = if cgroup_v2() { 32 << 20 } else { 96 << 20 };
    assert_eq!(
        cgroup_file(
            &case,
            "memory/memory.memsw.limit_in_bytes",
            "memory.swap.max"
        ),
        expected.to_string()
    );
}

#[test]
fn processor_time() {
    let case = with(json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}));
    case.up();
    if cgroup_v2() {
        assert_eq!(cgroup_file(&case, "", "cpu.max"), "50000 100000");
        // 2 to 262144 shares on 1 to 10000: runtimes differ in the curve, not in its ends or direction.
        let weight: u32 = cgroup_file(&case, "", "cpu.weight")
            .parse()
            .expect("a weight");
        assert!((10..=100).contains(&weight), "{weight}");
    } else {
        assert_eq!(cgroup_file(&case, "cpu/cpu.cfs_quota_us", ""), "50000");
        assert_eq!(cgroup_file(&case, "cpu/cpu.cfs_period_us", ""), "100000");
        assert_eq!(cgroup_file(&case, "cpu/cpu.shares", ""), "512");
    }
}

#[test]
fn processors() {
    let case = with(json!({"cpu": {"cpus": "0", "mems": "0"}}));
    case.up();
    assert_eq!(cgroup_file(&case, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(cgroup_file(&case, "cpuset/cpuset.mems", "cpuset.mems"), "0");
}

#[test]
fn processes() {
    let case = with(json!({"pids": {"limit": 17}}));
    case.up();
    assert_eq!(cgroup_file(&case, "pids/pids.max", "pids.max"), "17");
}

#[test]
fn the_limit_of_processes_holds() {
    let case = Case::script("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo never")
        .edit(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 5}));
    let output = case.run();
    assert!(
        output.stderr.contains("can't fork") && !output.stdout.contains("never"),
        "{output:?}"
    );
}

#[test]
fn the_limit_of_memory_holds() {
    let case = Case::new(&["tail", "/dev/zero"]).edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    assert_eq!(case.run().code(), 137, "killed for want of memory");
}

#[test]
fn update_changes_limits() {
    let case = with(json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}));
    case.up();
    case.call([
        "update",
        "--memory",
        &(128 << 20).to_string(),
        "--pids-limit",
        "30",
        "--cpu-share",
        "256",
        &case.id,
    ])
    .ok();
    assert_eq!(
        cgroup_file(&case, "memory/memory.limit_in_bytes", "memory.max"),
        (128 << 20).to_string()
    );
    assert_eq!(cgroup_file(&case, "pids/pids.max", "pids.max"), "30");
    if !cgroup_v2() {
        assert_eq!(cgroup_file(&case, "cpu/cpu.shares", ""), "256");
    }
    let path = case.root.file(
        "resources.json",
        json!({"memory": {"limit": 96 << 20}}).to_string(),
    );
    case.call(["update", "--resources", &path.to_string_lossy(), &case.id])
        .ok();
    assert_eq!(
        cgroup_file(&case, "memory/memory.limit_in_bytes", "memory.max"),
        (96 << 20).to_string()
    );
}

#[test]
fn unified_files() {
    cannot!(!cgroup_v2(), "the machine has cgroup v1");
    let case = with(json!({"unified": {"memory.high": "33554432", "pids.max": "19"}}));
    case.up();
    assert_eq!(cgroup_file(&case, "", "memory.high"), "33554432");
    assert_eq!(cgroup_file(&case, "", "pids.max"), "19");
}

#[test]
fn unified_files_that_are_paths_are_refused() {
    cannot!(!cgroup_v2(), "the machine has cgroup v1");
    let case = with(json!({"unified": {"../memory.high": "1"}}));
    assert_ne!(case.try_create().code(), 0);
}

#[test]
fn events_give_statistics() {
    cannot!(is(&[Flavor::Crun]), "crun has no events");
    let case = with(json!({"pids": {"limit": 17}}));
    case.up();
    let output = case.call(["events", "--stats", &case.id]);
    let event: Value = serde_json::from_str(output.ok()).expect("JSON");
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!(case.id))
    );
    assert_eq!(event["data"]["pids"]["limit"], 17, "{event}");
    assert!(
        event["data"]["pids"]["current"]
            .as_u64()
            .is_some_and(|count| count >= 1),
        "{event}"
    );
    assert!(
        event["data"]["memory"]["usage"]["usage"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0),
        "{event}"
    );
}

#[test]
fn events_give_pressure() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "runc gives pressure from 1.2 on, and crun has no events"
    );
    cannot!(
        !cgroup_v2() || !std::path::Path::new("/proc/pressure").exists(),
        "no pressure is measured for version 1"
    );
    let case = Case::idle();
    case.up();
    let output = case.call(["events", "--stats", &case.id]);
    let event: Value = serde_json::from_str(output.ok()).expect("JSON");
    for member in ["cpu", "memory", "blkio"] {
        let some = &event["data"][member]["psi"]["some"];
        assert!(
            some["total"].is_u64() && some["avg10"].is_f64(),
            "{member}: {event}"
        );
    }
}

#[test]
fn events_tell_of_a_kill_for_lack_of_memory() {
    cannot!(is(&[Flavor::Crun]), "crun has no events");
    let case = Case::script("read go < /go; exec tail /dev/zero");
    let limits = json!({"memory": {"limit": 33_554_432, "swap": 33_554_432}});
    let case = case.edit(|spec| spec["linux"]["resources"] = limits);
    let fifo = case.bundle.rootfs("go");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("run mkfifo").success());
    case.up();
    let mut events = case.runtime(["events", "--interval", "1s", &case.id]);
    let events = events.stdout(std::process::Stdio::piped()).spawn();
    let events = events.expect("start events");
    // Its first reading is there before the memory is short.
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::fs::write(&fifo, "\n").expect("let it go");
    let output = events.wait_with_output().expect("wait for events");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(r#""type":"oom""#), "{text}");
}

#[test]
fn a_nested_path() {
    let case = Case::idle();
    let path = format!("/{}/inner", case.id);
    let case = case.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    case.up();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", case.pid())).expect("cgroups");
    assert!(
        own.lines().any(|line| line.ends_with(&format!(":{path}"))),
        "{own}"
    );
    case.call(["delete", "--force", &case.id]).ok();
    // The parent was not the container's to begin with: whoever names it keeps or removes it.
    for folder in cgroup_folders(&case.id) {
        assert!(!folder.join("inner").exists(), "{}", folder.display());
        std::fs::remove_dir(&folder)
            .unwrap_or_else(|error| panic!("remove {}: {error}", folder.display()));
    }
}

/// Where the host has huge pages and their control group.
#[test]
fn huge_pages() {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter();
    let has_2m = sizes
        .flatten()
        .flatten()
        .any(|entry| entry.file_name() == "hugepages-2048kB");
    cannot!(!has_2m, "this kernel has no huge pages of 2 MiB");
    let controlled = if cgroup_v2() {
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|list| list.contains("hugetlb"))
    } else {
        std::path::Path::new("/sys/fs/cgroup/hugetlb").is_dir()
    };
    cannot!(!controlled, "no control group of huge pages is mounted");
    let case = with(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    case.up();
    let limit = |v1, v2| cgroup_file(&case, v1, v2);
    assert_eq!(
        limit("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
        "4194304"
    );
}

/// Seen with the module rdma_rxe, which Debian's cloud kernel lacks: `HULL_VM_KERNEL=linux-image-6.12-amd64`.
#[test]
fn devices_for_remote_memory() {
    let devices = std::fs::read_dir("/sys/class/infiniband").into_iter();
    let Some(device) = devices.flatten().flatten().next() else {
        hull_testkit::skip!("no RDMA device");
        return;
    };
    cannot!(is(&[Flavor::Crun]), "crun passes over rdma");
    let name = device.file_name().to_string_lossy().into_owned();
    let case = with(json!({"rdma": {name.as_str(): {"hcaHandles": 2, "hcaObjects": 100}}}));
    case.up();
    assert_eq!(
        cgroup_file(&case, "rdma/rdma.max", "rdma.max"),
        format!("{name} hca_handle=2 hca_object=100")
    );
}

/// No machine of ours has an RDMA device; that it is missing is the error, and nothing is left of the attempt.
#[test]
fn a_device_for_remote_memory_that_is_not_there() {
    cannot!(
        is(&[Flavor::Runc]) && !cgroup_v2(),
        "runc passes over rdma where the control group is missing"
    );
    cannot!(is(&[Flavor::Crun]), "crun passes over rdma");
    let case = with(json!({"rdma": {"nosuch0": {"hcaHandles": 2, "hcaObjects": 100}}}));
    let output = case.try_create();
    assert_ne!(output.code(), 0);
    if is(&[Flavor::Hull]) {
        assert!(
            output.stderr.contains("linux.resources.rdma"),
            "{}",
            output.stderr
        );
    }
}

/// Network classes and priorities are version 1's: set where it is mounted, and refused by name elsewhere.
#[test]
fn network_classes() {
    let mounted = std::path::Path::new("/sys/fs/cgroup/net_cls").is_dir();
    cannot!(!mounted && !is(&[Flavor::Hull]), "no net_cls control group");
    let case = with(json!({"network": {"classID": 1_048_577}}));
    if mounted {
        case.up();
        assert_eq!(cgroup_file(&case, "net_cls/net_cls.classid", ""), "1048577");
    } else {
        let output = case.try_create();
        assert_ne!(output.code(), 0);
        assert!(
            output.stderr.contains("linux.resources.network.classID"),
            "{}",
            output.stderr
        );
    }
}
