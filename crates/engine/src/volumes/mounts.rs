//! File systems of `local` volumes: mounted for the first container that uses one, unmounted after the last. Who uses them is kept in
//! memory only; after a crash the kernel's own table and the containers that run say how it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::options::Call;
use crate::error::{Error, Result, failed};

/// Mounts on one place that are taken off before it is given up.
const STACK_MAX: usize = 64;

type Users = Arc<Mutex<BTreeSet<String>>>;

/// Who uses which volume. Each volume has a lock of its own: a server that does not answer holds up its volume only.
#[derive(Default)]
pub(super) struct Mounts {
    volumes: Mutex<BTreeMap<String, Users>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mounts {
    fn users(&self, name: &str) -> Users {
        locked(&self.volumes)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    /// Mounts a volume at `target`, if it is not, for one more user.
    pub(super) fn acquire(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        target: &Path,
        user: &str,
    ) -> Result<()> {
        let Some(call) = Call::of(options).map_err(|error| at(target, error))? else {
            return Ok(());
        };
        let users = self.users(name);
        let mut users = locked(&users);
        // Whoever made it: a mount that is there is taken over.
        if !is_mounted(target)? {
            mount(&call, target).map_err(|error| at(target, error))?;
        }
        users.insert(user.to_owned());
        Ok(())
    }

    /// Notes a user that was there before this daemon.
    pub(super) fn adopt(&self, name: &str, user: &str) {
        locked(&self.users(name)).insert(user.to_owned());
    }

    /// One user less; after the last the volume is unmounted.
    pub(super) fn release(&self, name: &str, target: &Path, user: &str) -> Result<()> {
        let Some(users) = locked(&self.volumes).get(name).cloned() else {
            return Ok(());
        };
        let mut users = locked(&users);
        if users.remove(user) && users.is_empty() {
            unmount_all(target)?;
        }
        Ok(())
    }

    /// Takes a volume that nobody uses off the table, mounted or not: before its files are removed, and where a daemon was killed.
    pub(super) fn clear(&self, name: &str, target: &Path) -> Result<()> {
        let users = self.users(name);
        let users = locked(&users);
        if users.is_empty() {
            unmount_all(target)?;
            locked(&self.volumes).remove(name);
        }
        Ok(())
    }
}

fn at(target: &Path, error: Error) -> Error {
    error.context(format!(
        "error while mounting volume '{}'",
        target.display()
    ))
}

fn mount(call: &Call, target: &Path) -> Result<()> {
    let refused = |errno: rustix::io::Errno| {
        let text = std::io::Error::from(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Error::internal(format!(
            "failed to mount local volume: {}: {}",
            call.shown(&target.display().to_string()),
            text.to_lowercase()
        ))
    };
    let data = std::ffi::CString::new(call.data.as_str())
        .map_err(|_| Error::invalid("a mount option contains a null byte"))?;
    rustix::mount::mount(
        call.device.as_str(),
        target,
        call.fstype.as_str(),
        call.flags,
        Some(data.as_c_str()),
    )
    .map_err(refused)?;
    let propagated = match call.propagation.is_empty() {
        true => Ok(()),
        false => {
            let recursive = call.propagation & MountPropagationFlags::REC;
            (call.propagation - MountPropagationFlags::REC)
                .iter()
                .try_for_each(|one| rustix::mount::mount_change(target, one | recursive))
        }
    };
    // A bind mount takes its other flags only from a second call, mount(2).
    let rest = call.flags
        - MountFlags::BIND
        - MountFlags::from_bits_retain(MountPropagationFlags::REC.bits());
    let again = match call.flags.contains(MountFlags::BIND) && !rest.is_empty() {
        true => rustix::mount::mount_remount(target, MountFlags::BIND | rest, c""),
        false => Ok(()),
    };
    propagated.and(again).map_err(|errno| {
        let error = refused(errno);
        match unmount_all(target) {
            Ok(()) => error,
            Err(left) => Error::internal(format!("{}; then {}", error.message, left.message)),
        }
    })
}

/// From the kernel's table: looking at the directory itself could wait for a server for ever.
pub(super) fn is_mounted(target: &Path) -> Result<bool> {
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(failed("read mountinfo"))?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|field| Path::new(&crate::task::unescape(field)) == target))
}

fn unmount_all(target: &Path) -> Result<()> {
    for _ in 0..STACK_MAX {
        if !is_mounted(target)? {
            return Ok(());
        }
        rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(failed(format!("unmount {}", target.display())))?;
    }
    Err(Error::internal(format!(
        "more than {STACK_MAX} mounts lie on {}",
        target.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_shared_found_again_and_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().canonicalize().unwrap().join("with space");
        std::fs::create_dir(&target).unwrap();
        let options: BTreeMap<String, String> =
            [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        let mounts = Mounts::default();
        match mounts.acquire("v", &options, &target, "one") {
            Err(error) if error.message.contains("permitted") => {
                return hull_testkit::skip!("not allowed to mount");
            }
            other => other.unwrap(),
        }
        std::fs::write(target.join("kept"), "").unwrap();
        mounts.acquire("v", &options, &target, "two").unwrap();
        mounts.release("v", &target, "one").unwrap();
        mounts.release("v", &target, "stranger").unwrap();
        assert!(target.join("kept").exists(), "the second user has it still");
        // The daemon was killed, and the container `two` runs on.
        let after = Mounts::default();
        after.adopt("v", "two");
        after.clear("v", &target).unwrap();
        after.acquire("v", &options, &target, "three").unwrap();
        assert!(target.join("kept").exists(), "the mount is taken over");
        after.release("v", &target, "two").unwrap();
        after.release("v", &target, "three").unwrap();
        assert!(!is_mounted(&target).unwrap());
        // Killed again, and nobody runs.
        after.acquire("v", &options, &target, "four").unwrap();
        Mounts::default().clear("v", &target).unwrap();
        assert!(!is_mounted(&target).unwrap());
        let bad = [("type", "tmpfs"), ("device", "d"), ("o", "bogus=1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let at = target.display();
        assert_eq!(
            mounts
                .acquire("bad", &bad, &target, "one")
                .unwrap_err()
                .message,
            format!(
                "error while mounting volume '{at}': failed to mount local volume: mount d:{at}, data: bogus=1: invalid argument"
            )
        );
    }
}
