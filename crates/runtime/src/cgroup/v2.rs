//! Limits in the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hull_oci::runtime::{BlockIo, Cpu, Memory, Resources};
use hull_sys::bpf;

use super::devices::{Rule, program};
use super::put;
use crate::error::Context;
use crate::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the directory and its parents, and enables every controller on the way that the parent offers.
pub(super) fn make(path: &Path) -> Result<()> {
    let below = path.strip_prefix(ROOT).unwrap_or(path);
    let mut current = Path::new(ROOT).to_path_buf();
    let mut enabled = String::new();
    for component in below.components() {
        let file = current.join("cgroup.controllers");
        let offered = fs::read_to_string(&file).on("read", file)?;
        if !offered.trim().is_empty() && offered != enabled {
            enable(&current, &offered)?;
        }
        enabled = offered;
        current.push(component);
        super::make_all(&current)?;
    }
    Ok(())
}

/// Enables controllers for the children of `path`: all at once, or those that can be (a cgroup with processes
/// of its own refuses domain controllers; a limit that needs one then says so itself).
fn enable(path: &Path, offered: &str) -> Result<()> {
    let file = path.join("cgroup.subtree_control");
    let already = fs::read_to_string(&file).on("read", &file)?;
    let missing: Vec<String> = offered
        .split_whitespace()
        .filter(|name| !already.split_whitespace().any(|a| a == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() || fs::write(&file, missing.join(" ")).is_ok() {
        return Ok(());
    }
    for one in missing {
        // Told by the limit's own file being absent.
        let _ = fs::write(&file, one);
    }
    Ok(())
}

/// Sets what is given.
pub(super) fn apply(path: &Path, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        apply_memory(path, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(path, cpu)?;
    }
    if let Some(limit) = resources
        .pids
        .as_ref()
        .and_then(|p| p.limit)
        .filter(|l| *l != 0)
    {
        put(
            path,
            "pids.max",
            &number(limit),
            "linux.resources.pids.limit",
        )?;
    }
    if let Some(io) = &resources.block_io {
        apply_io(path, io)?;
    }
    for limit in &resources.hugepage_limits {
        let field = "linux.resources.hugepageLimits";
        let value = limit.limit.to_string();
        put(
            path,
            &format!("hugetlb.{}.max", limit.page_size),
            &value,
            field,
        )?;
        let reserved = format!("hugetlb.{}.rsvd.max", limit.page_size);
        if path.join(&reserved).exists() {
            put(path, &reserved, &value, field)?;
        }
    }
    for (device, limit) in &resources.rdma {
        let handles = limit.hca_handles.map(|n| format!(" hca_handle={n}"));
        let objects = limit.hca_objects.map(|n| format!(" hca_object={n}"));
        let line = format!(
            "{device}{}{}",
            handles.unwrap_or_default(),
            objects.unwrap_or_default()
        );
        put(path, "rdma.max", &line, "linux.resources.rdma")?;
    }
    if resources
        .network
        .as_ref()
        .is_some_and(|n| n.class_id.is_some_and(|c| c != 0))
    {
        return Err(Error::Unsupported {
            field: "linux.resources.network.classID".into(),
            reason: "cgroup v2 has no network classes".into(),
        });
    }
    for (file, value) in &resources.unified {
        // The name is one file of this directory: validation refused slashes.
        for line in value.lines() {
            put(path, file, line, "linux.resources.unified")?;
        }
    }
    Ok(())
}

/// -1 (any negative) is `max`.
fn number(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

/// The specification's swap is memory and swap together, as in v1: what of it is swap. `None`: nothing is said.
pub(super) fn swap_alone(memory: &Memory) -> Result<Option<i64>> {
    let limit = memory.limit.filter(|n| *n != 0);
    let swap = memory.swap.filter(|n| *n != 0);
    match (swap, limit) {
        (None, None) => Ok(None),
        (None, Some(limit)) => Ok((limit == -1).then_some(-1)),
        (Some(-1), _) => Ok(Some(-1)),
        (Some(total), Some(limit)) if limit > 0 && total >= limit => Ok(Some(total - limit)),
        (Some(_), _) => Err(Error::Unsupported {
            field: "linux.resources.memory.swap".into(),
            reason: "needs a memory limit that is not above it".into(),
        }),
    }
}

fn apply_memory(path: &Path, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|n| *n != 0);
    if let Some(value) = swap_alone(memory)? {
        let field = "linux.resources.memory.swap";
        let absent = !path.join("memory.swap.max").exists();
        // A kernel without swap accounting: no limit, and no swap at all, hold by themselves.
        if !(absent && value <= 0) {
            put(path, "memory.swap.max", &number(value), field)?;
        }
    }
    if let Some(limit) = limit {
        put(
            path,
            "memory.max",
            &number(limit),
            "linux.resources.memory.limit",
        )?;
    }
    if let Some(value) = memory.reservation.filter(|n| *n != 0) {
        put(
            path,
            "memory.low",
            &number(value),
            "linux.resources.memory.reservation",
        )?;
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(Error::Unsupported {
            field: "linux.resources.memory.disableOOMKiller".into(),
            reason: "cgroup v2 cannot".into(),
        });
    }
    Ok(())
}

/// cpu.shares 2 to 262144 onto cpu.weight 1 to 10000, as runc and systemd had it.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn apply_cpu(path: &Path, cpu: &Cpu) -> Result<()> {
    if let Some(idle) = cpu.idle {
        put(
            path,
            "cpu.idle",
            &idle.to_string(),
            "linux.resources.cpu.idle",
        )?;
    }
    // An idle group has no weight.
    if let Some(shares) = cpu.shares.filter(|n| *n != 0 && cpu.idle != Some(1)) {
        let weight = weight_of_shares(shares).to_string();
        put(path, "cpu.weight", &weight, "linux.resources.cpu.shares")?;
    }
    let (quota, period) = (
        cpu.quota.filter(|n| *n != 0),
        cpu.period.filter(|n| *n != 0),
    );
    if quota.is_some() || period.is_some() {
        let line = match (quota, period) {
            (Some(quota), Some(period)) => format!("{} {period}", number(quota)),
            (Some(quota), None) => number(quota),
            (None, period) => {
                // A period alone: the quota stays.
                let file = path.join("cpu.max");
                let now = fs::read_to_string(&file).on("read", file)?;
                let quota = now.split_whitespace().next().unwrap_or("max").to_owned();
                format!("{quota} {}", period.unwrap_or(100_000))
            }
        };
        put(path, "cpu.max", &line, "linux.resources.cpu.quota")?;
    }
    if let Some(burst) = cpu.burst {
        put(
            path,
            "cpu.max.burst",
            &burst.to_string(),
            "linux.resources.cpu.burst",
        )?;
    }
    if cpu.realtime_runtime.is_some_and(|n| n != 0) || cpu.realtime_period.is_some_and(|n| n != 0) {
        return Err(Error::Unsupported {
            field: "linux.resources.cpu.realtimeRuntime".into(),
            reason: "cgroup v2 has no real-time limits".into(),
        });
    }
    let sets = [
        ("cpuset.cpus", &cpu.cpus, "linux.resources.cpu.cpus"),
        ("cpuset.mems", &cpu.mems, "linux.resources.cpu.mems"),
    ];
    for (file, value, field) in sets {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            put(path, file, value, field)?;
        }
    }
    Ok(())
}

