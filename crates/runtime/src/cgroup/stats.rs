//! Readings: one shape for both versions, named after cgroup v2's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::CgroupPaths;
use crate::Result;

/// Everything that is measured. What the host does not measure is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Stats {
    /// CPU.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub io: Vec<IoEntry>,
    /// Huge pages by size, as `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Pressure stall information by resource: `cpu`, `memory`, `io`.
    pub pressure: BTreeMap<String, Pressure>,
}

/// CPU time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CpuStats {
    /// All.
    pub usage_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods of the quota.
    pub nr_periods: u64,
    /// Periods in which it was throttled.
    pub nr_throttled: u64,
    /// Time throttled.
    pub throttled_ns: u64,
    /// By CPU; v1 only.
    pub per_cpu_ns: Vec<u64>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryStats {
    /// In use, with page cache.
    pub usage: u64,
    /// Highest use.
    pub max_usage: u64,
    /// The limit; `u64::MAX` without one.
    pub limit: u64,
    /// Memory and swap in use (v1), swap in use (v2).
    pub swap_usage: u64,
    /// Their limit.
    pub swap_limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// `memory.stat`, as the kernel names it.
    pub stat: BTreeMap<String, u64>,
}

impl MemoryStats {
    /// Use without the page cache that would be dropped first: what `docker stats` shows.
    #[must_use]
    pub fn working_set(&self) -> u64 {
        let inactive = self
            .stat
            .get("total_inactive_file")
            .or_else(|| self.stat.get("inactive_file"));
        self.usage.saturating_sub(inactive.copied().unwrap_or(0))
    }
}

/// Processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; 0 without one.
    pub limit: u64,
}

/// One block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
}

/// Huge pages in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HugetlbStats {
    /// In use.
    pub usage: u64,
    /// Highest use.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Time lost waiting (Documentation/accounting/psi.rst), in the shape of runc's events.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Pressure {
    /// Some processes waited.
    pub some: Stall,
    /// All of them did.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last 5 minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

impl Pressure {
    fn parse(text: &str) -> Self {
        let stall = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind));
            let field = |key: &str| {
                let mut words = line?.split_whitespace();
                words.find_map(|word| word.strip_prefix(key))
            };
            let average = |key: &str| field(key).and_then(|n| n.parse().ok()).unwrap_or(0.0);
            Stall {
                avg10: average("avg10="),
                avg60: average("avg60="),
                avg300: average("avg300="),
                total: field("total=").and_then(|n| n.parse().ok()).unwrap_or(0),
            }
        };
        Self {
            some: stall("some "),
            full: stall("full "),
        }
    }
}

/// The text of a file; a missing one is empty: the controller is not there.
fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

/// A file with one number; `max` is `u64::MAX`.
fn number(directory: &Path, file: &str) -> Option<u64> {
    match text(directory, file).trim() {
        "max" => Some(u64::MAX),
        other => other.parse().ok(),
    }
}

