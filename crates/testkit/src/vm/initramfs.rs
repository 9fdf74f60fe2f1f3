//! The guest's system: busybox, kernel modules and a script, as the cpio archive that the kernel unpacks.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// The first process, or with the argument `cases` a service. It moves to a tmpfs, because pivot_root(2) refuses the initramfs itself as the old root, mounts what a system has,
/// unpacks the host's files from the disk over it, runs the cases, and powers off.
///
/// A case's output goes to the second serial port with a bar before each line, between `begin` and `end` lines.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root
if [ ! -e /switched ]; then
    mount -t proc proc /proc
    mount -t devtmpfs dev /dev
    modprobe virtio_blk
    mkdir /newroot
    mount -t tmpfs -o mode=755,size=90% root /newroot
    next=/init
    if [ -e /dev/vdb ]; then
        # A system of its own (see `system`): the cases are a service of it.
        tar -x -f /dev/vdb -C /newroot
        cp -a /lib/modules /newroot/usr/lib
        cp /bin/busybox /newroot/usr/bin
        mkdir /newroot/busybox
        /bin/busybox --install -s /newroot/busybox
        next=/usr/lib/systemd/systemd
    else
        cp -a /bin /sbin /lib /etc /newroot
    fi
    cp /init /newroot
    (cd /newroot && mkdir -p proc sys dev tmp run root usr/bin usr/sbin usr/lib var/lib lib64 && chmod 1777 tmp && touch switched)
    tar -x -f /dev/vda -C /newroot
    umount /proc
    mount --move /dev /newroot/dev
    exec switch_root /newroot $next
fi
if [ "$1" != cases ]; then
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
[ -d /sys/fs/selinux ] && mount -t selinuxfs selinux /sys/fs/selinux
[ -d /sys/fs/bpf ] && mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$controller > /sys/fs/cgroup/cgroup.subtree_control; done
fi
ip link set lo up
hostname hull-vm
ulimit -n 65536
stty -F /dev/ttyS1 raw -echo
exec 3> /dev/ttyS1
while read -r index name; do
    echo "begin $name" >&3
    cd /
    timeout -k 5 "$(cat /cases/limit)" sh /cases/$index < /dev/null > /cases/output 2>&1
    code=$?
    [ $code = 143 ] && code=124
    sed 's/^/|/' /cases/output >&3
    # A last line without a line feed must not swallow the next word.
    [ -z "$(tail -c 1 /cases/output)" ] || echo >&3
    echo "end $code" >&3
done < /cases/list
stty -F /dev/ttyS1 drain 2> /dev/null
sleep 1
poweroff -f
"#;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnobody:x:65534:\n";

/// A cpio archive (`newc`) with the files below `root` and what every guest has.
pub(super) fn build(root: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "sbin", "lib", "etc", "proc", "sys", "dev"] {
        archive.folder(folder);
    }
    archive.file(
        "bin/busybox",
        0o755,
        &fs::read("/bin/busybox").context("read /bin/busybox")?,
    );
    for name in crate::image::busybox_commands() {
        archive.symlink(&format!("bin/{name}"), "/bin/busybox");
    }
    // Where the kernel looks for it when it wants a module.
    archive.symlink("sbin/modprobe", "/bin/busybox");
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("etc/group", 0o644, GROUP.as_bytes());
    archive.tree(&root.join("lib"), "lib", 0)?;
    Ok(crate::image::gzip(&archive.finish()))
}

/// The format of `Documentation/driver-api/early-userspace/buffer-format.rst`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let size = content.len();
        // magic, inode, mode, uid, gid, links, time, size, device, device of a node, length of the name, checksum
        let fields = [
            self.inode as usize,
            mode as usize,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, content);
    }

    fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120_777, target.as_bytes());
    }

    fn tree(&mut self, folder: &Path, name: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth < 16, "{} is nested too deep", folder.display());
        let mut entries = fs::read_dir(folder)
            .with_context(|| format!("list {}", folder.display()))?
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.folder(&inner);
                self.tree(&entry.path(), &inner, depth + 1)?;
            } else {
                self.file(&inner, 0o644, &fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