/// blkio's weights 10 to 1000 onto io.weight's 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn apply_io(path: &Path, io: &BlockIo) -> Result<()> {
    const WEIGHT: &str = "linux.resources.blockIO.weight";
    let bfq = path.join("io.bfq.weight").exists();
    if let Some(weight) = io.weight.filter(|w| *w != 0) {
        if bfq {
            put(path, "io.bfq.weight", &weight.to_string(), WEIGHT)?;
        } else {
            put(path, "io.weight", &io_weight(weight).to_string(), WEIGHT)?;
        }
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            let (file, weight) = match bfq {
                true => ("io.bfq.weight", u64::from(weight)),
                false => ("io.weight", io_weight(weight)),
            };
            let line = format!("{}:{} {weight}", device.major, device.minor);
            put(path, file, &line, "linux.resources.blockIO.weightDevice")?;
        }
    }
    let throttles = [
        (
            "rbps",
            &io.throttle_read_bps_device,
            "linux.resources.blockIO.throttleReadBpsDevice",
        ),
        (
            "wbps",
            &io.throttle_write_bps_device,
            "linux.resources.blockIO.throttleWriteBpsDevice",
        ),
        (
            "riops",
            &io.throttle_read_iops_device,
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            "wiops",
            &io.throttle_write_iops_device,
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ];
    for (key, devices, field) in throttles {
        for device in devices {
            let value = if device.rate == 0 {
                "max".into()
            } else {
                device.rate.to_string()
            };
            put(
                path,
                "io.max",
                &format!("{}:{} {key}={value}", device.major, device.minor),
                field,
            )?;
        }
    }
    Ok(())
}

/// Replaces the cgroup's device program. The new one is attached before the old ones go: an access must pass
/// all that are attached, so there is no moment without rules.
pub(super) fn devices(path: &Path, rules: &[Rule]) -> Result<()> {
    let directory = hull_sys::path::open_dir(path).on("open", path)?;
    // Attaching wants more than a path descriptor.
    let directory = rustix::fs::openat(
        &directory,
        c".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .on("open", path)?;
    let old = bpf::query_device(directory.as_fd()).on("query device rules of", path)?;
    let new = bpf::load_device(&program(rules)).on("load device rules for", path)?;
    bpf::attach_device(directory.as_fd(), new.as_fd()).on("attach device rules to", path)?;
    for program in old {
        bpf::detach_device(directory.as_fd(), program.as_fd())
            .on("detach device rules of", path)?;
    }
    Ok(())
}

/// Freezes or thaws, and waits until the kernel reports it.
pub(super) fn freeze(path: &Path, frozen: bool, deadline: Duration) -> Result<()> {
    let file = path.join("cgroup.freeze");
    fs::write(&file, if frozen { "1" } else { "0" }).on("write", &file)?;
    let (events, end) = (path.join("cgroup.events"), Instant::now() + deadline);
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let mut pause = Duration::from_micros(100);
    loop {
        let text = fs::read_to_string(&events).on("read", &events)?;
        if text.lines().any(|line| line == wanted) {
            return Ok(());
        }
        if Instant::now() >= end {
            fs::write(&file, "0").on("write", &file)?;
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(source).on("freeze", path);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::{io_weight, weight_of_shares};

    #[test]
    fn weights_of_disks_become_larger() {
        assert_eq!(
            [0, 10, 500, 1000, u16::MAX].map(io_weight),
            [1, 1, 4950, 10_000, 10_000]
        );
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!(weight_of_shares(0), 1);
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }
}
