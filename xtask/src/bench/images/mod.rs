//! `./x bench images`: pull, push, save and load beside docker.io, podman and containerd's ctr, from Debian's docker-registry.
//!
//! All of them run in one network namespace of the bench's own, on one disk of its own (ext4 on a loop device whose file lies in
//! memory), each on roots of its own. Samples are interleaved; medians are printed, with the processor time, because the machine
//! may be shared. The bounds are measured with the store's own libraries (`crates/store/examples/bound.rs`).

mod archive;
mod subjects;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::disk::{self, Disk};
use super::engines::Netns;
use super::report::{Report, Row};
use super::{median, timed};
use crate::apt::{self, need};
use crate::shell;
use archive::{LARGE, MANY, Shape};
use subjects::{Cost, Registry, Subject};

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Samples of each operation.
    #[arg(long, default_value_t = 3)]
    samples: usize,
    /// Where the file of the disk is made.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Leave the operations other than pull out.
    #[arg(long)]
    pull_only: bool,
    /// Only this image: large or many.
    #[arg(long)]
    only: Option<String>,
    /// Divide the number of files by this, for a quick look.
    #[arg(long, default_value_t = 1)]
    divide: usize,
}

const OTHERS: &[&str] = &["docker", "podman", "ctr"];

/// Builds Hull, makes the images, measures, prints a Markdown table.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("engines need root: run ./x bench images as root");
    }
    apt::install(&[
        need("dockerd", "docker.io"),
        need("podman", "podman"),
        need("containerd", "containerd"),
        need("docker-registry", "docker-registry"),
        need("skopeo", "skopeo"),
        need("mkfs.ext4", "e2fsprogs"),
        need("ip", "iproute2"),
    ])?;
    for build in [
        &["--package", "hull"][..],
        &["--package", "hull-store", "--example", "bound"],
    ] {
        let mut command = shell::cargo(&["build", "--quiet", "--release"]);
        shell::run(command.args(build))?;
    }
    let disk = Disk::new(&args.dir, 24)?;
    let netns = Netns::new("images")?;
    let mut report = Report::new(OTHERS, "bound");
    let mut bench = Bench::start(disk.path(), &netns)?;
    for (name, shape) in [("large", LARGE), ("many", MANY)] {
        if args.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let shape = shape.divided(args.divide);
        let archive = bench.upload(name, shape)?;
        bench.bounds(name, shape, &mut report)?;
        bench.pulls(name, shape, args.samples, &mut report)?;
        if name == "large" {
            if !args.pull_only {
                bench.pushes(name, args.samples, &mut report)?;
                bench.saves(name, args.samples, &mut report)?;
                bench.loads(name, &archive, args.samples, &mut report)?;
            }
            bench.disk_use(name, shape, &mut report)?;
        }
        for subject in &bench.subjects {
            subject.remove(&reference(name))?;
        }
        std::fs::remove_file(&archive)?;
    }
    drop(bench);
    drop(netns);
    println!("{}", report.markdown());
    Ok(())
}

struct Bench<'n> {
    work: PathBuf,
    netns: &'n Netns,
    registry: Option<Registry>,
    subjects: Vec<Box<dyn Subject>>,
}

/// A name in the registry that images are pulled from.
fn reference(name: &str) -> String {
    format!("127.0.0.1:5000/bench/{name}:1")
}

impl<'n> Bench<'n> {
    fn start(work: &Path, netns: &'n Netns) -> Result<Self> {
        Ok(Self {
            work: work.to_owned(),
            netns,
            registry: None,
            subjects: subjects::all(netns, work)?,
        })
    }

    fn registry(&self) -> Result<&Registry> {
        self.registry
            .as_ref()
            .context("the registry is not started")
    }

    /// Makes an image and puts it into the registry, compressed by skopeo. Returns its archive.
    fn upload(&mut self, name: &str, shape: Shape) -> Result<PathBuf> {
        // A new registry for each, whose blobs are then this image's.
        self.registry = None;
        let folder = self.work.join(format!("registry-{name}"));
        self.registry = Some(Registry::start(self.netns, &folder, 5000)?);
        let (archive, took) = timed(|| archive::docker_archive(&self.work, name, shape))?;
        eprintln!("{name}: made in {:.1} s", took.as_secs_f64());
        let copy = || {
            shell::output(
                self.netns
                    .enter("skopeo")
                    .args(["copy", "--quiet", "--insecure-policy"])
                    .arg("--dest-tls-verify=false")
                    .arg(format!("docker-archive:{}", archive.display()))
                    .arg(format!("docker://{}", reference(name)))
                    .env("TMPDIR", &self.work),
            )
        };
        let (_, took) = timed(copy)?;
        eprintln!("{name}: in the registry after {:.1} s", took.as_secs_f64());
        Ok(archive)
    }

    /// What the libraries and the file system allow.
    fn bounds(&self, name: &str, shape: Shape, report: &mut Report) -> Result<()> {
        let program = shell::target_dir().join("release/examples/bound");
        let seconds = |command: &mut Command| -> Result<Duration> {
            let text = shell::output(command)?;
            Ok(Duration::from_secs_f64(text.trim().parse()?))
        };
        let blobs = self.registry()?.blobs()?;
        let gunzip = (0..3)
            .map(|_| seconds(Command::new(&program).arg("gunzip").args(&blobs)))
            .collect::<Result<Vec<_>>>()?;
        report
            .add(Row::new(&format!("{name}: gunzip on two threads")).time("bound", median(gunzip)));
        let mut create = Vec::new();
        for _ in 0..3 {
            let dir = self.work.join("create");
            create.push(seconds(
                Command::new(&program)
                    .arg("create")
                    .arg(&dir)
                    .args([shape.layers * shape.files, shape.bytes].map(|n| n.to_string())),
            )?);
            std::fs::remove_dir_all(&dir)?;
        }
        report.add(
            Row::new(&format!("{name}: making its files on one thread"))
                .time("bound", median(create)),
        );
        Ok(())
    }

