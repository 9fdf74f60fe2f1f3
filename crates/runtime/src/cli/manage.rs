//! Commands on existing containers: state, kill, delete, list, ps, update.

use std::io::Read;

use anyhow::{Context, anyhow, bail};
use hull_oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, Status};
use serde::Serialize;

use super::args::{Global, Kill, ListFormat, Update};
use crate::lifecycle::record_of;
use crate::{Record, validate};

/// Largest resources file that is read.
const RESOURCES_MAX: u64 = 1 << 20;

/// What `state` and `list` print, in runc's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    pid: i32,
    status: String,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    owner: String,
}

fn shown(record: &Record, status: Status) -> Shown {
    let owner = user_name(record.owner).unwrap_or_else(|| record.owner.to_string());
    Shown {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        pid: if status == Status::Stopped {
            0
        } else {
            record.pid
        },
        status: status.to_string(),
        bundle: record.bundle.display().to_string(),
        rootfs: record.bundle.join(&record.rootfs).display().to_string(),
        created: record.created.clone(),
        annotations: record.annotations.clone(),
        owner,
    }
}

fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

pub(super) fn state(global: &Global, id: &str) -> anyhow::Result<i32> {
    let (record, status) = record_of(&global.state_root(), id)?;
    println!("{}", serde_json::to_string_pretty(&shown(&record, status))?);
    Ok(0)
}

pub(super) fn kill(global: &Global, args: &Kill) -> anyhow::Result<i32> {
    let signal = parse_signal(&args.signal)?;
    match crate::kill(&global.state_root(), &args.id, signal, args.all) {
        // Callers look for these words.
        Err(crate::Error::WrongStatus { .. }) => bail!("container not running"),
        other => other?,
    }
    Ok(0)
}

/// A signal by number, or by name with or without `SIG`, in any case.
pub(super) fn parse_signal(text: &str) -> anyhow::Result<i32> {
    const NAMES: &[(&str, i32)] = &[
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("IOT", libc::SIGIOT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("STKFLT", libc::SIGSTKFLT),
        ("CHLD", libc::SIGCHLD),
        ("CLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("POLL", libc::SIGPOLL),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    /// The first real-time signal that the C library leaves to programs, and the last.
    const REAL_TIME: (i32, i32) = (34, 64);
    if let Ok(number) = text.parse::<i32>() {
        if (0..=REAL_TIME.1).contains(&number) {
            return Ok(number);
        }
        bail!("unknown signal {text:?}");
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| rest.get(1..).map_or(Some(0), |n| n.parse::<i32>().ok());
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(REAL_TIME.0),
        (_, Some("")) => Some(REAL_TIME.1),
        (Some(rest), _) if rest.starts_with('+') => offset(rest).map(|n| REAL_TIME.0 + n),
        (_, Some(rest)) if rest.starts_with('-') => offset(rest).map(|n| REAL_TIME.1 - n),
        _ => None,
    };
    real_time
        .filter(|n| (REAL_TIME.0..=REAL_TIME.1).contains(n))
        .ok_or_else(|| anyhow!("unknown signal {text:?}"))
}

pub(super) fn delete(global: &Global, force: bool, ids: &[String]) -> anyhow::Result<i32> {
    for id in ids {
        match crate::delete(&global.state_root(), id, force) {
            Err(crate::Error::WrongStatus { status, .. }) => {
                bail!("cannot delete container {id} that is not stopped: {status}")
            }
            other => other?,
        }
    }
    Ok(0)
}

pub(super) fn list(global: &Global, format: ListFormat, quiet: bool) -> anyhow::Result<i32> {
    let all = crate::list(&global.state_root())?;
    let all: Vec<Shown> = all
        .iter()
        .map(|(record, status)| shown(record, *status))
        .collect();
    match format {
        _ if quiet => all.iter().for_each(|c| println!("{}", c.id)),
        ListFormat::Json => println!("{}", serde_json::to_string(&all)?),
        ListFormat::Table => table(&all),
    }
    Ok(0)
}

/// Columns as Go's tabwriter sets them: at least 12 wide, 3 apart.
fn table(all: &[Shown]) {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = all.iter().map(|c| {
        [
            c.id.clone(),
            c.pid.to_string(),
            c.status.clone(),
            c.bundle.clone(),
            c.created.clone(),
            c.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        (longest.unwrap_or(0) + 3).max(12)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).take(5) {
            line.push_str(&format!("{cell:width$}"));
        }
        println!("{line}{}", row[5]);
    }
}

pub(super) fn ps(
    global: &Global,
    format: &str,
    id: &str,
    options: &[String],
) -> anyhow::Result<i32> {
    let pids = crate::ps(&global.state_root(), id)?;
    match format {
        "json" => {
            println!("{}", serde_json::to_string(&pids)?);
            return Ok(0);
        }
        "table" => {}
        _ => bail!("invalid format option"),
    }
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() {
        &default
    } else {
        options
    };
    let output = std::process::Command::new("ps")
        .args(options)
        .output()
        .context("ps")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    println!("{head}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|p| p.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(0)
}

pub(super) fn update(global: &Global, args: &Update) -> anyhow::Result<i32> {
    let resources = match &args.resources {
        Some(path) => {
            let mut text = Vec::new();
            if path.as_os_str() == "-" {
                std::io::stdin()
                    .take(RESOURCES_MAX)
                    .read_to_end(&mut text)?;
            } else {
                let file = std::fs::File::open(path)
                    .with_context(|| format!("open {}", path.display()))?;
                file.take(RESOURCES_MAX).read_to_end(&mut text)?;
            }
            crate::error::parse(path.to_owned(), &text)?
        }
        None => from_flags(args),
    };
    validate::resources(&resources)?;
    crate::update(&global.state_root(), &args.id, &resources)?;
    Ok(0)
}

fn from_flags(args: &Update) -> Resources {
    Resources {
        memory: Some(Memory {
            limit: args.memory,
            reservation: args.memory_reservation,
            swap: args.memory_swap,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: args.cpu_share,
            quota: args.cpu_quota,
            burst: args.cpu_burst,
            period: args.cpu_period,
            realtime_runtime: args.cpu_rt_runtime,
            realtime_period: args.cpu_rt_period,
            cpus: args.cpuset_cpus.clone(),
            mems: args.cpuset_mems.clone(),
            idle: args.cpu_idle,
        }),
        pids: Some(Pids {
            limit: args.pids_limit,
        }),
        block_io: args.blkio_weight.map(|weight| BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        }),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("0", 0),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "SIG", "NOPE", "65", "-1", "RTMIN+99", "RTMIN-1"] {
            parse_signal(bad).unwrap_err();
        }
    }
}
