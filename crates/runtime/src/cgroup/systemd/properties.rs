//! Limits as properties of a unit (systemd.resource-control(5)), mapped as runc maps them.

use hull_oci::runtime::{Cpu, Resources};

use super::{Mode, Properties, Unit};
use crate::Result;
use crate::cgroup::{devices, v2};
use crate::dbus::Value;
use crate::{Error, Problem};

/// `CPUQuotaPerSecUSec` and others without a limit.
const INFINITY: u64 = u64::MAX;
/// The kernel's CFS period when none is given, microseconds.
const PERIOD: u64 = 100_000;

/// What every unit gets: its place, its process, delegation, and accounting, which turns controllers on.
pub(super) fn of_unit(unit: &Unit, pid: i32, mode: Mode) -> Properties {
    let mut all = Properties::new();
    let mut add = |name: &str, value: Value| all.push((name.to_owned(), value));
    add(
        "Description",
        Value::str(format!("hull container {}", unit.name)),
    );
    if unit.is_slice() {
        let wants = vec![Value::str(&unit.slice)];
        add("Wants", Value::Array("s".into(), wants));
    } else {
        add("Slice", Value::str(&unit.slice));
        add("Delegate", Value::Bool(true));
        let pids = vec![Value::U32(pid as u32)];
        add("PIDs", Value::Array("u".into(), pids));
    }
    let io = match mode {
        Mode::V2 => "IOAccounting",
        Mode::V1 | Mode::Hybrid => "BlockIOAccounting",
    };
    for name in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
        add(name, Value::Bool(true));
    }
    // It has nothing to do with the order of boot and shutdown.
    add("DefaultDependencies", Value::Bool(false));
    all
}

