//! `./x bench`: Hull beside Debian's docker.io and podman on the same machine in the same run, and the kernel's own floor.
//!
//! Each engine runs in a network namespace of its own with all its state on tmpfs, so that neither the host's firewall nor its slow
//! disk is measured. Samples of the engines are interleaved, so that a change in the machine's load hits all of them. What is printed
//! is the median and the ratio to Hull; nothing is asserted.

mod daemon;
mod disk;
mod engines;
mod floor;
mod images;
mod memory;
mod registry;
mod report;
mod runtime;
mod runtime_floor;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::apt::{self, need};
use crate::shell;
use engines::{Docker, Engine, Hull, Podman};
use report::{Report, Row};

/// How much to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Samples of each short operation.
    #[arg(long, default_value_t = 21)]
    samples: usize,
    /// Containers in the long runs.
    #[arg(long, default_value_t = 50)]
    containers: usize,
    /// Containers that run while `ps` and memory are measured.
    #[arg(long, default_value_t = 200)]
    running: usize,
    /// Leave podman out.
    #[arg(long)]
    no_podman: bool,
}

/// What else than containers is measured.
#[derive(clap::Subcommand)]
enum Part {
    /// Pull, push, save and load beside docker.io, podman and containerd.
    Images(images::Args),
    /// The registry server beside docker-registry.
    Registry(registry::Args),
    /// What a daemon does besides starting containers: requests, logs, stats, events. Beside dockerd.
    Daemon,
    /// The OCI runtime beside runc and crun.
    Runtime(runtime::Args),
}

/// Builds Hull, starts the engines, measures, prints a Markdown table.
pub fn run(args: &Args) -> Result<()> {
    match &args.part {
        Some(Part::Images(args)) => return images::run(args),
        Some(Part::Registry(args)) => return registry::run(args),
        Some(Part::Runtime(args)) => return runtime::run(args),
        Some(Part::Daemon) | None => {}
    }
    if !rustix::process::geteuid().is_root() {
        bail!("engines need root: run ./x bench as root");
    }
    apt::install(&[
        need("dockerd", "docker.io"),
        need("podman", "podman"),
        need("busybox", "busybox-static"),
        need("ip", "iproute2"),
        need("iptables", "iptables"),
    ])?;
    build()?;
    let work = tempfile::Builder::new()
        .prefix("hull-bench-")
        .tempdir_in("/dev/shm")?;
    let image = engines::busybox_tar(work.path())?;
    if matches!(args.part, Some(Part::Daemon)) {
        return daemon::run(work.path(), &image);
    }
    let mut report = Report::new(&["docker", "podman"], "kernel floor");

    let (hull, cold) = timed(|| Hull::start(work.path()))?;
    let (docker, docker_cold) = timed(|| Docker::start(work.path()))?;
    report.add(
        Row::new("daemon cold start")
            .time("hull", cold)
            .time("docker", docker_cold),
    );
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(hull), Box::new(docker)];
    if !args.no_podman {
        engines.push(Box::new(Podman::new(work.path())?));
    }
    for engine in &engines {
        engine.run(&[
            "import",
            image.to_str().unwrap_or_default(),
            "busybox:bench",
        ])?;
    }
    idle_memory(&engines, &mut report)?;
    short_operations(&engines, args.samples, &mut report)?;
    kernel_floor(args.samples, &mut report)?;
    many(&engines, args.containers, &mut report)?;
    crowd(&engines, args.running, &mut report)?;
    report.add(binary_size()?);
    drop(engines);
    println!("{}", report.markdown());
    Ok(())
}

/// Hull as it is shipped.
fn build() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "hull",
    ]))
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// One operation on every engine, interleaved: medians in a row.
fn compare(
    name: &str,
    engines: &[Box<dyn Engine>],
    samples: usize,
    mut operation: impl FnMut(&dyn Engine) -> Result<Duration>,
) -> Result<Row> {
    let mut times = vec![Vec::new(); engines.len()];
    for sample in 0..=samples {
        for (engine, times) in engines.iter().zip(&mut times) {
            let took = operation(engine.as_ref())?;
            // The first of each warms caches and is not counted.
            if sample > 0 {
                times.push(took);
            }
        }
    }
    let mut row = Row::new(name);
    for (engine, times) in engines.iter().zip(times) {
        row = row.time(engine.name(), median(times));
    }
    Ok(row)
}

fn command(engine: &dyn Engine, args: &[&str]) -> Result<Duration> {
    timed(|| engine.run(args)).map(|(_, took)| took)
}

