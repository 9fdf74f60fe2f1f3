//! fuse-overlayfs on a detached mount: no mount point on the host, and no process that outlives the mount.
//!
//! The FUSE connection (`/dev/fuse`) is made first and its mount with it; then the program is started on the connection
//! instead of on a mount point (libfuse's `/dev/fd/N`, fuse(4) "fd=N"). When the last reference to the mount goes, the
//! kernel ends the connection and the program ends by itself: a crash of whoever made it leaves nothing behind.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};

use crate::mount::{FsError, Param, attr, create};

/// The type under which [`crate::mount::detached`] makes such mounts.
pub const OVERLAY: &str = "fuse.fuse-overlayfs";

/// The program, found in `PATH`.
pub const PROGRAM: &str = "fuse-overlayfs";

/// Makes the mount. Options are overlayfs's: `lowerdir+=` (top first), `upperdir=`, `workdir=`, `ro`. Waits until the program
/// serves.
///
/// # Errors
/// `ENODEV` or `ENOENT` where the kernel has no FUSE; what the program said when it ends with an error; `EINVAL` for a path
/// that its option string cannot hold.
pub fn overlay<S: AsRef<str>>(options: &[S]) -> Result<OwnedFd, FsError> {
    let (text, read_only) = option_text(options)?;
    let connection = rustix::fs::openat(
        CWD,
        c"/dev/fuse",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| FsError::new(errno, "open /dev/fuse"))?;
    let param = |key: &str, value: String| {
        Ok(Param::String(
            CString::new(key).map_err(|_| FsError::invalid())?,
            CString::new(value).map_err(|_| FsError::invalid())?,
        ))
    };
    let params = [
        param("fd", connection.as_raw_fd().to_string())?,
        param("rootmode", "40000".to_owned())?,
        param("user_id", "0".to_owned())?,
        param("group_id", "0".to_owned())?,
        Param::Flag(c"allow_other".into()),
        Param::Flag(c"default_permissions".into()),
    ];
    let attrs = if read_only { attr::RDONLY } else { 0 };
    let mount = create(c"fuse", Some(c"fuse-overlayfs"), &params, attrs)?;
    serve(connection, &text)?;
    Ok(mount)
}

/// Starts the program on the connection. It puts itself into the background once it serves, so it has ended here.
fn serve(connection: OwnedFd, options: &str) -> Result<(), FsError> {
    // The connection is passed as standard input, the one descriptor that needs no unsafe code; the program takes standard
    // input for itself, so the shell moves it. Nothing of ours is in the script's text.
    let output = Command::new("/bin/sh")
        .args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh", PROGRAM])
        .args(["-o", options, "/dev/fd/3"])
        .stdin(Stdio::from(connection))
        .output()
        .map_err(|error| FsError {
            errno: crate::Errno::from_io_error(&error).unwrap_or(crate::Errno::IO),
            log: "run /bin/sh".to_owned(),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(FsError::new(
        crate::Errno::IO,
        format!("{PROGRAM}: {}", said.trim()),
    ))
}

/// The options in the program's own form, and whether the mount is read-only.
fn option_text<S: AsRef<str>>(options: &[S]) -> Result<(String, bool), FsError> {
    let mut lowers = Vec::new();
    let mut rest = Vec::new();
    let mut read_only = false;
    for option in options {
        let option = option.as_ref();
        if option.contains([',', '\\']) {
            return Err(FsError::invalid());
        }
        match option.split_once('=') {
            Some(("lowerdir+", path)) if path.contains(':') => return Err(FsError::invalid()),
            Some(("lowerdir+", path)) => lowers.push(path),
            Some(_) => rest.push(option.to_owned()),
            None if option == "ro" => read_only = true,
            None => return Err(FsError::new(crate::Errno::INVAL, option)),
        }
    }
    rest.insert(0, format!("lowerdir={}", lowers.join(":")));
    // What was written is in the upper directory when write(2) returns: `diff` and `commit` read it there.
    rest.push("writeback=0".to_owned());
    Ok((rest.join(","), read_only))
}

#[cfg(test)]
mod tests {
    use super::option_text;

    #[test]
    fn options_take_the_programs_form() {
        let given = ["lowerdir+=/b", "lowerdir+=/a", "upperdir=/u", "workdir=/w"];
        let expected = "lowerdir=/b:/a,upperdir=/u,workdir=/w,writeback=0".to_owned();
        assert_eq!(option_text(&given).unwrap(), (expected, false));
        let (text, read_only) = option_text(&["lowerdir+=/b", "ro"]).unwrap();
        assert_eq!(
            (text.as_str(), read_only),
            ("lowerdir=/b,writeback=0", true)
        );
        for bad in ["lowerdir+=/a:b", "upperdir=/a,b", "nonsense"] {
            assert!(option_text(&[bad]).is_err(), "{bad}");
        }
    }
}
