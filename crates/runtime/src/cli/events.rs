//! `events`: readings and OOM kills as JSON lines, in the shape that containerd and others parse.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, Timespec, poll};
use serde_json::{Value, json};

use super::args::Global;
use crate::cgroup::{CgroupPaths, OomWatch, Stats};
use crate::lifecycle::record_of;

/// How often the container's end is looked for between readings.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn events(global: &Global, interval: &str, once: bool, id: &str) -> anyhow::Result<i32> {
    let interval = duration(interval)?;
    if interval.is_zero() {
        bail!("duration interval must be greater than 0");
    }
    let root = global.state_root();
    let (record, status) = record_of(&root, id)?;
    if status == hull_oci::runtime::Status::Stopped {
        bail!("container with id {id} is not running");
    }
    if once {
        print("stats", id, &readings(&record.cgroup)?);
        return Ok(0);
    }
    let mut watch = record.cgroup.oom_watch()?;
    while record.alive()? {
        print("stats", id, &readings(&record.cgroup)?);
        let next = Instant::now() + interval;
        let mut alive = true;
        while alive && Instant::now() < next {
            wait(watch.as_ref(), LOOK.min(interval))?;
            // A kill that ends the container is told, too.
            alive = record.alive()?;
            if watch.as_mut().is_some_and(OomWatch::happened) {
                print("oom", id, &Value::Null);
            }
        }
    }
    Ok(0)
}

/// Until something may have happened, at most for `limit`.
fn wait(watch: Option<&OomWatch>, limit: Duration) -> anyhow::Result<()> {
    let Some(watch) = watch.filter(|watch| !watch.is_gone()) else {
        std::thread::sleep(limit);
        return Ok(());
    };
    let until = Instant::now() + limit;
    let until = watch.due().map_or(until, |due| due.min(until));
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now()))?;
    let mut fds = [PollFd::new(watch, watch.flags())];
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e).context("wait for memory events"),
    }
}

fn print(kind: &str, id: &str, data: &Value) {
    let mut event = json!({"type": kind, "id": id});
    if !data.is_null() {
        event["data"] = data.clone();
    }
    println!("{event}");
}

/// Go's durations, as far as they are used: `5s`, `500ms`, `1m`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let parsed = units.iter().find_map(|(unit, ms)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        (0.0..1e9)
            .contains(&number)
            .then(|| Duration::from_millis((number * f64::from(*ms)) as u64))
    });
    parsed.ok_or_else(|| anyhow::anyhow!("invalid duration {text:?}"))
}

fn readings(cgroup: &CgroupPaths) -> anyhow::Result<Value> {
    Ok(shape(&cgroup.stats()?))
}

/// runc's `types.Stats`.
fn shape(stats: &Stats) -> Value {
    let io = |read: fn(&crate::cgroup::IoEntry) -> u64,
              write: fn(&crate::cgroup::IoEntry) -> u64| {
        let entries = stats.io.iter().flat_map(|e| {
            let entry = |op: &str, value: u64| {
                json!({"major": e.major, "minor": e.minor, "op": op, "value": value})
            };
            [entry("Read", read(e)), entry("Write", write(e))]
        });
        entries.collect::<Vec<_>>()
    };
    let mut shape = json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.usage_ns,
                "percpu": stats.cpu.per_cpu_ns,
                "kernel": stats.cpu.system_ns,
                "user": stats.cpu.user_ns,
            },
            "throttling": {
                "periods": stats.cpu.nr_periods,
                "throttledPeriods": stats.cpu.nr_throttled,
                "throttledTime": stats.cpu.throttled_ns,
            },
        },
        "memory": {
            "usage": {
                "limit": stats.memory.limit,
                "usage": stats.memory.usage,
                "max": stats.memory.max_usage,
                "failcnt": stats.memory.failcnt,
            },
            "swap": {
                "limit": stats.memory.swap_limit,
                "usage": stats.memory.swap_usage,
                "failcnt": 0,
            },
            "raw": stats.memory.stat,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": io(|e| e.rbytes, |e| e.wbytes),
            "ioServicedRecursive": io(|e| e.rios, |e| e.wios),
        },
        "hugetlb": stats.hugetlb,
        "intel_rdt": {},
    });
    // Members that runc 1.2 has where the kernel measures pressure.
    for (resource, member) in [("cpu", "cpu"), ("memory", "memory"), ("io", "blkio")] {
        if let Some(pressure) = stats.pressure.get(resource) {
            shape[member]["psi"] = json!(pressure);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        for bad in ["", "5", "s", "-1s", "1d", "NaNs", "infs"] {
            duration(bad).unwrap_err();
        }
    }
}
