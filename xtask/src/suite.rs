//! `./x test`: installs what the tests need, then runs every check and every test.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::apt::{self, need};
use crate::{shell, soak, tidy};

/// Load of the soak; four kills come into it.
const SOAK_SECONDS: u32 = 30;

/// What to leave out, for a quick look; CI leaves nothing out.
#[derive(clap::Args)]
pub struct Args {
    /// Only the tests whose name contains this.
    filter: Option<String>,
}

const NEEDS: &[apt::Need] = &[
    need("busybox", "busybox-static"),
    need("docker-registry", "docker-registry"),
    need("dockerd", "docker.io"),
    need("docker-compose", "docker-compose"),
    need("runc", "runc"),
    need("crun", "crun"),
    need("skopeo", "skopeo"),
    need("strace", "strace"),
    need("podman", "podman"),
    need("containerd", "containerd"),
    need("depmod", "kmod"),
    need("nft", "nftables"),
    need("iptables", "iptables"),
    need("ip", "iproute2"),
    need("htpasswd", "apache2-utils"),
    need("newuidmap", "uidmap"),
    need("getfattr", "attr"),
    need("setcap", "libcap2-bin"),
    need("mkfs.btrfs", "btrfs-progs"),
    need("mkfs.erofs", "erofs-utils"),
    need("mkfs.ext4", "e2fsprogs"),
    need("mkfs.xfs", "xfsprogs"),
    need("fuse-overlayfs", "fuse-overlayfs"),
    need("dmsetup", "dmsetup"),
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("apparmor_parser", "apparmor"),
    need("secilc", "secilc"),
    need("mmdebstrap", "mmdebstrap"),
    need("curl", "curl"),
    need("dig", "bind9-dnsutils"),
    need("socat", "socat"),
    need("jq", "jq"),
    need("cpio", "cpio"),
    need("zstd", "zstd"),
    need("xz", "xz-utils"),
    need("openssl", "openssl"),
    need("rsyslogd", "rsyslog"),
    need("groff", "groff-base"),
];

/// Runs everything; each stage says how long it took.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the tests make namespaces, mounts and cgroups: run ./x test as root");
    }
    stage("install", || apt::install(NEEDS))?;
    stage("fmt", || {
        shell::run(&mut shell::cargo(&["fmt", "--all", "--", "--check"]))
    })?;
    stage("tidy", tidy::run)?;
    stage("clippy", || {
        shell::run(&mut shell::cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    stage("fuzz targets", || {
        // They are checked, not linked: libFuzzer itself, which needs a C++ compiler, is left out.
        let mut command = shell::cargo(&["check", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
        command
            .env("CUSTOM_LIBFUZZER_PATH", "/nonexistent/libfuzzer.a")
            .env("CARGO_TARGET_DIR", shell::target_dir());
        shell::run(&mut command)
    })?;
    stage("build", || {
        shell::run(&mut shell::cargo(&[
            "build",
            "--quiet",
            "--package",
            "hull",
        ]))
    })?;
    stage("test", || {
        let mut command = shell::cargo(&["test", "--workspace", "--no-fail-fast"]);
        if let Some(filter) = &args.filter {
            command.arg(filter);
        }
        shell::run(command.env("HULL_BIN", shell::target_dir().join("debug/hull")))
    })?;
    if args.filter.is_some() {
        return Ok(());
    }
    // By itself: its clients leave no processor to other tests. Longer ones are run by hand (docs/soak.md).
    let soak = soak::Args {
        seconds: SOAK_SECONDS,
    };
    stage("soak", || soak::run(&soak))
}

fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("=== {name}");
    let start = Instant::now();
    work()?;
    println!("=== {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
