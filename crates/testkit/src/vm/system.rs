//! A guest's system with systemd and D-Bus: Debian's packages, extracted and pruned, as one archive in the cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{host, kernel};

/// Part of the cache's name: to be raised when what is built changes.
const RECIPE: u32 = 2;

/// Packages with what they depend on; no maintainer script is run.
const PACKAGES: &str = "systemd,dbus";

/// What no case looks at, most of the size.
const PRUNED: [&str; 7] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/zoneinfo",
    "usr/share/info",
    "usr/share/perl5",
    "var/cache",
];

/// The kernel's arguments: systemd's goal is the service with the cases, and what that wants.
pub(super) const ARGUMENTS: &str = "systemd.unit=hull-cases.service systemd.show_status=0 systemd.log_target=console systemd.log_level=warning";

/// Not ordered behind the usual boot, which takes a minute under emulation and brings nothing that a case needs.
const SERVICE: &str = "[Unit]
DefaultDependencies=no
Wants=dbus.service
After=dbus.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/bin/busybox sh /init cases
";

const EARLY: &str = "[Unit]
DefaultDependencies=no
";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/:/bin/false
";
const GROUP: &str = "root:x:0:
tty:x:5:
messagebus:x:100:
nogroup:x:65534:
";

/// The archive, a disk of the machine.
pub(super) fn prepare() -> anyhow::Result<PathBuf> {
    Ok(kernel::cached(&format!("system-{RECIPE}"), build)?.join("system.tar"))
}

fn build(folder: &Path) -> anyhow::Result<()> {
    let work = crate::temp::TempRoot::new("hull-vm-system");
    let root = work.join("root");
    host(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", "--format=directory"])
            .arg(format!("--include={PACKAGES}"))
            .arg(release()?)
            .arg(&root),
    )?;
    for path in PRUNED {
        let _ = fs::remove_dir_all(root.join(path));
    }
    let files = [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/machine-id", ""),
        ("etc/systemd/system/hull-cases.service", SERVICE),
        ("etc/systemd/system/dbus.service.d/early.conf", EARLY),
        ("etc/systemd/system/dbus.socket.d/early.conf", EARLY),
    ];
    for (path, content) in files {
        let path = root.join(path);
        let parent = path.parent().context("a file's folder")?;
        fs::create_dir_all(parent)?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    // Packages that came before the merge of /usr assume it; extraction alone does not make it.
    for name in ["bin", "sbin", "lib", "lib64"] {
        merge(&root, name)?;
    }
    // Where the kernel looks for it when it wants a module; busybox is put in at boot.
    symlink("/busybox/modprobe", root.join("usr/sbin/modprobe")).context("link modprobe")?;
    host(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(folder.join("system.tar"))
            .arg("."),
    )?;
    Ok(())
}

/// Makes `name` a link into /usr, with what it had.
fn merge(root: &Path, name: &str) -> anyhow::Result<()> {
    let old = root.join(name);
    if old.is_symlink() {
        return Ok(());
    }
    let new = root.join("usr").join(name);
    fs::create_dir_all(&new)?;
    if old.is_dir() {
        host(Command::new("cp").arg("-a").arg(old.join(".")).arg(&new))?;
        fs::remove_dir_all(&old)?;
    }
    symlink(format!("usr/{name}"), &old).with_context(|| format!("link {}", old.display()))
}

/// The host's release: its archive is the one that the host can reach.
fn release() -> anyhow::Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release names no release")?
        .trim_matches('"')
        .to_owned())
}
