//! Limits: `HostConfig.Resources` as the OCI resources section.

use std::os::unix::fs::FileTypeExt;

use hull_api::host::{Resources as ApiResources, ThrottleDevice as ApiThrottle};
use hull_oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice};

use super::Inputs;
use crate::error::{Error, Result, failed};

/// CFS period that `--cpus` is expressed in, in microseconds: Docker's.
const CPU_PERIOD_US: u64 = 100_000;

pub(super) fn build(inputs: &Inputs<'_>) -> Result<Resources> {
    let mut resources = linux_resources(&inputs.record.host.resources)?;
    resources.devices = inputs.devices.rules.clone();
    Ok(resources)
}

fn set(value: i64) -> Option<i64> {
    Some(value).filter(|value| *value != 0)
}

/// Everything but devices; also what `update` sends. Zero means "not set".
pub(crate) fn linux_resources(asked: &ApiResources) -> Result<Resources> {
    let memory = Memory {
        limit: set(asked.memory),
        reservation: set(asked.memory_reservation),
        swap: set(asked.memory_swap),
        swappiness: asked
            .memory_swappiness
            .and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: asked.oom_kill_disable.filter(|disable| *disable),
        ..Memory::default()
    };
    let (period, quota) = match asked.nano_cpus {
        0 => (
            u64::try_from(asked.cpu_period)
                .ok()
                .filter(|period| *period > 0),
            set(asked.cpu_quota),
        ),
        nano => (
            Some(CPU_PERIOD_US),
            Some(nano.saturating_mul(CPU_PERIOD_US as i64) / 1_000_000_000),
        ),
    };
    let cpu = Cpu {
        shares: u64::try_from(asked.cpu_shares)
            .ok()
            .filter(|shares| *shares > 0),
        quota,
        period,
        realtime_runtime: set(asked.cpu_realtime_runtime),
        realtime_period: u64::try_from(asked.cpu_realtime_period)
            .ok()
            .filter(|period| *period > 0),
        cpus: Some(asked.cpuset_cpus.clone()).filter(|list| !list.is_empty()),
        mems: Some(asked.cpuset_mems.clone()).filter(|list| !list.is_empty()),
        ..Cpu::default()
    };
    let pids = asked
        .pids_limit
        .filter(|limit| *limit != 0)
        .map(|limit| Pids {
            limit: Some(limit.max(-1)),
        });
    let block_io = block_io(asked)?;
    Ok(Resources {
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        pids,
        block_io: Some(block_io).filter(|block_io| *block_io != BlockIo::default()),
        ..Resources::default()
    })
}

fn block_io(asked: &ApiResources) -> Result<BlockIo> {
    let weights = asked.blkio_weight_device.iter().map(|device| {
        let (major, minor) = block_device_numbers(&device.path)?;
        Ok(WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            leaf_weight: None,
        })
    });
    Ok(BlockIo {
        weight: Some(asked.blkio_weight).filter(|weight| *weight > 0),
        weight_device: weights.collect::<Result<_>>()?,
        throttle_read_bps_device: throttles(&asked.blkio_device_read_bps)?,
        throttle_write_bps_device: throttles(&asked.blkio_device_write_bps)?,
        throttle_read_iops_device: throttles(&asked.blkio_device_read_iops)?,
        throttle_write_iops_device: throttles(&asked.blkio_device_write_iops)?,
        ..BlockIo::default()
    })
}

fn throttles(asked: &[ApiThrottle]) -> Result<Vec<ThrottleDevice>> {
    let one = |device: &ApiThrottle| {
        let (major, minor) = block_device_numbers(&device.path)?;
        Ok(ThrottleDevice {
            major,
            minor,
            rate: device.rate,
        })
    };
    asked.iter().map(one).collect()
}

/// The numbers of a block device of the host: the one thing here that the file system is asked for.
pub(crate) fn block_device_numbers(path: &str) -> Result<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(failed(format!("stat {path}")))?;
    if !metadata.file_type().is_block_device() && !metadata.file_type().is_char_device() {
        return Err(Error::invalid(format!("{path} is not a device")));
    }
    let device = metadata.rdev();
    Ok((
        i64::from(rustix::fs::major(device)),
        i64::from(rustix::fs::minor(device)),
    ))
}
