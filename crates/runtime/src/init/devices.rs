//! Init's steps about devices: nodes, the links of `/dev`, the terminal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hull_oci::runtime::DeviceType;
use hull_sys::{Errno, mount, path, pty};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chownat, fstat, fstatfs, makedev, mknodat, openat, readlinkat,
    statat, symlinkat, unlinkat,
};

use super::{At, Init, StepResult};
use crate::plan::DeviceStep;

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// Links of `/dev` (runtime-spec, "Dev symbolic links").
const LINKS: &[(&str, &str)] = &[
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

/// The host's `/dev/null`, which must really be that (CVE-2025-31133: masks are bound from it).
pub(super) fn open_null() -> StepResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(c"/dev/null", flags, Mode::empty()).at("/dev/null")?;
    let stat = fstat(&fd).at("/dev/null")?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_char || stat.st_rdev != makedev(1, 3) {
        return Err(Errno::NODEV).at("/dev/null");
    }
    Ok(fd)
}

impl Init<'_> {
    pub(super) fn devices(&self, nodes: &[DeviceStep], links: bool) -> StepResult {
        let root = self.root()?;
        for node in nodes {
            self.node(node).map_err(|mut e| {
                e.path = node.path.to_string_lossy().into_owned();
                e
            })?;
        }
        let dev = path::mkdir_all_in_root(root, Path::new("dev"), Mode::from_raw_mode(0o755))
            .at("/dev")?;
        if links {
            for (link, target) in LINKS {
                let name = link.strip_prefix("dev/").unwrap_or(link);
                symlink(&dev, name, target)?;
            }
        }
        // /dev/ptmx of the image or of the host must not be used: the container has its own devpts.
        match readlinkat(&dev, "ptmx", Vec::new()) {
            Ok(target) if target.as_bytes() == b"pts/ptmx" => return Ok(()),
            Ok(_) | Err(Errno::INVAL) => {
                unlinkat(&dev, "ptmx", AtFlags::empty()).at("/dev/ptmx")?
            }
            Err(_) => {}
        }
        symlink(&dev, "ptmx", "pts/ptmx")
    }

    fn node(&self, node: &DeviceStep) -> StepResult {
        let root = self.root()?;
        if let Some(source) = node.bind {
            let mode = Mode::from_raw_mode(0o666);
            let target = path::create_file_in_root(root, &node.path, mode)?;
            return Ok(mount::attach_to(self.source(source)?, target.as_fd())?);
        }
        let (parent, name) =
            path::open_parent_in_root(root, &node.path, Mode::from_raw_mode(0o755))?;
        let kind = match node.kind {
            DeviceType::Char | DeviceType::Unbuffered => FileType::CharacterDevice,
            DeviceType::Block => FileType::BlockDevice,
            DeviceType::Fifo => FileType::Fifo,
            DeviceType::All => return Err(Errno::INVAL.into()),
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => makedev(node.major, node.minor),
        };
        match mknodat(
            &parent,
            name,
            kind,
            Mode::from_raw_mode(node.mode & 0o7777),
            device,
        ) {
            // Somebody mounted something there that has it: only the same device will do.
            Err(Errno::EXIST) => {
                let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
                    return Err(Errno::EXIST.into());
                }
            }
            other => other?,
        }
        if node.uid != 0 || node.gid != 0 {
            let uid = rustix::fs::Uid::from_raw(node.uid);
            let gid = rustix::fs::Gid::from_raw(node.gid);
            chownat(
                &parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }

    /// A terminal on the container's own devpts; the master goes to the caller, the slave onto
    /// `/dev/console` by descriptor (CVE-2025-52565).
    pub(super) fn console(&mut self, size: Option<(u16, u16)>, bind: bool) -> StepResult {
        let pair = if bind {
            let devpts = path::open_in_root_nosymlinks(
                self.root()?,
                Path::new("dev/pts"),
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .at("/dev/pts")?;
            open_pty(devpts)?
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open_pty(rustix::fs::open(c"/dev/pts", flags, Mode::empty()).at("/dev/pts")?)?
        };
        if let Some((columns, rows)) = size {
            pty::set_size(pair.master.as_fd(), columns, rows).at("consoleSize")?;
        }
        if bind {
            let mode = Mode::from_raw_mode(0o666);
            let target = path::create_file_in_root(self.root()?, Path::new("dev/console"), mode)
                .at("/dev/console")?;
            let tree =
                mount::clone_tree(pair.slave.as_fd(), Path::new(""), false).at("/dev/console")?;
            mount::attach_to(tree.as_fd(), target.as_fd()).at("/dev/console")?;
        }
        crate::wire::send_console(self.sync.as_fd(), pair.master.as_fd())?;
        self.slave = Some(pair.slave);
        Ok(())
    }
}

fn open_pty(devpts: OwnedFd) -> StepResult<pty::Pty> {
    if fstatfs(&devpts)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Errno::NODEV).at("/dev/pts");
    }
    pty::open_in(devpts.as_fd()).at("/dev/pts/ptmx")
}

fn symlink(dir: &OwnedFd, name: &str, target: &str) -> StepResult {
    match symlinkat(target, dir, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e).at(Path::new("/dev").join(name)),
    }
}

/// A regular file's mode bits, for callers that make mount points.
pub(super) fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// Opens `name` below `dir` without following it.
pub(super) fn open_nofollow(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(
        dir,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
