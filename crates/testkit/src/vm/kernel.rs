//! Debian's cloud kernel, fetched once and kept with its initramfs in a cache directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{host, initramfs};

/// What a machine boots from.
#[derive(Debug)]
pub(super) struct Kernel {
    pub image: PathBuf,
    pub initramfs: PathBuf,
}

/// Kernel packages in order of preference: the backported kernel first, for its newer cgroup files and system calls.
const PACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// Another package, for what the cloud kernel lacks, such as `linux-image-6.12-amd64` (three times the size).
const CHOICE: &str = "HULL_VM_KERNEL";

/// Part of the cache's name: to be raised when what is built from the package changes.
const RECIPE: u32 = 3;

/// Modules that the guest can load, with what they depend on.
const MODULES: &[&str] = &[
    // Disks and file systems.
    "virtio_blk",
    "virtio_net",
    "loop",
    "overlay",
    "fuse",
    "erofs",
    "squashfs",
    "ext4",
    "xfs",
    "btrfs",
    "dm_mod",
    "dm_thin_pool",
    "bfq",
    // What criu looks at sockets with.
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "netlink_diag",
    "packet_diag",
    // Links.
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "vxlan",
    "macvlan",
    "macvtap",
    "ipvlan",
    "tun",
    "8021q",
    "ifb",
    "wireguard",
    "rdma_rxe",
    // Packet filters and translation.
    "nf_tables",
    "nf_nat",
    "nf_conntrack",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_reject_inet",
    "nft_log",
    "nft_limit",
    "nft_compat",
    "ip_tables",
    "iptable_nat",
    "iptable_filter",
    "ip6_tables",
    "xt_conntrack",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_mark",
    "ip_vs",
    "ip_vs_rr",
    "esp4",
    "xfrm_user",
    // Traffic control.
    "sch_htb",
    "sch_tbf",
    "sch_netem",
    "sch_ingress",
    "cls_u32",
];

/// The cache: `HULL_VM_CACHE`, or /var/cache/hull-testkit for root, or the user's own cache.
fn cache() -> PathBuf {
    if let Some(path) = std::env::var_os("HULL_VM_CACHE") {
        return path.into();
    }
    match std::env::var_os("HOME") {
        Some(home) if !crate::skips::is_root() => Path::new(&home).join(".cache/hull-testkit"),
        _ => "/var/cache/hull-testkit".into(),
    }
}

/// Gets both files, building them the first time. Several tests may ask at once; one builds.
pub(super) fn prepare() -> anyhow::Result<Kernel> {
    let name = match std::env::var(CHOICE) {
        Ok(package) => format!("kernel-{RECIPE}-{package}"),
        Err(_) => format!("kernel-{RECIPE}"),
    };
    let folder = cached(&name, build)?;
    Ok(Kernel {
        image: folder.join("vmlinuz"),
        initramfs: folder.join("initramfs"),
    })
}

/// The folder of this name in the cache, made by `build` the first time.
pub(super) fn cached(
    name: &str,
    build: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cache = cache();
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let lock = fs::File::create(cache.join("lock")).context("make the cache's lock")?;
    lock.lock().context("lock the cache")?;
    let folder = cache.join(name);
    if !folder.is_dir() {
        // Built aside and renamed, so that an interrupted build is not taken for a finished one.
        let building = cache.join(format!("building-{name}"));
        let _ = fs::remove_dir_all(&building);
        fs::create_dir_all(&building)?;
        build(&building)?;
        fs::rename(&building, &folder).with_context(|| format!("put {name} into the cache"))?;
    }
    Ok(folder)
}