/// The limits that systemd has properties for; the others are written to the cgroup's files only.
pub(super) fn of_resources(mode: Mode, resources: &Resources) -> Result<Properties> {
    let mut all = Properties::new();
    if !resources.devices.is_empty() {
        add_devices(&mut all, resources);
    }
    match mode {
        Mode::V2 => memory_v2(&mut all, resources)?,
        Mode::V1 | Mode::Hybrid => {
            let memory = resources.memory.as_ref().and_then(|m| m.limit);
            if let Some(limit) = memory.filter(|n| *n != 0) {
                all.push(("MemoryLimit".into(), limit_of(limit)));
            }
            let io = resources.block_io.as_ref().and_then(|io| io.weight);
            if let Some(weight) = io.filter(|n| *n != 0) {
                all.push(("BlockIOWeight".into(), Value::U64(weight.into())));
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        add_cpu(&mut all, cpu, mode)?;
    }
    let pids = resources.pids.as_ref().and_then(|p| p.limit);
    if let Some(limit) = pids.filter(|n| *n != 0) {
        all.push(("TasksMax".into(), limit_of(limit)));
    }
    if mode == Mode::V2 {
        add_unified(&mut all, resources)?;
    }
    Ok(all)
}

/// A limit; any negative number is none.
fn limit_of(limit: i64) -> Value {
    Value::U64(u64::try_from(limit).unwrap_or(INFINITY))
}

fn memory_v2(all: &mut Properties, resources: &Resources) -> Result<()> {
    let Some(memory) = &resources.memory else {
        return Ok(());
    };
    if let Some(limit) = memory.limit.filter(|n| *n != 0) {
        all.push(("MemoryMax".into(), limit_of(limit)));
    }
    if let Some(low) = memory.reservation.filter(|n| *n != 0) {
        all.push(("MemoryLow".into(), limit_of(low)));
    }
    if let Some(swap) = v2::swap_alone(memory)? {
        all.push(("MemorySwapMax".into(), limit_of(swap)));
    }
    Ok(())
}

fn add_cpu(all: &mut Properties, cpu: &Cpu, mode: Mode) -> Result<()> {
    if let Some(shares) = cpu.shares.filter(|n| *n != 0) {
        match mode {
            // An idle group has no weight.
            Mode::V2 if cpu.idle == Some(1) => {}
            Mode::V2 => {
                let weight = v2::weight_of_shares(shares);
                all.push(("CPUWeight".into(), Value::U64(weight)));
            }
            Mode::V1 | Mode::Hybrid => all.push(("CPUShares".into(), Value::U64(shares))),
        }
    }
    quota(all, cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    // systemd sets cpusets on v2 only.
    if mode == Mode::V2 {
        cpuset(
            all,
            "AllowedCPUs",
            "linux.resources.cpu.cpus",
            cpu.cpus.as_deref(),
        )?;
        cpuset(
            all,
            "AllowedMemoryNodes",
            "linux.resources.cpu.mems",
            cpu.mems.as_deref(),
        )?;
    }
    Ok(())
}

/// systemd keeps whole percents: a fraction is rounded up, so that the exact value, which is written to the
/// file, is one that the parents allow.
fn quota(all: &mut Properties, quota: i64, period: u64) {
    if period != 0 {
        all.push(("CPUQuotaPeriodUSec".into(), Value::U64(period)));
    }
    if quota == 0 && period == 0 {
        return;
    }
    let per_second = match u64::try_from(quota) {
        Ok(quota) if quota > 0 => {
            let period = if period == 0 { PERIOD } else { period };
            let exact = quota.saturating_mul(1_000_000) / period;
            exact.div_ceil(10_000).saturating_mul(10_000)
        }
        _ => INFINITY,
    };
    all.push(("CPUQuotaPerSecUSec".into(), Value::U64(per_second)));
}

fn cpuset(all: &mut Properties, name: &str, field: &str, list: Option<&str>) -> Result<()> {
    if let Some(list) = list.filter(|l| !l.is_empty()) {
        let bits = bits(list).ok_or_else(|| {
            Error::Invalid(vec![Problem {
                field: field.into(),
                reason: format!("{list:?} is no list of numbers and ranges"),
            }])
        })?;
        all.push((name.into(), Value::bytes(&bits)));
    }
    Ok(())
}

/// `0-2,5` as a mask, least significant byte first.
fn bits(list: &str) -> Option<Vec<u8>> {
    // Far above what any kernel is built for.
    const MAX: usize = 1 << 16;
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last >= MAX {
            return None;
        }
        if mask.len() <= last / 8 {
            mask.resize(last / 8 + 1, 0_u8);
        }
        (first..=last).for_each(|n| mask[n / 8] |= 1 << (n % 8));
    }
    (!mask.is_empty()).then_some(mask)
}

/// Only what systemd knows too, so that reloading it leaves the container its devices.
fn add_devices(all: &mut Properties, resources: &Resources) {
    let (policy, allowed) = match devices::systemd_rules(&devices::rules(&resources.devices)) {
        // Everything is allowed: no rules at all.
        None => ("auto", Vec::new()),
        Some(allowed) => ("strict", allowed),
    };
    let pair = |(device, access): (String, String)| {
        Value::Struct(vec![Value::Str(device), Value::Str(access)])
    };
    all.push(("DevicePolicy".into(), Value::str(policy)));
    // An empty list first: SetUnitProperties would add to the old one.
    let empty = Value::Array("(ss)".into(), Vec::new());
    all.push(("DeviceAllow".into(), empty));
    if !allowed.is_empty() {
        let list = allowed.into_iter().map(pair).collect();
        all.push(("DeviceAllow".into(), Value::Array("(ss)".into(), list)));
    }
}

/// Files of `linux.resources.unified` that are properties, too.
fn add_unified(all: &mut Properties, resources: &Resources) -> Result<()> {
    for (file, text) in &resources.unified {
        let text = text.trim();
        let number = || match text {
            "max" => Some(INFINITY),
            other => other.parse().ok(),
        };
        let name = match file.as_str() {
            "cpu.weight" => "CPUWeight",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpuset.cpus" => {
                cpuset(
                    all,
                    "AllowedCPUs",
                    "linux.resources.unified[cpuset.cpus]",
                    Some(text),
                )?;
                continue;
            }
            "cpuset.mems" => {
                cpuset(
                    all,
                    "AllowedMemoryNodes",
                    "linux.resources.unified[cpuset.mems]",
                    Some(text),
                )?;
                continue;
            }
            "cpu.max" => {
                let mut words = text.split_whitespace();
                let first = words.next().and_then(|w| w.parse().ok()).unwrap_or(-1);
                let period = words.next().and_then(|w| w.parse().ok()).unwrap_or(PERIOD);
                quota(all, first, period);
                continue;
            }
            // Delegated, so systemd leaves it alone.
            _ => continue,
        };
        // What is no number (`5M`, a percentage) the file itself refuses or takes.
        if let Some(number) = number() {
            all.push((name.into(), Value::U64(number)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn show(all: &Properties) -> String {
        let mut text = String::new();
        for (name, value) in all {
            text += &format!("{name}={value:?}\n");
        }
        text
    }

    fn check(mode: Mode, json: serde_json::Value, expected: &Expect) {
        let resources: Resources = serde_json::from_value(json).unwrap();
        expected.assert_eq(&show(&of_resources(mode, &resources).unwrap()));
    }

    #[test]
    fn what_every_scope_gets() {
        let unit = Unit::parse(Some("a.slice:docker:x"), "x", false).unwrap();
        expect![[r#"
            Description=Str("hull container docker-x.scope")
            Slice=Str("a.slice")
            Delegate=Bool(true)
            PIDs=Array("u", [U32(42)])
            MemoryAccounting=Bool(true)
            CPUAccounting=Bool(true)
            IOAccounting=Bool(true)
            TasksAccounting=Bool(true)
            DefaultDependencies=Bool(false)
        "#]]
        .assert_eq(&show(&of_unit(&unit, 42, Mode::V2)));
    }

    #[test]
    fn limits_of_v2() {
        let json = serde_json::json!({
            "memory": {"limit": 1000, "swap": 3000, "reservation": 500},
            "cpu": {"shares": 1024, "quota": 12_345, "period": 100_000, "cpus": "0-2,9", "mems": "0"},
            "pids": {"limit": -1},
            "unified": {"memory.high": "700", "memory.min": "5M", "cpu.max": "max 50000", "io.max": "8:0 rbps=1"},
        });
        check(
            Mode::V2,
            json,
            &expect![[r#"
            MemoryMax=U64(1000)
            MemoryLow=U64(500)
            MemorySwapMax=U64(2000)
            CPUWeight=U64(39)
            CPUQuotaPeriodUSec=U64(100000)
            CPUQuotaPerSecUSec=U64(130000)
            AllowedCPUs=Array("y", [Byte(7), Byte(2)])
            AllowedMemoryNodes=Array("y", [Byte(1)])
            TasksMax=U64(18446744073709551615)
            CPUQuotaPeriodUSec=U64(50000)
            CPUQuotaPerSecUSec=U64(18446744073709551615)
            MemoryHigh=U64(700)
        "#]],
        );
    }

    #[test]
    fn limits_of_v1() {
        let json = serde_json::json!({
            "memory": {"limit": 1000, "swap": 3000},
            "cpu": {"shares": 512, "quota": -1, "cpus": "0"},
            "blockIO": {"weight": 300},
            "pids": {"limit": 7},
        });
        check(
            Mode::V1,
            json,
            &expect![[r#"
            MemoryLimit=U64(1000)
            BlockIOWeight=U64(300)
            CPUShares=U64(512)
            CPUQuotaPerSecUSec=U64(18446744073709551615)
            TasksMax=U64(7)
        "#]],
        );
    }

    #[test]
    fn devices_in_systemd_s_words() {
        let json = serde_json::json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        ]});
        check(
            Mode::V2,
            json,
            &expect![[r#"
            DevicePolicy=Str("strict")
            DeviceAllow=Array("(ss)", [])
            DeviceAllow=Array("(ss)", [Struct([Str("block-8"), Str("r")]), Struct([Str("/dev/char/10:229"), Str("rw")]), Struct([Str("char-*"), Str("m")]), Struct([Str("block-*"), Str("m")]), Struct([Str("/dev/char/1:3"), Str("rwm")]), Struct([Str("/dev/char/1:8"), Str("rwm")]), Struct([Str("/dev/char/1:7"), Str("rwm")]), Struct([Str("/dev/char/5:0"), Str("rwm")]), Struct([Str("/dev/char/1:5"), Str("rwm")]), Struct([Str("/dev/char/1:9"), Str("rwm")]), Struct([Str("char-136"), Str("rwm")]), Struct([Str("/dev/char/5:2"), Str("rwm")])])
        "#]],
        );
        let all = serde_json::json!({"devices": [{"allow": true, "access": "rwm"}]});
        check(
            Mode::V2,
            all,
            &expect![[r#"
            DevicePolicy=Str("auto")
            DeviceAllow=Array("(ss)", [])
        "#]],
        );
    }

    #[test]
    fn processors_as_a_mask() {
        assert_eq!(bits("0-2,9"), Some(vec![0b111, 0b10]));
        assert_eq!(bits(" 7 , 8-8"), Some(vec![0x80, 1]));
        for bad in ["", "a", "2-1", "0-99999999999", "1-", "-1", ","] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }
}
