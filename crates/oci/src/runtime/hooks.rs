//! Hooks: programs that the runtime runs at points of the life cycle (`config.md`, "POSIX-platform Hooks").

use serde::{Deserialize, Serialize};

use crate::go;

/// All hooks, by point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: as `create_runtime`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub prestart: Vec<Hook>,
    /// After the namespaces exist, before `pivot_root`; in the runtime's namespaces.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub create_runtime: Vec<Hook>,
    /// The same moment, in the container's namespaces.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub create_container: Vec<Hook>,
    /// After `start`, before the program; in the container.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub start_container: Vec<Hook>,
    /// After the program was started; in the runtime's namespaces.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub poststart: Vec<Hook>,
    /// After `delete`; in the runtime's namespaces.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The hooks of one point.
    pub fn of(&self, kind: HookKind) -> &[Hook] {
        match kind {
            HookKind::Prestart => &self.prestart,
            HookKind::CreateRuntime => &self.create_runtime,
            HookKind::CreateContainer => &self.create_container,
            HookKind::StartContainer => &self.start_container,
            HookKind::Poststart => &self.poststart,
            HookKind::Poststop => &self.poststop,
        }
    }
}

go::closed_enum! {
    /// A point of the life cycle.
    pub enum HookKind in "hooks" {
        /// [`Hooks::prestart`].
        Prestart = "prestart",
        /// [`Hooks::create_runtime`].
        CreateRuntime = "createRuntime",
        /// [`Hooks::create_container`].
        CreateContainer = "createContainer",
        /// [`Hooks::start_container`].
        StartContainer = "startContainer",
        /// [`Hooks::poststart`].
        Poststart = "poststart",
        /// [`Hooks::poststop`].
        Poststop = "poststop",
    }
}

/// One hook. It gets the [`super::State`] on stdin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: String,
    /// Arguments, the program's name being the first.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<String>,
    /// `NAME=value` entries: the whole environment.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
