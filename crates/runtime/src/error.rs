//! What can go wrong, as data: operation, object, cause. An error prints its cause and does not expose it as a
//! source besides, so that no chain says it twice. Exit codes and user sentences are the callers'.

use std::path::PathBuf;

use hull_sys::Errno;

/// The result of the runtime's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is refused: nothing was made.
    #[error("{}", problems(.0))]
    Invalid(Vec<Problem>),
    /// The configuration is not JSON of the right shape.
    #[error("{path}: {}{cause}", named(field, cause))]
    Parse {
        /// The file.
        path: PathBuf,
        /// The member, as `process.user.uid`; `.` or empty when there is none.
        field: String,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// The container's name is no name.
    #[error("invalid container id: {0:?}")]
    BadId(String),
    /// The name is taken.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// There is none of this name.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// The container is in another phase than the operation needs.
    #[error("cannot {operation} a container in the {status} state")]
    WrongStatus {
        /// What was asked.
        operation: &'static str,
        /// What it is.
        status: hull_oci::runtime::Status,
    },
    /// Init failed at a step.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Init ended without a word.
    #[error("init ended during {during}: {how}")]
    InitDied {
        /// What was awaited.
        during: &'static str,
        /// Its status or signal.
        how: String,
    },
    /// A system call failed.
    #[error("{operation} {}: {cause}", object.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: PathBuf,
        /// The kernel's answer.
        cause: std::io::Error,
    },
    /// A cgroup setting was refused.
    #[error("{field}: cannot write {value:?} to {}: {cause}", file.display())]
    Limit {
        /// The field of the specification.
        field: &'static str,
        /// The file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        cause: std::io::Error,
    },
    /// The host lacks what the specification asks for.
    #[error("{field}: {reason}")]
    Unsupported {
        /// The field of the specification, or an option.
        field: String,
        /// What is missing.
        reason: String,
    },
    /// A hook failed.
    #[error("hook {point}[{index}] {}: {reason}", path.display())]
    Hook {
        /// Which list.
        point: &'static str,
        /// Its place there.
        index: usize,
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The seccomp profile cannot be compiled.
    #[error("linux.seccomp: {0}")]
    Seccomp(String),
    /// Checkpoint and restore need a program that is not there.
    #[error(
        "criu not found in PATH: checkpoint and restore need it (install criu 4.1 or newer, https://criu.org/Installation)"
    )]
    NoCriu,
    /// The one that is there cannot work.
    #[error(
        "criu {found} is too old for Linux {kernel}: {needed} or newer is needed (https://criu.org/Installation)"
    )]
    OldCriu {
        /// Its version.
        found: String,
        /// The kernel's release.
        kernel: String,
        /// The least version that works.
        needed: &'static str,
    },
    /// criu failed.
    #[error("criu failed: {reason}")]
    Criu {
        /// Its answer, where its log is and which errors stand in it; or what ended the conversation.
        reason: String,
    },
    /// Several undo steps failed; all were tried.
    #[error("{}", .0.join("; "))]
    Cleanup(Vec<String>),
}

/// One reason to refuse a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field's path, as `process.rlimits[2].type`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn problems(list: &[Problem]) -> String {
    let lines: Vec<_> = list
        .iter()
        .map(|p| format!("{}: {}", p.field, p.reason))
        .collect();
    format!("invalid config.json: {}", lines.join("; "))
}

/// A failing step of init, as it crossed from the container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct InitError {
    /// The step's name, as `mount` or [`InitError::EXEC`].
    pub step: String,
    /// The object: a path in the container, an argument.
    pub path: String,
    /// The kernel's answer.
    pub errno: i32,
    /// More, where the kernel said more.
    pub detail: String,
}

impl InitError {
    /// The step that looks for the program and executes it.
    pub const EXEC: &'static str = "exec";
    /// Of the step that enters the working directory.
    pub(crate) const CWD: &'static str = "working directory";

