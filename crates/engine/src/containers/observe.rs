//! Looking at what runs: `stats` and `top`.

use std::sync::Arc;
use std::time::Duration;

use hull_api::container::TopResponse;
use hull_api::stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, ThrottlingData,
};
use hull_runtime::cgroup::CgroupPaths;
use hull_shim::protocol::{Do, Done};

use crate::error::{Error, Result};
use crate::streams::ItemStream;
use crate::task::View;
use crate::world::{Handle, World, blocking};

/// `ps` columns that hold several words: the last one.
fn columns(line: &str, count: usize) -> Vec<String> {
    let mut words = line.split_whitespace();
    let mut fields: Vec<String> = words
        .by_ref()
        .take(count.saturating_sub(1))
        .map(str::to_owned)
        .collect();
    let rest: Vec<&str> = words.collect();
    if !rest.is_empty() {
        fields.push(rest.join(" "));
    }
    fields
}

pub(super) async fn top(world: &Arc<World>, view: &View, ps_args: &str) -> Result<TopResponse> {
    let _ = world;
    let args: Vec<&str> = if ps_args.trim().is_empty() {
        vec!["-ef"]
    } else {
        ps_args.split_whitespace().collect()
    };
    // moby's check: the PID column is needed to know the container's own lines.
    if args
        .iter()
        .any(|arg| arg.contains("pid") && arg.contains('=') && !arg.contains("pid=PID"))
    {
        return Err(Error::invalid(
            "specifying \"pid=FIELD\" is not allowed: the PID column is needed",
        ));
    }
    let stopped = || Error::conflict(format!("container {} is not running", view.record.id));
    let shim = view.shim.as_ref().ok_or_else(stopped)?;
    let pids = match shim.call(Do::Pids {}).await {
        Ok(Done::Pids { pids }) => pids,
        Ok(_) => {
            return Err(Error::internal(
                "the container's shim did not list processes",
            ));
        }
        Err(_) if shim.has_ended().await => return Err(stopped()),
        Err(error) => return Err(Error::failed("list the container's processes", error)),
    };
    let list = pids
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    // With -q the output is small; some options do not go together with it, then everything is read and sifted.
    let mut output = run_ps(&[&args[..], &["-q", &list]].concat()).await?;
    if !output.status.success() {
        output = run_ps(&args).await?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::internal(format!(
            "ps: exit status {}: {}",
            output.status.code().unwrap_or(-1),
            said.trim()
        )));
    }
    parse_ps(&String::from_utf8_lossy(&output.stdout), &pids)
}

async fn run_ps(args: &[&str]) -> Result<std::process::Output> {
    tokio::process::Command::new("ps")
        .args(args)
        .output()
        .await
        .map_err(|cause| Error::failed("run ps", cause))
}

fn parse_ps(text: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let at = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let processes = lines
        .map(|line| columns(line, titles.len()))
        .filter(|fields| {
            fields
                .get(at)
                .and_then(|pid| pid.parse::<i32>().ok())
                .is_some_and(|pid| pids.contains(&pid))
        })
        .collect();
    Ok(TopResponse { titles, processes })
}

