//! `slice:prefix:name` to a unit's name and its cgroup (systemd.slice(5), runc's docs/systemd.md).

use crate::{Error, Problem, Result};

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unit {
    /// As `docker-0123.scope`.
    pub name: String,
    /// The slice that it is in, as `system.slice`.
    pub slice: String,
    /// It belongs to the caller's own systemd, not to the system's.
    pub user: bool,
}

/// The scope's prefix when `cgroupsPath` is absent.
const PREFIX: &str = "hull";

fn invalid(reason: String) -> Error {
    Error::Invalid(vec![Problem {
        field: "linux.cgroupsPath".into(),
        reason,
    }])
}

impl Unit {
    /// The unit that `linux.cgroupsPath` names; without one, a scope of the container's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not `slice:prefix:name`, or gives no unit's name.
    pub fn parse(path: Option<&str>, id: &str, user: bool) -> Result<Self> {
        let path = path.unwrap_or_default();
        let mut parts = path.split(':');
        let (slice, prefix, name) = if path.is_empty() {
            ("", PREFIX, id)
        } else {
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                _ => {
                    return Err(invalid(format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                         cgroups, got {path:?} instead"
                    )));
                }
            }
        };
        let default = if user { "user.slice" } else { "system.slice" };
        let slice = if slice.is_empty() { default } else { slice };
        // A name that is a slice is the unit itself.
        let full = if name.ends_with(".slice") {
            name.to_owned()
        } else {
            format!("{prefix}-{name}.scope")
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.is_empty() || full.len() > 255 || !full.chars().all(allowed) {
            return Err(invalid(format!("{full:?} is no name of a systemd unit")));
        }
        let unit = Self {
            name: full,
            slice: slice.to_owned(),
            user,
        };
        unit.cgroup()?;
        Ok(unit)
    }

    /// Whether the unit is a slice.
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Its cgroup below the manager's own, with a leading `/`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a slice's name is none.
    pub fn cgroup(&self) -> Result<String> {
        let own = if self.is_slice() {
            expand(&self.name)?
        } else {
            format!("/{}", self.name)
        };
        let slice = expand(&self.slice)?;
        Ok(format!("{}{own}", slice.trim_end_matches('/')))
    }
}

/// `a-b.slice` lies in `a.slice`: its dashes are a path. `-.slice` is the root.
fn expand(slice: &str) -> Result<String> {
    let bad = || invalid(format!("invalid slice name: {slice}"));
    let name = slice.strip_suffix(".slice").ok_or_else(bad)?;
    if name.is_empty() || slice.contains('/') || slice.len() > 255 {
        return Err(bad());
    }
    if name == "-" {
        return Ok("/".into());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for component in name.split('-') {
        if component.is_empty() {
            return Err(bad());
        }
        path += &format!("/{prefix}{component}.slice");
        prefix += &format!("{component}-");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_expand_as_systemd_nests_them() {
        // The cases of runc's TestExpandSlice and systemd.slice(5).
        for (slice, path) in [
            ("system.slice", "/system.slice"),
            ("-.slice", "/"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
            ("user-1000.slice", "/user.slice/user-1000.slice"),
        ] {
            assert_eq!(expand(slice).unwrap(), path);
        }
        for bad in [
            "",
            ".slice",
            "--.slice",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "a/b.slice",
            "a.scope",
        ] {
            expand(bad).unwrap_err();
        }
    }

    #[test]
    fn paths_name_units() {
        let unit = |path: &str| Unit::parse(Some(path), "id", false);
        let docker = unit("system.slice:docker:0123").unwrap();
        assert_eq!(docker.name, "docker-0123.scope");
        assert_eq!(docker.cgroup().unwrap(), "/system.slice/docker-0123.scope");
        assert_eq!(unit(":cri:x").unwrap().slice, "system.slice");
        let nested = unit("machine-a.slice:libpod:x").unwrap();
        assert_eq!(
            nested.cgroup().unwrap(),
            "/machine.slice/machine-a.slice/libpod-x.scope"
        );
        let slice = unit("-.slice:any:pod-x.slice").unwrap();
        assert_eq!(slice.name, "pod-x.slice");
        assert_eq!(slice.cgroup().unwrap(), "/pod.slice/pod-x.slice");
        let default = Unit::parse(None, "id", true).unwrap();
        assert_eq!(default.cgroup().unwrap(), "/user.slice/hull-id.scope");
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a.slice:b:c/d",
            "a.slice:b:c d",
            "a:b:c",
        ] {
            unit(bad).unwrap_err();
        }
    }
}
