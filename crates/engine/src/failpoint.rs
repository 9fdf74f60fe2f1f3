//! Named failure points: places in the sequences where a test makes the engine fail, or die.
//!
//! Empty in ordinary use: passing one then costs one atomic load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The step fails with an internal error that names the point.
    Fail,
    /// The process ends at once, as by `kill -9`.
    Abort,
    /// The same, and its children with it: the shims that it has started.
    AbortAll,
}

/// Every point there is, in the order in which a container's life passes them.
pub const POINTS: &[&str] = &[
    "create.begin",
    "create.snapshot",
    "create.files",
    "create.volumes",
    "create.row",
    "start.begin",
    "start.leased",
    "start.files",
    "start.spec",
    "start.bundle",
    "start.connected",
    "start.spawned",
    "start.created",
    "start.started",
    "start.running",
    "exec.begin",
    "exec.created",
    "exec.started",
    "exit.seen",
    "exit.recorded",
    "exit.network",
    "remove.begin",
    "remove.row",
    "remove.snapshot",
    "remove.files",
    "network.create.row",
    "network.create.applied",
    "network.remove.row",
    "network.connect.leased",
    "network.connect.applied",
    "network.disconnect.record",
    "network.disconnect.closed",
    "network.disconnect.link",
    "volume.create.dir",
    "volume.remove.row",
    "pull.leased",
    "pull.staged",
    "pull.layer",
    "pull.recorded",
    "image.prune.rows",
    "image.prune.layer",
    "image.prune.blobs",
    "prune.next",
];

/// The failure points that are armed. A cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    any: AtomicBool,
    armed: Mutex<BTreeMap<String, Action>>,
}

impl Failpoints {
    /// Reads `name=fail,name=abort`; an unknown name or action is an error that names it.
    pub fn parse(text: &str) -> Result<Failpoints> {
        let points = Failpoints::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (name, action) = item.split_once('=').unwrap_or((item, "fail"));
            let action = match action {
                "fail" => Action::Fail,
                "abort" => Action::Abort,
                "abort-all" => Action::AbortAll,
                other => {
                    return Err(Error::invalid(format!(
                        "failure point {name}: unknown action {other}"
                    )));
                }
            };
            points.arm(name, action)?;
        }
        Ok(points)
    }

    /// Arms a point.
    pub fn arm(&self, name: &str, action: Action) -> Result<()> {
        if !POINTS.contains(&name) {
            return Err(Error::invalid(format!("unknown failure point {name}")));
        }
        self.lock().insert(name.to_owned(), action);
        self.inner.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Disarms all points.
    pub fn clear(&self) {
        self.lock().clear();
        self.inner.any.store(false, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Action>> {
        self.inner
            .armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the point, or does what is armed there.
    pub(crate) fn pass(&self, name: &'static str) -> Result<()> {
        debug_assert!(
            POINTS.contains(&name),
            "{name} is not in the list of failure points"
        );
        if !self.inner.any.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.lock().get(name).copied() {
            None => Ok(()),
            Some(Action::Fail) => Err(Error::internal(format!("failure point {name}"))),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::AbortAll) => {
                kill_children();
                std::process::abort()
            }
        }
    }
}

fn kill_children() {
    let threads = std::fs::read_dir("/proc/self/task");
    for thread in threads.into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            if let Some(child) = child.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armed_by_name_only() {
        let points = Failpoints::parse("start.spec=fail, create.row").unwrap();
        assert!(points.pass("start.spec").is_err());
        assert!(points.pass("create.row").is_err());
        assert!(points.pass("start.begin").is_ok());
        points.clear();
        assert!(points.pass("start.spec").is_ok());
        assert!(Failpoints::parse("nonsense").is_err());
        assert!(Failpoints::parse("start.spec=explode").is_err());
    }
}
