//! Skipped tests that are seen and counted, because a test that silently did not run looks like one that passed.

use std::io::Write as _;

/// Says that the running test cannot run here, and why. The caller returns afterwards.
///
/// Prints `SKIP <test>: <reason>`; where `HULL_SKIP_LOG` names a file, the line is appended to it, for counting.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {
        $crate::skips::record(&format!($($reason)+))
    };
}

/// The function behind [`skip!`].
pub fn record(reason: &str) {
    let thread = std::thread::current();
    let line = format!(
        "SKIP {}: {reason}\n",
        thread.name().unwrap_or("unnamed test")
    );
    // Straight to the file descriptor: the test harness swallows what passing tests print with eprintln!.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("HULL_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
    {
        let _ = log.write_all(line.as_bytes());
    }
}

/// Whether this process runs as root, without which most kernel tests cannot run.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The path of a program, searched in `PATH` and in the system directories that an ordinary `PATH` lacks.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether there is a criu that can checkpoint on this kernel: 4.1 or newer (older ones fail on the vDSO of Linux 6.13 and later).
pub fn working_criu() -> bool {
    let Some(criu) = program("criu") else {
        return false;
    };
    let Ok(output) = std::process::Command::new(criu).arg("--version").output() else {
        return false;
    };
    // `Version: 4.2`
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    let mut numbers = version.unwrap_or("0").split('.').map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (4, 1)
}