    /// One operation of every subject that has it, interleaved.
    fn compare(
        &self,
        what: &str,
        samples: usize,
        report: &mut Report,
        mut measured: impl FnMut(&dyn Subject, usize) -> Result<Option<Cost>>,
    ) -> Result<()> {
        let mut wall = vec![Vec::new(); self.subjects.len()];
        let mut processor = vec![Vec::new(); self.subjects.len()];
        for sample in 0..samples.max(1) {
            for (index, subject) in self.subjects.iter().enumerate() {
                if let Some(cost) = measured(subject.as_ref(), sample)? {
                    wall[index].push(cost.wall);
                    processor[index].push(cost.processor);
                }
            }
        }
        for (kind, times) in [("", wall), (", processor time", processor)] {
            let mut row = Row::new(&format!("{what}{kind}"));
            for (subject, times) in self.subjects.iter().zip(times) {
                if !times.is_empty() {
                    row = row.time(subject.name(), median(times));
                }
            }
            report.add(row);
        }
        Ok(())
    }

    fn pulls(&self, name: &str, shape: Shape, samples: usize, report: &mut Report) -> Result<()> {
        let reference = reference(name);
        let mut peaks = vec![0; self.subjects.len()];
        let what = format!(
            "{name}: pull, {} MiB in {} files and {} layers",
            shape.size() >> 20,
            shape.layers * shape.files,
            shape.layers
        );
        self.compare(&what, samples, report, |subject, sample| {
            if sample > 0 {
                subject.remove(&reference)?;
            }
            let cost = subject.cost(&mut || subject.pull(&reference))?;
            let index = self
                .subjects
                .iter()
                .position(|one| one.name() == subject.name());
            if let (Some(index), Some(peak)) = (index, subject.peak_memory()?) {
                peaks[index] = peak.max(peaks[index]);
            }
            Ok(Some(cost))
        })?;
        let mut row = Row::new(&format!("{name}: peak memory of the daemon so far"));
        for (subject, peak) in self.subjects.iter().zip(peaks) {
            if peak > 0 {
                row = row.bytes(subject.name(), peak);
            }
        }
        report.add(row);
        let asked = self.registry()?.requests()?;
        self.subjects[0].pull(&reference)?;
        let asked = self.registry()?.requests()? - asked;
        self.compare(
            &format!("{name}: pull of what is here (hull: {asked} requests)"),
            samples.max(11),
            report,
            |subject, _| subject.cost(&mut || subject.pull(&reference)).map(Some),
        )
    }

    /// Each push goes to an empty registry.
    fn pushes(&self, name: &str, samples: usize, report: &mut Report) -> Result<()> {
        let reference = reference(name);
        self.compare(&format!("{name}: push"), samples, report, |subject, _| {
            let folder = self.work.join("target");
            let target = Registry::start(self.netns, &folder, 5001)?;
            let to = format!("127.0.0.1:5001/bench/{name}:1");
            subject.tag(&reference, &to)?;
            let cost = subject.cost(&mut || subject.push(&to))?;
            subject.remove(&to)?;
            drop(target);
            std::fs::remove_dir_all(&folder)?;
            Ok(Some(cost))
        })
    }

    fn saves(&self, name: &str, samples: usize, report: &mut Report) -> Result<()> {
        let reference = reference(name);
        let file = self.work.join("saved.tar");
        self.compare(
            &format!("{name}: save to a file"),
            samples,
            report,
            |subject, _| {
                if !subject.has_archives() {
                    return Ok(None);
                }
                let cost = subject.cost(&mut || subject.save(&reference, &file))?;
                std::fs::remove_file(&file)?;
                Ok(Some(cost))
            },
        )
    }

    /// Of the uncompressed Docker archive, by an engine that has nothing of it.
    fn loads(&self, name: &str, file: &Path, samples: usize, report: &mut Report) -> Result<()> {
        let reference = reference(name);
        let loaded = format!("{name}:1");
        for subject in &self.subjects {
            subject.remove(&reference)?;
        }
        self.compare(
            &format!("{name}: load of a Docker archive"),
            samples,
            report,
            |subject, _| {
                if !subject.has_archives() {
                    return Ok(None);
                }
                let cost = subject.cost(&mut || subject.load(file))?;
                subject.remove(&loaded)?;
                Ok(Some(cost))
            },
        )
    }

    /// What an engine's folder grows by, and by how much more than the files' own length.
    fn disk_use(&self, name: &str, shape: Shape, report: &mut Report) -> Result<()> {
        let reference = reference(name);
        let mut row = Row::new(&format!(
            "{name}: disk used by a pulled image of {} MiB",
            shape.size() >> 20
        ));
        for subject in &self.subjects {
            // It is there after pulls and not after loads.
            let _ = subject.remove(&reference);
            let before = disk::used(subject.root())?;
            subject.pull(&reference)?;
            let after = disk::used(subject.root())?;
            row = row.bytes(subject.name(), after.saturating_sub(before));
        }
        report.add(row);
        Ok(())
    }
}
