//! Limits in the files of cgroup v1 (Documentation/admin-guide/cgroup-v1).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hull_oci::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::devices::{Rule, v1_lines};
use super::{CgroupPaths, put};
use crate::error::Context;
use crate::{Error, Result};

/// A new cpuset has no CPU and no memory node, and takes no process: it gets its parent's, up to the first
/// ancestor that has some.
pub(super) fn inherit_cpuset(path: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = path.join(file);
        let text = fs::read_to_string(&own).on("read", &own)?;
        if !text.trim().is_empty() {
            continue;
        }
        let Some(parent) = path.parent() else {
            continue;
        };
        let above = parent.join(file);
        let mut value = fs::read_to_string(&above).on("read", &above)?;
        if value.trim().is_empty() {
            inherit_cpuset(parent)?;
            value = fs::read_to_string(&above).on("read", &above)?;
        }
        fs::write(&own, value.trim()).on("write", own)?;
    }
    Ok(())
}

/// Where a controller's files are; an error when something is asked of one that the host has not.
fn controller<'a>(paths: &'a CgroupPaths, name: &str, field: &'static str) -> Result<&'a Path> {
    paths.controller(name).ok_or_else(|| Error::Unsupported {
        field: field.into(),
        reason: format!("the host has no {name} cgroup"),
    })
}

/// Sets what is given.
pub(super) fn apply(paths: &CgroupPaths, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        apply_memory(paths, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(paths, cpu)?;
    }
    // 0 is what Go leaves when nothing was given; runc 1.1 reads it as no limit.
    if let Some(limit) = resources
        .pids
        .as_ref()
        .and_then(|p| p.limit)
        .filter(|l| *l != 0)
    {
        let directory = controller(paths, "pids", "linux.resources.pids.limit")?;
        let value = if limit < 0 {
            "max".to_owned()
        } else {
            limit.to_string()
        };
        put(directory, "pids.max", &value, "linux.resources.pids.limit")?;
    }
    if let Some(io) = &resources.block_io {
        apply_block_io(paths, io)?;
    }
    for limit in &resources.hugepage_limits {
        let field = "linux.resources.hugepageLimits";
        let directory = controller(paths, "hugetlb", field)?;
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
        put(directory, &file, &limit.limit.to_string(), field)?;
        // Reservations have a counter of their own since Linux 5.7.
        let reserved = format!("hugetlb.{}.rsvd.limit_in_bytes", limit.page_size);
        if directory.join(&reserved).exists() {
            put(directory, &reserved, &limit.limit.to_string(), field)?;
        }
    }
    apply_network(paths, resources)?;
    for (device, limit) in &resources.rdma {
        let field = "linux.resources.rdma";
        let directory = controller(paths, "rdma", field)?;
        let handles = limit.hca_handles.map(|n| format!(" hca_handle={n}"));
        let objects = limit.hca_objects.map(|n| format!(" hca_object={n}"));
        let line = format!(
            "{device}{}{}",
            handles.unwrap_or_default(),
            objects.unwrap_or_default()
        );
        put(directory, "rdma.max", &line, field)?;
    }
    if !resources.unified.is_empty() {
        return Err(Error::Unsupported {
            field: "linux.resources.unified".into(),
            reason: "the host's controllers are cgroup v1".into(),
        });
    }
    Ok(())
}

