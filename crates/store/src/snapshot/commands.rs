//! Running the programs that some drivers work by (`mkfs.erofs`, `dmsetup`, `zfs`): one place for their errors.

use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Result};

/// Where a program lies: `PATH`, and the system directories that a service's `PATH` may lack.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs a program and gives what it wrote to standard output.
///
/// # Errors
/// [`Error::Program`] when it is not there or ends with an error.
pub(super) fn run<W: AsRef<str>>(words: &[W]) -> Result<String> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let failed = |said: String| Error::Program {
        program: words.join(" "),
        said,
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err(failed("no program was named".to_owned()));
    };
    let file = find(program).ok_or_else(|| failed("it is not installed".to_owned()))?;
    let output = Command::new(file)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