fn build(folder: &Path) -> anyhow::Result<()> {
    let work = crate::temp::TempRoot::new("hull-vm-kernel");
    let package = package()?;
    host(
        Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download", &package])
            .current_dir(work.path()),
    )?;
    let archive = entries(work.path())?
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "deb"));
    let archive = archive.context("apt-get download left no package")?;
    let unpacked = work.folder("unpacked");
    host(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(archive)
            .arg(&unpacked),
    )?;
    let image = entries(&unpacked.join("boot"))?
        .into_iter()
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"));
    fs::copy(
        image.context("the package has no kernel")?,
        folder.join("vmlinuz"),
    )?;

    let versions = ["lib/modules", "usr/lib/modules"].map(|path| unpacked.join(path));
    let versions = versions
        .iter()
        .find(|path| path.is_dir())
        .context("the package has no modules")?;
    let tree = entries(versions)?
        .pop()
        .context("the package has no modules")?;
    let version = tree
        .file_name()
        .context("a kernel's version")?
        .to_string_lossy()
        .into_owned();
    let root = work.folder("root");
    modules(&tree, &root.join("lib/modules").join(&version))?;
    host(
        Command::new("/bin/busybox")
            .args(["depmod", "-b"])
            .arg(&root)
            .arg(&version),
    )?;
    fs::write(folder.join("initramfs"), initramfs::build(&root)?).context("write the initramfs")
}

/// The package that holds the newest image of one of [`PACKAGES`], which only depend on it.
fn package() -> anyhow::Result<String> {
    let choice = std::env::var(CHOICE).ok();
    let metas: Vec<&str> = match &choice {
        Some(package) => vec![package],
        None => PACKAGES.to_vec(),
    };
    for &meta in &metas {
        let Ok(text) = host(Command::new("apt-cache").args(["depends", "--important", meta]))
        else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let image = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        if let Some(version) = image {
            // The unsigned package is the same kernel; either may be in the mirror.
            for name in [
                format!("linux-image-{version}-unsigned"),
                format!("linux-image-{version}"),
            ] {
                let policy =
                    host(Command::new("apt-cache").args(["policy", &name])).unwrap_or_default();
                let policy = String::from_utf8_lossy(&policy);
                if policy.contains("Candidate:") && !policy.contains("Candidate: (none)") {
                    return Ok(name);
                }
            }
        }
    }
    anyhow::bail!(
        "Debian's archive has none of {} (apt-get update?)",
        metas.join(", ")
    )
}

/// Copies [`MODULES`] and what they need, decompressed, because busybox cannot read compressed ones.
fn modules(tree: &Path, target: &Path) -> anyhow::Result<()> {
    let mut known = BTreeMap::new();
    index(tree, &mut known, 0)?;
    let mut wanted: Vec<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
    let mut done = std::collections::BTreeSet::new();
    fs::create_dir_all(target.join("kernel"))?;
    while let Some(name) = wanted.pop() {
        // What is not there as a module is built in, or not in this kernel: the case that needs it will say so.
        let Some(path) = known.get(&name) else {
            continue;
        };
        if !done.insert(name.clone()) {
            continue;
        }
        let content = match path.extension() {
            Some(kind) if kind == "xz" => host(
                Command::new("xz")
                    .args(["--decompress", "--stdout"])
                    .arg(path),
            )?,
            _ => fs::read(path)?,
        };
        wanted.extend(depends(&content));
        fs::write(target.join("kernel").join(format!("{name}.ko")), content)?;
    }
    for list in ["modules.order", "modules.builtin"] {
        fs::copy(tree.join(list), target.join(list)).with_context(|| format!("copy {list}"))?;
    }
    Ok(())
}

/// The names after `depends=` in a module's `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(normal)
        .collect()
}

/// Module names differ from file names in `-` and `_`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn index(folder: &Path, known: &mut BTreeMap<String, PathBuf>, depth: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        depth < 16,
        "modules nested too deep in {}",
        folder.display()
    );
    for path in entries(folder)? {
        if path.is_dir() {
            index(&path, known, depth + 1)?;
        } else if let Some((name, _)) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once(".ko"))
        {
            known.insert(normal(name), path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}