fn apply_memory(paths: &CgroupPaths, memory: &Memory) -> Result<()> {
    const LIMIT: &str = "linux.resources.memory.limit";
    const SWAP: &str = "linux.resources.memory.swap";
    let wants = [
        memory.limit,
        memory.swap,
        memory.reservation,
        memory.kernel_tcp,
    ];
    let wants_any = wants.iter().any(|v| v.is_some_and(|n| n != 0))
        || memory.swappiness.is_some()
        || memory.disable_oom_killer == Some(true);
    if !wants_any {
        return Ok(());
    }
    let directory = controller(paths, "memory", "linux.resources.memory")?;
    let limit = memory.limit.filter(|n| *n != 0);
    // Without limit there is no bound to memory and swap together either, unless one is given.
    let swap = memory
        .swap
        .filter(|n| *n != 0)
        .or(limit.filter(|n| *n == -1));
    let set = |file: &str, value: Option<i64>, field| match value {
        Some(value) => put(directory, file, &value.to_string(), field),
        None => Ok(()),
    };
    let memsw = "memory.memsw.limit_in_bytes";
    if raises(directory, memsw, swap) {
        // memsw may never be below limit: whichever rises goes first.
        set(memsw, swap, SWAP)?;
        set("memory.limit_in_bytes", limit, LIMIT)?;
    } else {
        set("memory.limit_in_bytes", limit, LIMIT)?;
        set(memsw, swap, SWAP)?;
    }
    let reservation = memory.reservation.filter(|n| *n != 0);
    set(
        "memory.soft_limit_in_bytes",
        reservation,
        "linux.resources.memory.reservation",
    )?;
    let tcp = memory.kernel_tcp.filter(|n| *n != 0);
    set(
        "memory.kmem.tcp.limit_in_bytes",
        tcp,
        "linux.resources.memory.kernelTCP",
    )?;
    // memory.kernel: the kernel ignores or refuses it since 5.16, as every runtime does by now.
    if let Some(swappiness) = memory.swappiness {
        let field = "linux.resources.memory.swappiness";
        put(
            directory,
            "memory.swappiness",
            &swappiness.to_string(),
            field,
        )?;
    }
    if memory.disable_oom_killer == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        put(directory, "memory.oom_control", "1", field)?;
    }
    Ok(())
}

/// Whether `value` is above what the file says now; -1 is above everything.
fn raises(directory: &Path, file: &str, value: Option<i64>) -> bool {
    let Some(value) = value else {
        return false;
    };
    let now = fs::read_to_string(directory.join(file)).unwrap_or_default();
    let now: u64 = now.trim().parse().unwrap_or(u64::MAX);
    u64::try_from(value).map_or(true, |value| value > now)
}

fn apply_cpu(paths: &CgroupPaths, cpu: &Cpu) -> Result<()> {
    let text = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    let signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    // The period first: a quota is checked against it, and a runtime against its period.
    let settings = [
        (
            "cpu.rt_period_us",
            text(cpu.realtime_period),
            "linux.resources.cpu.realtimePeriod",
        ),
        (
            "cpu.rt_runtime_us",
            signed(cpu.realtime_runtime),
            "linux.resources.cpu.realtimeRuntime",
        ),
        ("cpu.shares", text(cpu.shares), "linux.resources.cpu.shares"),
        (
            "cpu.cfs_period_us",
            text(cpu.period),
            "linux.resources.cpu.period",
        ),
        (
            "cpu.cfs_quota_us",
            signed(cpu.quota),
            "linux.resources.cpu.quota",
        ),
        (
            "cpu.cfs_burst_us",
            cpu.burst.map(|n| n.to_string()),
            "linux.resources.cpu.burst",
        ),
        (
            "cpu.idle",
            cpu.idle.map(|n| n.to_string()),
            "linux.resources.cpu.idle",
        ),
    ];
    for (file, value, field) in settings {
        if let Some(value) = value {
            put(controller(paths, "cpu", field)?, file, &value, field)?;
        }
    }
    let sets = [
        ("cpuset.cpus", &cpu.cpus, "linux.resources.cpu.cpus"),
        ("cpuset.mems", &cpu.mems, "linux.resources.cpu.mems"),
    ];
    for (file, value, field) in sets {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            put(controller(paths, "cpuset", field)?, file, value, field)?;
        }
    }
    Ok(())
}