    /// The exit code that Docker and runc give: 127 when the program is missing, 126 when it cannot be run,
    /// 128 for anything before that.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        if self.step != Self::EXEC {
            return 128;
        }
        match Errno::from_raw_os_error(self.errno) {
            Errno::NOENT | Errno::NOTDIR => 127,
            _ => 126,
        }
    }

    fn sentence(&self) -> String {
        let errno = Errno::from_raw_os_error(self.errno);
        let reason = go_errno(errno);
        if self.step == Self::EXEC {
            let path = &self.path;
            return match errno {
                Errno::NOENT if !path.contains('/') => {
                    format!("exec: {path:?}: executable file not found in $PATH")
                }
                Errno::NOENT | Errno::NOTDIR => format!("exec: {path:?}: stat {path}: {reason}"),
                Errno::ACCESS | Errno::ISDIR => format!("exec: {path:?}: {reason}"),
                _ => format!("exec {path}: {reason}"),
            };
        }
        if self.step == Self::CWD {
            return format!(
                "chdir to cwd ({:?}) set in config.json failed: {reason}",
                self.path
            );
        }
        let detail = if self.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.detail)
        };
        if self.path.is_empty() {
            format!("{}: {reason}{detail}", self.step)
        } else {
            format!("{} {}: {reason}{detail}", self.step, self.path)
        }
    }
}

/// The errors that users' scripts look for, in Go's words (lower case), else the C library's.
pub(crate) fn go_errno(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::PERM => "operation not permitted".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::NOTDIR => "not a directory".into(),
        other => {
            let text = std::io::Error::from(other).to_string();
            text.split(" (os error")
                .next()
                .unwrap_or(&text)
                .to_lowercase()
        }
    }
}

/// Names operation and object of a failing call.
pub(crate) trait Context<T> {
    /// Adds what was tried on what.
    fn on(self, operation: &'static str, object: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn on(self, operation: &'static str, object: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|e| Error::Io {
            operation,
            object: object.into(),
            cause: e.into(),
        })
    }
}

/// Reads JSON; a value of a wrong type or out of range is named by its field.
///
/// # Errors
/// [`Error::Parse`].
pub(crate) fn parse<T: serde::de::DeserializeOwned>(path: PathBuf, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|cause| {
        // Once more, slower, to learn where.
        let mut json = serde_json::Deserializer::from_slice(text);
        let again = serde_path_to_error::deserialize::<_, T>(&mut json);
        let field = again.err().map(|e| e.path().to_string());
        Error::Parse {
            path,
            field: field.unwrap_or_default(),
            cause,
        }
    })
}

/// The field before its reason, unless the reason begins with it.
fn named(field: &str, cause: &serde_json::Error) -> String {
    let first = field.split(['.', '[']).next().unwrap_or_default();
    if first.is_empty() || cause.to_string().starts_with(first) {
        return String::new();
    }
    format!("{field}: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(path: &str, errno: Errno) -> InitError {
        InitError {
            step: InitError::EXEC.into(),
            path: path.into(),
            errno: errno.raw_os_error(),
            detail: String::new(),
        }
    }

    #[test]
    fn exec_failures_speak_as_docker_and_carry_its_codes() {
        let missing = exec("nosuch", Errno::NOENT);
        assert_eq!(
            missing.to_string(),
            "exec: \"nosuch\": executable file not found in $PATH"
        );
        assert_eq!(missing.exit_code(), 127);
        let denied = exec("/etc/passwd", Errno::ACCESS);
        assert_eq!(
            denied.to_string(),
            "exec: \"/etc/passwd\": permission denied"
        );
        assert_eq!(denied.exit_code(), 126);
        assert_eq!(exec("/x", Errno::NOEXEC).exit_code(), 126);
        assert_eq!(
            exec("/x", Errno::NOENT).to_string(),
            "exec: \"/x\": stat /x: no such file or directory"
        );
    }
}