/// Lines of `key value`.
fn table(directory: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = text(directory, file);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn get(table: &BTreeMap<String, u64>, key: &str) -> u64 {
    table.get(key).copied().unwrap_or(0)
}

pub(super) fn v2(path: &Path) -> Result<Stats> {
    let cpu = table(path, "cpu.stat");
    let usec = |key: &str| get(&cpu, key).saturating_mul(1000);
    let mut stats = Stats {
        cpu: CpuStats {
            usage_ns: usec("usage_usec"),
            user_ns: usec("user_usec"),
            system_ns: usec("system_usec"),
            nr_periods: get(&cpu, "nr_periods"),
            nr_throttled: get(&cpu, "nr_throttled"),
            throttled_ns: usec("throttled_usec"),
            per_cpu_ns: Vec::new(),
        },
        memory: MemoryStats {
            usage: number(path, "memory.current").unwrap_or(0),
            max_usage: number(path, "memory.peak").unwrap_or(0),
            limit: number(path, "memory.max").unwrap_or(u64::MAX),
            swap_usage: number(path, "memory.swap.current").unwrap_or(0),
            swap_limit: number(path, "memory.swap.max").unwrap_or(u64::MAX),
            failcnt: get(&table(path, "memory.events"), "max"),
            stat: table(path, "memory.stat"),
        },
        pids: pids(path),
        io: text(path, "io.stat").lines().filter_map(io_line).collect(),
        hugetlb: hugetlb(path, "current", "max", false),
        pressure: BTreeMap::new(),
    };
    pressure(path, &mut stats);
    Ok(stats)
}

fn pids(path: &Path) -> PidsStats {
    PidsStats {
        current: number(path, "pids.current").unwrap_or(0),
        limit: number(path, "pids.max")
            .filter(|n| *n != u64::MAX)
            .unwrap_or(0),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..`
fn io_line(line: &str) -> Option<IoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let mut entry = IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..IoEntry::default()
    };
    for (key, value) in rest.split(' ').filter_map(|pair| pair.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match key {
            "rbytes" => entry.rbytes = value,
            "wbytes" => entry.wbytes = value,
            "rios" => entry.rios = value,
            "wios" => entry.wios = value,
            _ => {}
        }
    }
    Some(entry)
}

fn hugetlb(path: &Path, usage: &str, max: &str, v1: bool) -> BTreeMap<String, HugetlbStats> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return BTreeMap::new();
    };
    let sizes = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(match kib {
            k if k >= 1 << 20 => format!("{}GB", k >> 20),
            k if k >= 1 << 10 => format!("{}MB", k >> 10),
            k => format!("{k}KB"),
        })
    });
    let read = |size: String| {
        let used = number(path, &format!("hugetlb.{size}.{usage}"))?;
        let highest = if v1 {
            number(path, &format!("hugetlb.{size}.{max}"))
        } else {
            None
        };
        let failcnt = if v1 {
            number(path, &format!("hugetlb.{size}.failcnt")).unwrap_or(0)
        } else {
            get(&table(path, &format!("hugetlb.{size}.events")), "max")
        };
        let stats = HugetlbStats {
            usage: used,
            max: highest.unwrap_or(used),
            failcnt,
        };
        Some((size, stats))
    };
    sizes.filter_map(read).collect()
}

fn pressure(path: &Path, stats: &mut Stats) {
    for resource in ["cpu", "memory", "io"] {
        let text = text(path, &format!("{resource}.pressure"));
        if text.is_empty() {
            continue;
        }
        let entry = Pressure::parse(&text);
        stats.pressure.insert(resource.to_owned(), entry);
    }
}

/// A directory of a controller that the host has not: nothing in it is found.
const NOWHERE: &str = "/nonexistent";

pub(super) fn v1(paths: &CgroupPaths) -> Result<Stats> {
    let at = |name: &str| paths.controller(name).unwrap_or(Path::new(NOWHERE));
    let (cpu, cpuacct, memory) = (at("cpu"), at("cpuacct"), at("memory"));
    let throttling = table(cpu, "cpu.stat");
    let per_cpu = text(cpuacct, "cpuacct.usage_percpu");
    let limits = |file: &str| {
        // v1 says "no limit" by a number just below the largest.
        number(memory, file)
            .filter(|n| *n < 1 << 62)
            .unwrap_or(u64::MAX)
    };
    let mut stats = Stats {
        cpu: CpuStats {
            usage_ns: number(cpuacct, "cpuacct.usage").unwrap_or(0),
            user_ns: number(cpuacct, "cpuacct.usage_user").unwrap_or(0),
            system_ns: number(cpuacct, "cpuacct.usage_sys").unwrap_or(0),
            nr_periods: get(&throttling, "nr_periods"),
            nr_throttled: get(&throttling, "nr_throttled"),
            throttled_ns: get(&throttling, "throttled_time"),
            per_cpu_ns: per_cpu
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect(),
        },
        memory: MemoryStats {
            usage: number(memory, "memory.usage_in_bytes").unwrap_or(0),
            max_usage: number(memory, "memory.max_usage_in_bytes").unwrap_or(0),
            limit: limits("memory.limit_in_bytes"),
            swap_usage: number(memory, "memory.memsw.usage_in_bytes").unwrap_or(0),
            swap_limit: limits("memory.memsw.limit_in_bytes"),
            failcnt: number(memory, "memory.failcnt").unwrap_or(0),
            stat: table(memory, "memory.stat"),
        },
        pids: pids(at("pids")),
        io: v1_io(at("blkio")),
        hugetlb: hugetlb(at("hugetlb"), "usage_in_bytes", "max_usage_in_bytes", true),
        pressure: BTreeMap::new(),
    };
    if let Some(path) = &paths.unified {
        pressure(path, &mut stats);
    }
    Ok(stats)
}

/// `8:0 Read 123` lines of the throttle files, which count whatever the scheduler.
fn v1_io(path: &Path) -> Vec<IoEntry> {
    let mut devices: BTreeMap<(u64, u64), IoEntry> = BTreeMap::new();
    for (file, bytes) in [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ] {
        for line in text(path, file).lines() {
            let mut fields = line.split_whitespace();
            let (Some(device), Some(kind), Some(value)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let number = device
                .split_once(':')
                .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            let (Some((major, minor)), Ok(value)) = (number, value.parse::<u64>()) else {
                continue;
            };
            let entry = devices.entry((major, minor)).or_insert(IoEntry {
                major,
                minor,
                ..IoEntry::default()
            });
            match (kind, bytes) {
                ("Read", true) => entry.rbytes = value,
                ("Write", true) => entry.wbytes = value,
                ("Read", false) => entry.rios = value,
                ("Write", false) => entry.wios = value,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = Pressure::parse(text);
        assert_eq!((pressure.some.avg10, pressure.some.avg300), (1.5, 0.25));
        assert_eq!((pressure.some.total, pressure.full.total), (1234, 7));
        assert_eq!(Pressure::parse(""), Pressure::default());
    }

    #[test]
    fn io_lines_are_read() {
        let entry = io_line("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0").unwrap();
        assert_eq!(
            (entry.major, entry.minor, entry.wbytes, entry.rios),
            (8, 16, 20, 1)
        );
        assert_eq!(io_line("nonsense"), None);
    }

    #[test]
    fn the_working_set_leaves_out_the_inactive_cache() {
        let memory = MemoryStats {
            usage: 100,
            stat: [("inactive_file".to_owned(), 30)].into(),
            ..MemoryStats::default()
        };
        assert_eq!(memory.working_set(), 70);
    }
}
