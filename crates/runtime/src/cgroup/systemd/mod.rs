//! The systemd driver: a container's cgroup is a transient scope (or slice) that systemd makes, moves init
//! into, and removes; limits are set as the unit's properties, so that systemd does not undo them, and then
//! in the files, for what it has no property for. As runc's docs/systemd.md describes it.

mod annotations;
mod name;
mod properties;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_oci::runtime::Resources;

use super::Mode;
use crate::dbus::{CallError, Connection, Target, Value};
use crate::error::Context;
use crate::{Error, Result};

pub(crate) use annotations::from_annotations;
pub use name::Unit;

/// As long as runc waits for a job.
const LIMIT: Duration = Duration::from_secs(30);
/// The D-Bus name and error prefix.
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Target<'_> = Target {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// A unit's properties, in order.
pub(crate) type Properties = Vec<(String, Value)>;

/// Whether systemd manages this host (sd_booted(3)).
fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Connects to the system's manager, or the caller's own: by the bus, else by the manager's private socket,
/// which it opens for its own user (early boot, a host without a bus).
fn connect(user: bool) -> Result<Connection> {
    let places = if user {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.ok_or_else(|| {
            unsupported("XDG_RUNTIME_DIR is not set: this user's systemd cannot be found")
        })?;
        [runtime.join("bus"), runtime.join("systemd/private")]
    } else {
        if !is_booted() {
            return Err(unsupported(
                "systemd not running on this host, cannot use systemd cgroups manager",
            ));
        }
        ["/run/dbus/system_bus_socket", "/run/systemd/private"].map(PathBuf::from)
    };
    let [bus, private] = places;
    let over_bus = Connection::open(&bus, true, LIMIT).and_then(|mut connection| {
        // A bus that systemd is not on, or not yet, is as good as none.
        match connection.has_owner(SYSTEMD)? {
            true => Ok(connection),
            false => Err(std::io::Error::other("systemd is not on the bus").into()),
        }
    });
    match over_bus {
        Ok(mut connection) => {
            connection
                .subscribe(
                    "type='signal',interface='org.freedesktop.systemd1.Manager',\
                     member='JobRemoved',path='/org/freedesktop/systemd1'",
                )
                .map_err(|e| failed("subscribe to jobs on", &bus, e))?;
            Ok(connection)
        }
        Err(first) => Connection::open(&private, false, LIMIT)
            .map_err(|_| failed("connect to systemd through", &bus, first)),
    }
}

fn unsupported(reason: &str) -> Error {
    Error::Unsupported {
        field: "--systemd-cgroup".into(),
        reason: reason.into(),
    }
}

fn failed(operation: &'static str, object: impl Into<PathBuf>, error: CallError) -> Error {
    let cause = match error {
        CallError::Io(e) => e,
        refused @ CallError::Refused { .. } => std::io::Error::other(refused.to_string()),
    };
    Error::Io {
        operation,
        object: object.into(),
        cause,
    }
}

/// The cgroup below which a manager has its slices: the root for the system's, else what the user's own has
/// been delegated.
pub(super) fn manager_root(user: bool) -> Result<String> {
    if !user {
        return Ok("/".into());
    }
    let properties = Target {
        interface: "org.freedesktop.DBus.Properties",
        ..MANAGER
    };
    let asked = vec![Value::str(MANAGER.interface), Value::str("ControlGroup")];
    let answer = connect(true)?
        .call(properties, "Get", asked)
        .map_err(|e| failed("ask for the cgroup of", "the user's systemd", e))?;
    let path = answer.first().and_then(Value::as_str).map(str::to_owned);
    path.ok_or_else(|| unsupported("the user's systemd does not tell its cgroup"))
}