fn short_operations(
    engines: &[Box<dyn Engine>],
    samples: usize,
    report: &mut Report,
) -> Result<()> {
    for network in ["bridge", "none", "host"] {
        report.add(compare(
            &format!("run --rm busybox true, network {network}"),
            engines,
            samples,
            |engine| {
                command(
                    engine,
                    &[
                        "run",
                        "--rm",
                        "--network",
                        engine.network(network),
                        "busybox:bench",
                        "true",
                    ],
                )
            },
        )?);
    }
    let mut removals = vec![Vec::new(); engines.len()];
    let mut index = 0;
    report.add(compare("run -d", engines, samples, |engine| {
        let took = command(
            engine,
            &[
                "run",
                "-d",
                "--name",
                "one",
                "busybox:bench",
                "sleep",
                "1000",
            ],
        )?;
        removals[index % engines.len()]
            .push(command(engine, &[engine.remove(), &["one"]].concat())?);
        index += 1;
        Ok(took)
    })?);
    let mut row = Row::new("rm -f of a running container");
    for (engine, times) in engines.iter().zip(removals) {
        row = row.time(engine.name(), median(times));
    }
    report.add(row);
    for engine in engines {
        engine.run(&[
            "run",
            "-d",
            "--name",
            "long",
            "busybox:bench",
            "sleep",
            "1000",
        ])?;
    }
    report.add(compare("exec true", engines, samples, |engine| {
        command(engine, &["exec", "long", "true"])
    })?);
    for engine in engines {
        engine.run(&[engine.remove(), &["long"]].concat())?;
    }
    Ok(())
}

fn kernel_floor(samples: usize, report: &mut Report) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..samples {
        times.push(floor::start_once()?);
    }
    report.add(
        Row::new(
            "kernel floor: clone3 with all namespaces, overlay, pivot_root, mounts, exec, wait",
        )
        .time("kernel floor", median(times)),
    );
    Ok(())
}

fn many(engines: &[Box<dyn Engine>], count: usize, report: &mut Report) -> Result<()> {
    for at_a_time in [1, 8] {
        let mut row = Row::new(&format!("{count} x run --rm true, {at_a_time} at a time"));
        for engine in engines {
            let (_, took) = timed(|| {
                std::thread::scope(|scope| -> Result<()> {
                    let workers: Vec<_> = (0..at_a_time)
                        .map(|worker| {
                            scope.spawn(move || -> Result<()> {
                                for _ in (worker..count).step_by(at_a_time) {
                                    engine.run(&["run", "--rm", "busybox:bench", "true"])?;
                                }
                                Ok(())
                            })
                        })
                        .collect();
                    for worker in workers {
                        worker.join().expect("a worker does not panic")?;
                    }
                    Ok(())
                })
            })?;
            row = row.time(engine.name(), took);
        }
        report.add(row);
    }
    Ok(())
}

fn idle_memory(engines: &[Box<dyn Engine>], report: &mut Report) -> Result<()> {
    let mut row = Row::new("memory of the idle daemon (PSS)");
    for engine in engines {
        if let Some(bytes) = memory::pss(&engine.processes()?)? {
            row = row.bytes(engine.name(), bytes);
        }
    }
    report.add(row);
    Ok(())
}

/// Many containers running: starting them, `ps`, memory for each, removing them.
fn crowd(engines: &[Box<dyn Engine>], count: usize, report: &mut Report) -> Result<()> {
    let mut start = Row::new(&format!(
        "{count} containers started one after another (run -d)"
    ));
    let mut each = Row::new(&format!(
        "memory for each of {count} running containers (PSS, daemon's growth included)"
    ));
    let mut alone = Row::new("the same without the container's own process");
    let mut list = Row::new(&format!("ps with {count} running"));
    let mut remove = Row::new(&format!("rm -f of {count} containers in one command"));
    for engine in engines {
        let before = memory::pss(&engine.processes()?)?.unwrap_or(0);
        let names: Vec<String> = (0..count).map(|n| format!("crowd{n}")).collect();
        let (_, took) = timed(|| {
            for name in &names {
                engine.run(&[
                    "run",
                    "-d",
                    "--name",
                    name,
                    "busybox:bench",
                    "sleep",
                    "1000",
                ])?;
            }
            Ok(())
        })?;
        start = start.time(engine.name(), took);
        let processes = engine.processes()?;
        let after = memory::pss(&processes)?.unwrap_or(0);
        let payload = memory::pss(&memory::named(&processes, "sleep")?)?.unwrap_or(0);
        each = each.bytes(engine.name(), after.saturating_sub(before) / count as u64);
        alone = alone.bytes(
            engine.name(),
            after.saturating_sub(before).saturating_sub(payload) / count as u64,
        );
        let mut times = Vec::new();
        for _ in 0..11 {
            times.push(command(engine.as_ref(), &["ps"])?);
        }
        list = list.time(engine.name(), median(times));
        let mut args = engine.remove().to_vec();
        args.extend(names.iter().map(String::as_str));
        let (_, took) = timed(|| engine.run(&args))?;
        remove = remove.time(engine.name(), took);
    }
    for row in [start, each, alone, list, remove] {
        report.add(row);
    }
    Ok(())
}

fn binary_size() -> Result<Row> {
    let hull = std::fs::metadata(shell::target_dir().join("release/hull"))?.len();
    let mut docker = 0;
    for program in [
        "/usr/bin/docker",
        "/usr/sbin/dockerd",
        "/usr/bin/containerd",
        "/usr/bin/containerd-shim-runc-v2",
        "/usr/sbin/runc",
        "/usr/bin/docker-proxy",
        "/usr/sbin/docker-proxy",
        "/usr/bin/docker-init",
    ] {
        docker += std::fs::metadata(program).map_or(0, |file| file.len());
    }
    Ok(Row::new("size of the programs on disk")
        .bytes("hull", hull)
        .bytes("docker", docker))
}