fn apply_block_io(paths: &CgroupPaths, io: &BlockIo) -> Result<()> {
    const WEIGHT: &str = "linux.resources.blockIO.weight";
    if let Some(weight) = io.weight.filter(|w| *w != 0) {
        let directory = controller(paths, "blkio", WEIGHT)?;
        // The file's name depends on the scheduler: CFQ's, or BFQ's since Linux 5.0.
        let bfq = directory.join("blkio.bfq.weight").exists();
        let file = if bfq {
            "blkio.bfq.weight"
        } else {
            "blkio.weight"
        };
        put(directory, file, &weight.to_string(), WEIGHT)?;
    }
    if let Some(weight) = io.leaf_weight.filter(|w| *w != 0) {
        let field = "linux.resources.blockIO.leafWeight";
        put(
            controller(paths, "blkio", field)?,
            "blkio.leaf_weight",
            &weight.to_string(),
            field,
        )?;
    }
    for device in &io.weight_device {
        let field = "linux.resources.blockIO.weightDevice";
        let directory = controller(paths, "blkio", field)?;
        let at = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            let bfq = directory.join("blkio.bfq.weight_device").exists();
            let file = if bfq {
                "blkio.bfq.weight_device"
            } else {
                "blkio.weight_device"
            };
            put(directory, file, &format!("{at} {weight}"), field)?;
        }
        if let Some(weight) = device.leaf_weight.filter(|w| *w != 0) {
            put(
                directory,
                "blkio.leaf_weight_device",
                &format!("{at} {weight}"),
                field,
            )?;
        }
    }
    let throttles: [(&str, &[ThrottleDevice], &str); 4] = [
        (
            "blkio.throttle.read_bps_device",
            &io.throttle_read_bps_device,
            "linux.resources.blockIO.throttleReadBpsDevice",
        ),
        (
            "blkio.throttle.write_bps_device",
            &io.throttle_write_bps_device,
            "linux.resources.blockIO.throttleWriteBpsDevice",
        ),
        (
            "blkio.throttle.read_iops_device",
            &io.throttle_read_iops_device,
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            "blkio.throttle.write_iops_device",
            &io.throttle_write_iops_device,
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ];
    for (file, devices, field) in throttles {
        for device in devices {
            let line = format!("{}:{} {}", device.major, device.minor, device.rate);
            put(controller(paths, "blkio", field)?, file, &line, field)?;
        }
    }
    Ok(())
}

fn apply_network(paths: &CgroupPaths, resources: &Resources) -> Result<()> {
    let Some(network) = &resources.network else {
        return Ok(());
    };
    if let Some(class) = network.class_id.filter(|c| *c != 0) {
        let field = "linux.resources.network.classID";
        put(
            controller(paths, "net_cls", field)?,
            "net_cls.classid",
            &class.to_string(),
            field,
        )?;
    }
    for entry in &network.priorities {
        let field = "linux.resources.network.priorities";
        let line = format!("{} {}", entry.name, entry.priority);
        put(
            controller(paths, "net_prio", field)?,
            "net_prio.ifpriomap",
            &line,
            field,
        )?;
    }
    Ok(())
}

/// Sets device rules.
pub(super) fn devices(paths: &CgroupPaths, rules: &[Rule]) -> Result<()> {
    let field = "linux.resources.devices";
    let directory = controller(paths, "devices", field)?;
    let mut open: Option<(&str, File)> = None;
    for (name, line) in v1_lines(rules) {
        let file = match open.take().filter(|(open, _)| *open == name) {
            Some((_, file)) => Ok(file),
            None => OpenOptions::new().write(true).open(directory.join(name)),
        };
        // One write(2) for each line: that is the unit which the kernel reads.
        let written = file.and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            Ok(file)
        });
        let file = written.map_err(|cause| Error::Limit {
            field,
            file: directory.join(name),
            value: line,
            cause,
        })?;
        open = Some((name, file));
    }
    Ok(())
}

/// Freezes or thaws. A process that is forking can escape one attempt, so it is written until it holds
/// (freezer-subsystem.txt: FREEZING may stay; writing again helps).
pub(super) fn freeze(path: &Path, frozen: bool, deadline: Duration) -> Result<()> {
    let file = path.join("freezer.state");
    let (wanted, end) = (
        if frozen { "FROZEN" } else { "THAWED" },
        Instant::now() + deadline,
    );
    let mut pause = Duration::from_micros(100);
    loop {
        fs::write(&file, wanted).on("write", &file)?;
        let state = fs::read_to_string(&file).on("read", &file)?;
        if state.trim() == wanted {
            return Ok(());
        }
        if Instant::now() >= end {
            // Half frozen helps nobody.
            fs::write(&file, "THAWED").on("write", &file)?;
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(source).on("freeze", path);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
