//! `./x bench registry`: the registry server beside Debian's docker-registry, both on tmpfs, plain HTTP on the loopback of a network
//! namespace of the bench's own, asked by wrk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::engines::{Daemon, Netns};
use super::report::{Report, Row};
use crate::apt::{self, need};
use crate::shell;

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds of each run of wrk.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Runs of each question; the medians are shown.
    #[arg(long, default_value_t = 3)]
    samples: usize,
}

const BLOBS: &[(&str, usize)] = &[
    ("4 KiB", 4 << 10),
    ("64 KiB", 64 << 10),
    ("1 MiB", 1 << 20),
    ("16 MiB", 16 << 20),
];

struct Server {
    name: &'static str,
    url: String,
    daemon: Daemon,
}

/// Builds Hull, starts both servers, measures, prints a Markdown table.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces need root: run ./x bench registry as root");
    }
    apt::install(&[
        need("docker-registry", "docker-registry"),
        need("wrk", "wrk"),
        need("curl", "curl"),
        need("ip", "iproute2"),
    ])?;
    shell::run(&mut shell::cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "hull",
    ]))?;
    let work = tempfile::Builder::new()
        .prefix("hull-bench-")
        .tempdir_in("/dev/shm")?;
    let netns = Netns::new("registry")?;
    let mut report = Report::new(&["docker-registry"], "");
    let servers = [
        hull(&netns, work.path())?,
        docker_registry(&netns, &work.path().join("docker-registry"), 5002)?,
    ];
    std::thread::sleep(Duration::from_secs(1));
    for field in ["VmRSS:", "RssAnon:"] {
        report.add(memory(
            &format!("idle, {}", field.trim_end_matches(':')),
            field,
            &servers,
        )?);
    }
    let digests = fill(&netns, &servers, work.path())?;
    let manifest = (
        "manifest GET by tag".to_owned(),
        "manifests/1".to_owned(),
        16,
    );
    let blobs = BLOBS.iter().zip(&digests).flat_map(|((size, _), digest)| {
        [16, 4].map(|connections| {
            (
                format!("blob GET, {size}"),
                format!("blobs/{digest}"),
                connections,
            )
        })
    });
    for (what, path, connections) in std::iter::once(manifest).chain(blobs) {
        let mut rates = vec![Vec::new(); servers.len()];
        for _ in 0..args.samples.max(1) {
            for (server, rates) in servers.iter().zip(&mut rates) {
                let url = format!("{}/v2/bench/{path}", server.url);
                rates.push(wrk(&netns, &url, connections, args.seconds)?);
            }
        }
        let mut row = Row::new(&format!("{what}, {connections} connections"));
        for (server, mut rates) in servers.iter().zip(rates) {
            rates.sort_unstable_by(f64::total_cmp);
            row = row.rate(server.name, rates[rates.len() / 2]);
        }
        report.add(row);
    }
    for field in ["VmRSS:", "VmHWM:"] {
        report.add(memory(
            &format!("after these, {}", field.trim_end_matches(':')),
            field,
            &servers,
        )?);
    }
    drop(servers);
    println!("{}", report.markdown());
    Ok(())
}

fn hull(netns: &Netns, work: &Path) -> Result<Server> {
    let mut command = netns.enter(shell::target_dir().join("release/hull"));
    command
        .args(["registry", "--listen", "127.0.0.1:5001", "--root"])
        .arg(work.join("hull"));
    server(netns, "hull", command, 5001, work.join("hull.log"))
}

fn docker_registry(netns: &Netns, root: &Path, port: u16) -> Result<Server> {
    std::fs::create_dir_all(root)?;
    let config = root.join("config.yml");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            root.join("data").display()
        ),
    )?;
    let mut command = netns.enter("docker-registry");
    command.arg("serve").arg(&config);
    server(netns, "docker-registry", command, port, root.join("log"))
}

fn server(
    netns: &Netns,
    name: &'static str,
    command: Command,
    port: u16,
    log: PathBuf,
) -> Result<Server> {
    let url = format!("http://127.0.0.1:{port}");
    let ready = || {
        let mut curl = netns.enter("curl");
        shell::output(curl.args(["--silent", "--fail", &format!("{url}/v2/")])).is_ok()
    };
    let daemon = Daemon::start(command, log, ready)?;
    Ok(Server { name, url, daemon })
}

/// Puts the blobs and a manifest into both; returns the blobs' digests.
fn fill(netns: &Netns, servers: &[Server], work: &Path) -> Result<Vec<String>> {
    let file = work.join("blob");
    let mut digests = Vec::new();
    for (_, size) in BLOBS {
        let content: Vec<u8> = (0..*size)
            .map(|index| ((index * 2_654_435_761) >> 7) as u8)
            .collect();
        std::fs::write(&file, &content)?;
        let digest = digest_of(&file)?;
        for server in servers {
            upload(netns, server, &file, &digest)?;
        }
        digests.push(digest);
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":{1}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{0}","size":{1}}}]}}"#,
        digests[0], BLOBS[0].1
    );
    std::fs::write(&file, manifest)?;
    for server in servers {
        let url = format!("{}/v2/bench/manifests/1", server.url);
        shell::output(
            netns
                .enter("curl")
                .args(["--silent", "--fail", "-H"])
                .arg("Content-Type: application/vnd.oci.image.manifest.v1+json")
                .arg("-T")
                .arg(&file)
                .arg(url),
        )?;
    }
    Ok(digests)
}

fn digest_of(file: &Path) -> Result<String> {
    let text = shell::output(Command::new("sha256sum").arg(file))?;
    let hex = text.split_whitespace().next().unwrap_or_default();
    Ok(format!("sha256:{hex}"))
}

fn upload(netns: &Netns, server: &Server, file: &Path, digest: &str) -> Result<()> {
    let begun = shell::output(
        netns
            .enter("curl")
            .args(["--silent", "--fail", "-X", "POST", "-D", "-"])
            .arg(format!("{}/v2/bench/blobs/uploads/", server.url)),
    )?;
    let location = begun
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim())
        })
        .context("an upload without a location")?;
    let location = match location.strip_prefix('/') {
        Some(path) => format!("{}/{path}", server.url),
        None => location.to_owned(),
    };
    let joint = if location.contains('?') { '&' } else { '?' };
    shell::output(
        netns
            .enter("curl")
            .args(["--silent", "--fail", "-T"])
            .arg(file)
            .arg(format!("{location}{joint}digest={digest}")),
    )
    .map(drop)
}

fn wrk(netns: &Netns, url: &str, connections: u32, seconds: u32) -> Result<f64> {
    let text = shell::output(netns.enter("wrk").args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "-H",
        "Accept: application/vnd.oci.image.manifest.v1+json",
        url,
    ]))?;
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("{url}: {}", line.trim());
    }
    text.lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))
        .and_then(|rest| rest.trim().parse().ok())
        .context("wrk printed no rate")
}

fn memory(what: &str, field: &str, servers: &[Server]) -> Result<Row> {
    let mut row = Row::new(what);
    for server in servers {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.daemon.id()))?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("no such field in /proc/PID/status")?;
        row = row.bytes(server.name, kib << 10);
    }
    Ok(row)
}