impl Unit {
    /// Starts the unit with `pid` in it and its limits set.
    ///
    /// # Errors
    /// When systemd refuses; a unit that failed is reset.
    pub(super) fn start(
        &self,
        pid: i32,
        mode: Mode,
        resources: &Resources,
        more: &[(String, Value)],
    ) -> Result<()> {
        let mut all = properties::of_unit(self, pid, mode);
        all.extend(properties::of_resources(mode, resources)?);
        // Later ones win: what the annotations say, as with runc.
        all.extend_from_slice(more);
        let mut connection = connect(self.user)?;
        let body = || {
            vec![
                Value::str(&self.name),
                Value::str("replace"),
                pairs(&all),
                Value::Array("(sa(sv))".into(), Vec::new()),
            ]
        };
        let mut started = connection.call(MANAGER, "StartTransientUnit", body());
        if matches!(&started, Err(e) if e.is("org.freedesktop.systemd1.UnitExists")) {
            // One of this name that failed is kept for people to look at.
            let _ = self.reset(&mut connection);
            started = connection.call(MANAGER, "StartTransientUnit", body());
        }
        let job = started.map_err(|e| failed("start unit", &self.name, e))?;
        let result =
            wait(&mut connection, &job).map_err(|e| failed("start unit", &self.name, e))?;
        if result != "done" {
            // The first error is the one that matters.
            let _ = self.reset(&mut connection);
            let cause = std::io::Error::other(format!("job ended with {result:?}"));
            return Err(cause).on("start unit", &self.name);
        }
        Ok(())
    }

    /// Changes limits of the running unit, until it ends.
    ///
    /// # Errors
    /// When systemd refuses.
    pub(super) fn set(&self, mode: Mode, resources: &Resources) -> Result<()> {
        let all = properties::of_resources(mode, resources)?;
        let body = vec![Value::str(&self.name), Value::Bool(true), pairs(&all)];
        connect(self.user)?
            .call(MANAGER, "SetUnitProperties", body)
            .map_err(|e| failed("set properties of unit", &self.name, e))?;
        Ok(())
    }

    /// Stops the unit, if there still is one: systemd has most often removed it when its last process ended.
    ///
    /// # Errors
    /// When systemd refuses or cannot be reached.
    pub(super) fn stop(&self) -> Result<()> {
        let mut connection = connect(self.user)?;
        let body = vec![Value::str(&self.name), Value::str("replace")];
        match connection.call(MANAGER, "StopUnit", body) {
            Err(e) if e.is("org.freedesktop.systemd1.NoSuchUnit") => return Ok(()),
            Err(e) => return Err(failed("stop unit", &self.name, e)),
            Ok(job) => {
                wait(&mut connection, &job).map_err(|e| failed("stop unit", &self.name, e))?;
            }
        }
        match self.reset(&mut connection) {
            Err(e) if !e.is("org.freedesktop.systemd1.NoSuchUnit") => {
                Err(failed("reset unit", &self.name, e))
            }
            _ => Ok(()),
        }
    }

    fn reset(&self, connection: &mut Connection) -> std::result::Result<(), CallError> {
        connection.call(MANAGER, "ResetFailedUnit", vec![Value::str(&self.name)])?;
        Ok(())
    }
}

/// Waits until the job whose path a call answered is removed; its result.
fn wait(connection: &mut Connection, job: &[Value]) -> std::result::Result<String, CallError> {
    let job = job.first().and_then(Value::as_str).unwrap_or_default();
    loop {
        let signal = connection.signal()?;
        if signal.member.as_deref() != Some("JobRemoved") {
            continue;
        }
        // Number, path, unit, result.
        let text = |at: usize| signal.body.get(at).and_then(Value::as_str);
        if text(1) == Some(job) {
            return Ok(text(3).unwrap_or_default().to_owned());
        }
    }
}

fn pairs(all: &[(String, Value)]) -> Value {
    let pair = |(name, value): &(String, Value)| {
        Value::Struct(vec![
            Value::str(name),
            Value::Variant(Box::new(value.clone())),
        ])
    };
    Value::Array("(sv)".into(), all.iter().map(pair).collect())
}