/// Samples, one a second; without `stream` one only, which has the sample of a second before in it unless `one_shot`.
pub(super) fn stats(
    world: &Arc<World>,
    handle: &Handle,
    stream: bool,
    one_shot: bool,
) -> ItemStream<ContainerStats> {
    struct Progress {
        world: Arc<World>,
        handle: Handle,
        before: Option<ContainerStats>,
        over: bool,
    }
    let first = Progress {
        world: world.clone(),
        handle: handle.clone(),
        before: None,
        over: false,
    };
    Box::pin(futures_util::stream::unfold(
        first,
        move |mut now| async move {
            if now.over {
                return None;
            }
            if now.before.is_some() || (!one_shot && !stream) {
                if now.before.is_none() {
                    now.before = sample(&now.world, &now.handle).await.ok();
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            now.over = !stream;
            if now.handle.view().removed || now.handle.view.has_changed().is_err() {
                return None;
            }
            let item = sample(&now.world, &now.handle).await.map(|mut sample| {
                if let Some(before) = &now.before {
                    sample.precpu_stats = before.cpu_stats.clone();
                    sample.preread.clone_from(&before.read);
                } else {
                    sample.preread = hull_api::time::ZERO.to_owned();
                }
                sample
            });
            now.before = item.as_ref().ok().cloned().or(now.before);
            Some((item, now))
        },
    ))
}

/// One reading. A container that does not run has its name and zeros, as in Docker.
async fn sample(world: &Arc<World>, handle: &Handle) -> Result<ContainerStats> {
    let view = handle.view();
    let named = ContainerStats {
        id: view.record.id.clone(),
        name: format!("/{}", view.record.name),
        os_type: "linux".to_owned(),
        read: hull_api::time::ZERO.to_owned(),
        ..ContainerStats::default()
    };
    if view.state.phase.live().is_none() {
        return Ok(named);
    }
    blocking(world, move |world| {
        let paths = cgroup(world, &view)?;
        let stats = match paths.stats() {
            Ok(stats) => stats,
            // It has ended meanwhile.
            Err(_) if !paths.all().any(std::path::Path::exists) => return Ok(named),
            Err(error) => return Err(Error::failed("read the container's resource use", error)),
        };
        let networks = if view.record.network_mode().is_private() {
            let traffic = match world.plane.host.traffic(&view.record.id) {
                Err(hull_network::Error::NoSandbox { .. }) => return Ok(named),
                other => other?,
            };
            Some(
                traffic
                    .into_iter()
                    .map(|one| (one.interface.clone(), network(&one)))
                    .collect(),
            )
        } else {
            None
        };
        Ok(ContainerStats {
            read: crate::clock::now(),
            networks,
            ..fill(named, &stats, world.host.cgroup2)
        })
    })
    .await
}

fn cgroup(world: &World, view: &View) -> Result<CgroupPaths> {
    let failed = |error| Error::failed("find the container's cgroup", error);
    let host = hull_runtime::cgroup::Host::probe().map_err(failed)?;
    let path = crate::task::cgroups_path(world, &view.record);
    let manager = match world.options.cgroup_manager {
        hull_shim::protocol::CgroupManager::Cgroupfs => hull_runtime::CgroupManager::Cgroupfs,
        hull_shim::protocol::CgroupManager::Systemd => hull_runtime::CgroupManager::Systemd,
    };
    CgroupPaths::locate(&host, Some(&path), &view.record.id, manager, false).map_err(failed)
}

fn network(one: &hull_network::InterfaceStats) -> NetworkStats {
    NetworkStats {
        rx_bytes: one.rx_bytes,
        rx_packets: one.rx_packets,
        rx_errors: one.rx_errors,
        rx_dropped: one.rx_dropped,
        tx_bytes: one.tx_bytes,
        tx_packets: one.tx_packets,
        tx_errors: one.tx_errors,
        tx_dropped: one.tx_dropped,
    }
}

/// The runtime's readings in the API's shape.
fn fill(
    named: ContainerStats,
    stats: &hull_runtime::cgroup::Stats,
    cgroup2: bool,
) -> ContainerStats {
    let memory_total = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = text.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        });
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let total = memory_total();
    let mut bytes = Vec::new();
    let mut operations = Vec::new();
    for device in &stats.io {
        let entry = |op: &str, value| BlkioEntry {
            major: device.major,
            minor: device.minor,
            op: op.to_owned(),
            value,
        };
        bytes.extend([entry("read", device.rbytes), entry("write", device.wbytes)]);
        operations.extend([entry("read", device.rios), entry("write", device.wios)]);
    }
    ContainerStats {
        cpu_stats: CpuStats {
            cpu_usage: CpuUsage {
                total_usage: stats.cpu.usage_ns,
                percpu_usage: stats.cpu.per_cpu_ns.clone(),
                usage_in_kernelmode: stats.cpu.system_ns,
                usage_in_usermode: stats.cpu.user_ns,
            },
            system_cpu_usage: host_cpu_ns(),
            online_cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
                as u32,
            throttling_data: ThrottlingData {
                periods: stats.cpu.nr_periods,
                throttled_periods: stats.cpu.nr_throttled,
                throttled_time: stats.cpu.throttled_ns,
            },
        },
        memory_stats: MemoryStats {
            usage: stats.memory.usage,
            max_usage: if cgroup2 { 0 } else { stats.memory.max_usage },
            stats: stats.memory.stat.clone(),
            failcnt: stats.memory.failcnt,
            limit: stats.memory.limit.min(total),
        },
        pids_stats: PidsStats {
            current: stats.pids.current,
            limit: if stats.pids.limit == 0 {
                u64::MAX
            } else {
                stats.pids.limit
            },
        },
        blkio_stats: BlkioStats {
            io_service_bytes_recursive: bytes,
            io_serviced_recursive: operations,
            ..BlkioStats::default()
        },
        ..named
    }
}

/// Processor time of the whole host in nanoseconds: the first line of /proc/stat, in ticks of 10 ms.
fn host_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 = line
        .split_whitespace()
        .skip(1)
        .take(7)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_output_is_cut_into_columns() {
        let text = "UID  PID  PPID  C STIME TTY TIME CMD\nroot 7 1 0 10:00 ? 00:00:00 sh -c sleep 5\nroot 8 1 0 10:00 ? 00:00:00 other\n";
        let top = parse_ps(text, &[7]).unwrap();
        assert_eq!(top.titles.len(), 8);
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0][7], "sh -c sleep 5");
        assert!(parse_ps("CMD\nsh\n", &[7]).is_err());
    }
}
