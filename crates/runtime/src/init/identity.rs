//! Init's steps about who the process is: user namespace root, keyring, user, capabilities, streams.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use hull_sys::caps::{self, CapSets};
use hull_sys::{Errno, fds, keyring, pty};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, openat};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{At, Init, StepResult};

/// Every right for the session keyring's possessor, and view, read, search for its user.
const KEY_POSSESSOR_ALL: u32 = 0x3f00_0000;
const KEY_USER_SEARCH: u32 = 0x000b_0000;

impl Init<'_> {
    /// A session keyring, so that the container does not share the caller's.
    pub(super) fn keyring(&self, name: &str, label: Option<&str>) -> StepResult {
        if let Some(label) = label {
            // Of this thread only, and of the next key only.
            let path = "/proc/thread-self/attr/keycreate";
            std::fs::write(path, label)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
                .at(label)?;
        }
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match keyring::join_session(&name) {
            Ok(serial) => {
                match keyring::set_permissions(serial, KEY_POSSESSOR_ALL | KEY_USER_SEARCH) {
                    // As runc: a user namespace may refuse it.
                    Ok(()) | Err(Errno::ACCESS | Errno::PERM) => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            // Kernels without keyrings, and quotas used up by others: as runc, no reason to fail.
            Err(Errno::NOSYS | Errno::DQUOT | Errno::NOKEY) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Standard streams in place, theirs the user's (so that it can open /dev/stdout again).
    pub(super) fn stdio(&mut self, uid: u32, terminal: bool) -> StepResult {
        if let Some(streams) = &self.kit.stdio {
            for (number, fd) in streams.iter().enumerate() {
                put(fd.as_fd(), number as i32)?;
            }
        } else if let Some(slave) = self.slave.take() {
            for number in 0..3 {
                put(slave.as_fd(), number)?;
            }
            if terminal {
                pty::set_controlling(slave.as_fd()).at("terminal")?;
            }
        }
        for number in 0..3 {
            if let Ok(fd) = fds::borrow(number)
                && !own_null(fd)?
            {
                give(fd, uid)?;
            }
        }
        Ok(())
    }

    fn setgroups_denied(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut text = [0; 8];
        self.proc_self
            .as_ref()
            .and_then(|dir| openat(dir, c"setgroups", flags, Mode::empty()).ok())
            .and_then(|file| rustix::io::read(file, &mut text).ok())
            .is_some_and(|n| text[..n].starts_with(b"deny"))
    }

    /// Groups, group, user; every permitted capability stays in force until the last step but execve.
    pub(super) fn user(
        &mut self,
        uid: u32,
        gid: u32,
        groups: &[u32],
        umask: Option<u32>,
    ) -> StepResult {
        caps::set_keep(true)?;
        let list: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
        match set_thread_groups(&list) {
            // Given up for a map of one's own group alone (user_namespaces(7)).
            Err(Errno::PERM) if groups.is_empty() && self.setgroups_denied() => {}
            other => other.at("additionalGids")?,
        }
        let gid = Gid::from_raw(gid);
        set_thread_res_gid(gid, gid, gid).at(format!("gid {gid}"))?;
        let user = Uid::from_raw(uid);
        set_thread_res_uid(user, user, user).at(format!("uid {uid}"))?;
        caps::set_keep(false)?;
        let held = caps::get()?;
        caps::set(CapSets {
            effective: held.permitted,
            ..held
        })?;
        rustix::process::umask(Mode::from_raw_mode(umask.unwrap_or(0o022)));
        Ok(())
    }
}

/// Root of the user namespace, where its root is mapped.
pub(super) fn become_root() -> StepResult {
    match set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(e).at("gid 0"),
    }
    match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(e) => Err(e).at("uid 0"),
    }
}

/// Onto 0, 1 or 2, also when it is that number already (then only its close-on-exec flag goes).
fn put(fd: BorrowedFd<'_>, number: i32) -> StepResult {
    match fds::dup_to(fd, number) {
        Err(Errno::INVAL) => Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?),
        other => Ok(other?),
    }
}

/// Makes `uid` the owner, unless it is that already.
fn give(fd: BorrowedFd<'_>, uid: u32) -> StepResult {
    if fstat(fd)?.st_uid == uid {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        // As runc: not ours to give (a file of the host in a user namespace, a read-only file system).
        Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether a stream is `/dev/null`, which is everybody's. The host's is exchanged for the container's: its mount is not
/// the container's to see, and criu could not save it.
fn own_null(fd: BorrowedFd<'_>) -> StepResult<bool> {
    let is_null = |fd: BorrowedFd<'_>| {
        let stat = fstat(fd)?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        Ok::<_, Errno>(device && stat.st_rdev == rustix::fs::makedev(1, 3))
    };
    if !is_null(fd)? {
        return Ok(false);
    }
    // Of the image's making where there is no `/dev` of ours: anything may be there, a pipe without a writer too.
    let flags =
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    if let Ok(null) = rustix::fs::open(c"/dev/null", flags, Mode::empty())
        && is_null(null.as_fd())?
    {
        fds::dup_to(null.as_fd(), std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    }
    Ok(true)
}

/// The program's sets. Only what is held can be kept: the rest is left out, as runc does.
pub(super) fn capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
) -> StepResult {
    let held = caps::get()?.permitted;
    let sets = CapSets {
        effective: effective & permitted & held,
        permitted: permitted & held,
        inheritable: inheritable & held,
    };
    // capset(2) may not add to the inheritable set what is no longer permitted, so it comes in one call.
    caps::set(sets)?;
    let ambient = ambient & sets.permitted & sets.inheritable;
    for cap in 0..64 {
        if ambient & (1 << cap) != 0 {
            caps::raise_ambient(cap)?;
        }
    }
    Ok(())
}
