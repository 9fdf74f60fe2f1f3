//! Failed starts, as data and in Docker's words.
//!
//! The step, path and error number of init's failure come from the shim; the exit code (125, 126, 127) is decided here and
//! nowhere else.

use hull_shim::protocol::InitFailure;
use rustix::io::Errno;

use crate::error::{Error, Kind};
use crate::record::ContainerRecord;
use crate::shim::CallError;

const CREATE: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                      runc create failed: unable to start container process";

/// The error of a start that the shim refused.
pub(super) fn start_failure(
    error: &CallError,
    record: &ContainerRecord,
    last_words: &str,
) -> Error {
    match error {
        CallError::Refused(failure) => match &failure.init {
            Some(init) if is_exec(init) => {
                let kind = if exec_code(init) == 128 {
                    Kind::Internal
                } else {
                    Kind::InvalidParameter
                };
                Error::new(
                    kind,
                    format!(
                        "{CREATE}: error during container init: {}: unknown",
                        exec_sentence(init, &record.path)
                    ),
                )
            }
            Some(init) if init.step == "log" => Error::internal(format!(
                "failed to create task for container: {}",
                failure.message
            )),
            Some(_) => Error::internal(format!(
                "{CREATE}: error during container init: {}: unknown",
                failure.message
            )),
            None => Error::internal(format!("{CREATE}: {}: unknown", failure.message)),
        },
        CallError::Gone | CallError::Unexpected => {
            let words = if last_words.is_empty() {
                String::new()
            } else {
                format!(": {last_words}")
            };
            Error::internal(format!(
                "failed to create task for container: {error}{words}: unknown"
            ))
        }
    }
}

/// The exit code of an exec that did not start, and the sentence for its client.
pub(crate) fn exec_failure(error: &CallError, program: &str) -> (i64, Error) {
    const EXEC: &str = "OCI runtime exec failed: exec failed: unable to start container process";
    match error {
        CallError::Refused(failure) => match &failure.init {
            Some(init) if is_exec(init) => {
                let sentence = exec_sentence(init, program);
                (
                    i64::from(exec_code(init)),
                    Error::invalid(format!("{EXEC}: {sentence}: unknown")),
                )
            }
            Some(_) | None => (
                126,
                Error::internal(format!("{EXEC}: {}: unknown", failure.message)),
            ),
        },
        CallError::Gone | CallError::Unexpected => {
            (126, Error::internal(format!("{EXEC}: {error}: unknown")))
        }
    }
}

fn is_exec(init: &InitFailure) -> bool {
    init.step.eq_ignore_ascii_case("exec") || init.step.eq_ignore_ascii_case("execve")
}

fn exec_code(init: &InitFailure) -> i32 {
    match Errno::from_raw_os_error(init.errno) {
        Errno::NOENT | Errno::NOTDIR => 127,
        Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR => 126,
        _ => 128,
    }
}

/// As Go's `exec.LookPath` and runc say it: scripts and the CLI match on these.
fn exec_sentence(init: &InitFailure, program: &str) -> String {
    let named = init.path.as_deref().unwrap_or(program);
    match Errno::from_raw_os_error(init.errno) {
        Errno::NOENT if !program.contains('/') => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        Errno::NOENT => format!("exec: {program:?}: stat {program}: no such file or directory"),
        Errno::NOTDIR => format!("exec: {program:?}: stat {program}: not a directory"),
        Errno::ACCESS | Errno::PERM => format!("exec: {program:?}: permission denied"),
        Errno::ISDIR => format!("exec: {program:?}: is a directory"),
        Errno::NOEXEC => format!("exec {named}: exec format error"),
        other => format!("exec {named}: {}", std::io::Error::from(other)),
    }
}

/// The code that `docker inspect` shows for a container that could not be started.
pub(super) fn start_code(init: Option<&InitFailure>) -> i32 {
    init.filter(|init| is_exec(init)).map_or(128, exec_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_shim::protocol::Failure;

    fn failed(path: &str, errno: Errno) -> (Error, i32) {
        let failure = Failure {
            message: "exec failed".into(),
            init: Some(InitFailure {
                step: "exec".into(),
                path: Some(path.into()),
                errno: errno.raw_os_error(),
            }),
        };
        let record = ContainerRecord {
            path: path.into(),
            ..ContainerRecord::default()
        };
        let code = start_code(failure.init.as_ref());
        let error = start_failure(&CallError::Refused(failure), &record, "");
        (error, code)
    }

    #[test]
    fn codes_and_sentences() {
        let (error, code) = failed("foo", Errno::NOENT);
        assert_eq!(code, 127);
        assert_eq!(
            error.message,
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: \
             unable to start container process: error during container init: exec: \"foo\": executable file not found in \
             $PATH: unknown"
        );
        assert_eq!(failed("/nope", Errno::NOENT).1, 127);
        let (error, code) = failed("/etc/passwd", Errno::ACCESS);
        assert_eq!(code, 126);
        assert!(
            error
                .message
                .contains("exec: \"/etc/passwd\": permission denied")
        );
        assert_eq!(failed("/x", Errno::NOEXEC).1, 126);
        assert_eq!(failed("/x", Errno::NOMEM).1, 128);
    }
}
