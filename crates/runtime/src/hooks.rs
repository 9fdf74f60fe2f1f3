//! Hooks: programs run at points of the container's life, with its state on standard input.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hull_oci::runtime::{Hook, HookKind, State};
use hull_sys::pidfd;

use crate::{Error, Result};

/// Most of a hook's standard error that is kept for the message.
const STDERR_MAX: u64 = 4096;

/// Runs hooks in order; the first that fails ends it.
///
/// # Errors
/// [`Error::Hook`] with the hook's place, path and the end of its standard error.
pub(crate) fn run_all(kind: HookKind, hooks: &[Hook], state: &State) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run(hook, state).map_err(|reason| failed(kind, index, hook, reason))?;
    }
    Ok(())
}

/// Runs the hooks of one point in order, whatever becomes of each; their failures.
pub(crate) fn run_each(kind: HookKind, hooks: &[Hook], state: &State) -> Vec<Error> {
    let results = hooks
        .iter()
        .enumerate()
        .map(|(index, hook)| run(hook, state).map_err(|reason| failed(kind, index, hook, reason)));
    results.filter_map(Result::err).collect()
}

fn failed(kind: HookKind, index: usize, hook: &Hook, reason: String) -> Error {
    Error::Hook {
        point: kind.as_str(),
        index,
        path: PathBuf::from(&hook.path),
        reason,
    }
}

fn run(hook: &Hook, state: &State) -> std::result::Result<(), String> {
    let input = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        use std::os::unix::process::CommandExt;
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    command.envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let started = Instant::now();
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its state is no failure. The state is far smaller than a pipe.
        let _ = stdin.write_all(&input);
    }
    let limit = hook.timeout.and_then(|s| u64::try_from(s).ok());
    if let Some(seconds) = limit {
        let fd = pidfd::open(child.id() as i32).map_err(|e| e.to_string())?;
        let deadline = started + Duration::from_secs(seconds);
        while !pidfd::ended_within(fd.as_fd(), left_ms(deadline)).map_err(|e| e.to_string())? {
            if Instant::now() >= deadline {
                child.kill().map_err(|e| e.to_string())?;
                child.wait().map_err(|e| e.to_string())?;
                return Err(format!("did not end within {seconds} s"));
            }
        }
    }
    finish(child)
}

fn left_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn finish(mut child: std::process::Child) -> std::result::Result<(), String> {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // Bounded; what a hook writes beyond that meets a closed pipe.
        let _ = stderr.take(STDERR_MAX).read_to_end(&mut text);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text);
    Err(format!("{status}, stderr: {}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_oci::runtime::Status;

    fn state() -> State {
        State {
            oci_version: "1.3.0".into(),
            id: "x".into(),
            status: Status::Creating,
            pid: 1,
            bundle: "/".into(),
            annotations: Default::default(),
        }
    }

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["A=b".into()],
            timeout,
        }
    }

    #[test]
    fn state_arrives_and_the_environment_is_exact() {
        let hook = shell("grep -q '\"id\":\"x\"' && test \"$A\" = b", None);
        run_all(HookKind::Poststop, &[hook], &state()).unwrap();
    }

    #[test]
    fn failure_and_timeout_say_what_happened() {
        let failing = [shell("exit 0", None), shell("echo why >&2; exit 3", None)];
        let error = run_all(HookKind::Prestart, &failing, &state()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("hook prestart[1] /bin/sh: "), "{text}");
        assert!(text.contains("why"), "{text}");
        let started = Instant::now();
        let hanging = [shell("exec sleep 100", Some(1))];
        let error = run_all(HookKind::Prestart, &hanging, &state()).unwrap_err();
        assert!(error.to_string().contains("within 1 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
