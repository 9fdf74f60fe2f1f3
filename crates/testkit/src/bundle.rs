//! OCI bundles around busybox, for runtimes under test.

use crate::temp::TempRoot;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory with `config.json` and `rootfs`.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// What `config.json` will hold; written by [`Bundle::write`].
    pub spec: Value,
}

impl Bundle {
    /// A bundle in `folder/<name>` whose root file system is busybox and whose process is `args`.
    ///
    /// All files of the root file system are this bundle's own, so a test may do with them what it wants.
    pub fn new(root: &TempRoot, name: &str, args: &[&str]) -> Bundle {
        let path = root.folder(name);
        crate::image::busybox_rootfs(&path.join("rootfs"))
            .unwrap_or_else(|error| panic!("lay out busybox in {}: {error}", path.display()));
        let bundle = Bundle {
            path,
            spec: default_spec(args),
        };
        bundle.write();
        bundle
    }

    /// Changes the spec and writes it.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Bundle {
        change(&mut self.spec);
        self.write();
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let path = self.path.join("config.json");
        fs::write(
            &path,
            serde_json::to_vec_pretty(&self.spec).expect("a JSON value"),
        )
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in its root file system.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.path.join("rootfs").join(path.trim_start_matches('/'))
    }
}

/// A spec in the form of `runc spec`'s: all namespaces but user and cgroup, Docker's default mounts, masks and capabilities, no terminal.
pub fn default_spec(args: &[&str]) -> Value {
    let caps = json!([
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT"
    ]);
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "hull-test",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
