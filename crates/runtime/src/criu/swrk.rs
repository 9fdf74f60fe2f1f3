//! One criu process, and the conversation with it over a SEQPACKET socket (`criu swrk FD`).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hull_sys::clone::{CLONE_CLEAR_SIGHAND, CLONE_NEWNS, Child, CloneArgs, clone3};
use hull_sys::exec::{CStrings, execve};
use hull_sys::{Errno, fdpass, fds, pidfd, signal};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use super::rpc::{Features, Kind, Opts, Response, Version, notified, request};
use crate::error::Context;
use crate::{Error, Result, wire};

/// Longest response: runc's buffer.
const RESPONSE_MAX: usize = 10 * 4096;
/// Longest message in which the child says why it could not become criu.
const REASON_MAX: usize = 4096;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// criu on this host.
#[derive(Debug)]
pub(super) struct Criu {
    program: PathBuf,
    pub(super) version: Version,
}

impl Criu {
    /// Finds it in `PATH`, asks its version, and compares that with the kernel.
    ///
    /// # Errors
    /// [`Error::NoCriu`], [`Error::OldCriu`].
    pub(super) fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin".into());
        let executable = |program: &PathBuf| {
            rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file()
        };
        let mut places = std::env::split_paths(&path).map(|dir| dir.join("criu"));
        let program = places.find(executable).ok_or(Error::NoCriu)?;
        let mut criu = Self {
            program,
            version: Version::default(),
        };
        criu.version = criu.ask(Kind::Version)?.version.unwrap_or_default();
        check_version(criu.version, &kernel_release())?;
        Ok(criu)
    }

    /// What this criu can do on this kernel.
    pub(super) fn features(&self) -> Result<Features> {
        Ok(self.ask(Kind::FeatureCheck)?.features)
    }

    fn ask(&self, kind: Kind) -> Result<Response> {
        let swrk = Swrk::start(self, Place::default(), || Ok(()))?;
        swrk.converse(kind, None, |_, _| Ok(()))
    }
}

/// criu below 4.1 takes the vDSO of Linux 6.13 and later apart (commit e93d2521b27f, "x86/vdso: Split virtual clock pages
/// into dedicated mapping"; criu commit 8ee2eba47, "vdso: handle vvar_vclock vma-s").
const SPLIT_VVAR: (u32, u32) = (6, 13);

fn check_version(version: Version, kernel: &str) -> Result<()> {
    let mut numbers = kernel.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let old = |needed: &'static str| {
        Err(Error::OldCriu {
            found: version.to_string(),
            kernel: kernel.to_owned(),
            needed,
        })
    };
    match (version.major, version.minor) {
        // The RPC that is spoken here.
        (..=2, _) => old("3.0"),
        (..=3, _) | (4, 0) if running >= SPLIT_VVAR => old("4.1"),
        _ => Ok(()),
    }
}

fn kernel_release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// Where criu runs.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Directories that it opens by name, at these numbers: a descriptor of ours would lead it into our mount namespace,
    /// where it can mount nothing.
    pub directories: Vec<(RawFd, PathBuf)>,
    /// In a mount namespace of its own, whose mounts reach nobody.
    pub own_mounts: bool,
    /// Its standard streams, put on 0, 1 and 2; ours when absent.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Descriptors that it inherits, at their numbers.
    pub inherit: Vec<OwnedFd>,
}

/// A running criu.
#[derive(Debug)]
pub(super) struct Swrk {
    socket: Option<OwnedFd>,
    child: Child,
}

impl Swrk {
    /// Starts it; `setup` runs in the new process, before criu.
    pub(super) fn start(
        criu: &Criu,
        place: Place,
        setup: impl FnOnce() -> std::result::Result<(), String>,
    ) -> Result<Self> {
        let (ours, theirs) = wire::pair().on("make", "socket pair")?;
        let variables = std::env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        let envp = CStrings::new(variables).on("run", &criu.program)?;
        let program = CString::new(criu.program.as_os_str().as_bytes()).on("run", &criu.program)?;
        let args = CloneArgs {
            flags: CLONE_CLEAR_SIGHAND | if place.own_mounts { CLONE_NEWNS } else { 0 },
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        let child = clone3(&args, || {
            let become_criu = || -> std::result::Result<(), String> {
                setup()?;
                let system = |e: Errno| format!("descriptors of criu: {e}");
                let socket = own_pair(&theirs).map_err(system)?;
                for (number, fd) in place.stdio.iter().flatten().enumerate() {
                    put(fd, number as i32).map_err(system)?;
                }
                for (number, path) in &place.directories {
                    let directory = rustix::fs::open(path, DIRECTORY, Mode::empty());
                    let directory = directory.map_err(|e| format!("{}: {e}", path.display()))?;
                    fds::dup_to(directory.as_fd(), *number).map_err(system)?;
                }
                for fd in place.inherit.iter().chain([&socket]) {
                    rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(system)?;
                }
                signal::ignore(libc::SIGPIPE, false).map_err(system)?;
                signal::restore(0).map_err(system)?;
                let number = socket.as_raw_fd().to_string();
                let argv = CStrings::new(["criu", "swrk", &number]).map_err(system)?;
                let errno = execve(&program, &argv, &envp);
                Err(format!("{}: {errno}", program.to_string_lossy()))
            };
            if let Err(reason) = become_criu() {
                // The caller may be gone.
                let _ = fdpass::send(theirs.as_fd(), reason.as_bytes(), &[]);
            }
            1
        })
        .on("clone", "criu")?;
        // So that its end is seen.
        drop(theirs);
        let mut swrk = Self {
            socket: Some(ours),
            child,
        };
        swrk.socket = Some(swrk.meet()?);
        Ok(swrk)
    }

    /// Takes criu's end of the conversation, or the reason why there is none.
    fn meet(&self) -> Result<OwnedFd> {
        let mut reason = vec![0; REASON_MAX];
        let mut socket = None;
        loop {
            let received = fdpass::recv(self.socket()?.as_fd(), &mut reason);
            match received.on("receive from", "criu")? {
                // execve closed it.
                (0, _) => return socket.ok_or_else(|| self.died("start")),
                (_, passed) if !passed.is_empty() => socket = passed.into_iter().next(),
                (length, _) => {
                    return Err(Error::Criu {
                        reason: String::from_utf8_lossy(&reason[..length]).into_owned(),
                    });
                }
            }
        }
    }

    /// Its pid, which a restored container's cgroup is given first.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Sends one request and answers notifications until its response has come, then waits for criu's end.
    ///
    /// There is no deadline: how long a dump takes is the memory's size and the disk's speed. criu's end, also a
    /// violent one, closes the socket.
    ///
    /// # Errors
    /// What a notification's handler said; else [`Error::Criu`] with criu's answer.
    pub(super) fn converse(
        mut self,
        kind: Kind,
        opts: Option<&Opts>,
        mut notify: impl FnMut(&Response, Vec<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        self.send(&request(kind, opts))?;
        let mut refused = None;
        let response = loop {
            let (response, passed) = self.receive(kind)?;
            if !response.success {
                let failed = failure(kind, &response);
                return Err(refused.unwrap_or(failed));
            }
            if response.kind != Some(Kind::Notify) {
                break response;
            }
            // A refusal is told to criu, which then undoes what it did.
            let result = match refused {
                None => notify(&response, passed),
                Some(_) => Ok(()),
            };
            let success = result.is_ok() && refused.is_none();
            refused = refused.or(result.err());
            self.send(&notified(success))?;
        };
        // After a pre-dump criu waits for further requests: its end comes with the socket's.
        self.socket = None;
        pidfd::wait(self.child.pidfd.as_fd()).on("wait for", "criu")?;
        match refused {
            Some(error) => Err(error),
            None => Ok(response),
        }
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket.as_ref().ok_or(Errno::BADF).on("use", "criu")
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        match fdpass::send(self.socket()?.as_fd(), message, &[]) {
            Ok(_) => Ok(()),
            // It ended; what it said before is still to be read.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(e) => Err(e).on("send to", "criu"),
        }
    }

    fn receive(&self, kind: Kind) -> Result<(Response, Vec<OwnedFd>)> {
        let mut buffer = vec![0; RESPONSE_MAX];
        let (length, passed) = match fdpass::recv(self.socket()?.as_fd(), &mut buffer) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Err(self.died(kind.name())),
            other => other.on("receive from", "criu")?,
        };
        let response = Response::read(&buffer[..length]).map_err(|e| Error::Criu {
            reason: format!("its answer: {e}"),
        })?;
        Ok((response, passed))
    }

    fn died(&self, during: &str) -> Error {
        let how = match pidfd::wait(self.child.pidfd.as_fd()) {
            Ok(pidfd::Exit::Code(code)) => format!("exit status {code}"),
            Ok(pidfd::Exit::Signal(signal)) => format!("signal {signal}"),
            Err(e) => e.to_string(),
        };
        Error::Criu {
            reason: format!("it ended without an answer to {during}: {how}"),
        }
    }
}

impl Drop for Swrk {
    /// Nothing of it is left behind when the conversation broke off.
    fn drop(&mut self) {
        if self.socket.is_some() {
            let _ = pidfd::send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
            let _ = pidfd::wait(self.child.pidfd.as_fd());
        }
    }
}

/// A pair of sockets made by this process, which becomes criu; the other end goes to the caller. criu takes the numbers
/// of directories for those of the pair's maker.
fn own_pair(caller: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let (socket, theirs) = wire::pair()?;
    fdpass::send(caller.as_fd(), b"socket", &[theirs.as_fd()])?;
    Ok(socket)
}

/// runc's words.
fn failure(kind: Kind, response: &Response) -> Error {
    let kind = response.kind.unwrap_or(kind).name();
    // Its own message is the first error that it met, often a harmless one; the log has the last.
    Error::Criu {
        reason: format!("type {kind} errno {}", response.errno),
    }
}

/// Onto 0, 1 or 2, also when it is that number already.
fn put(fd: &OwnedFd, number: i32) -> std::result::Result<(), Errno> {
    match fds::dup_to(fd.as_fd(), number) {
        Err(Errno::INVAL) => rustix::io::fcntl_setfd(fd, FdFlags::empty()),
        other => other,
    }
}

/// How many lines of a log are quoted.
const QUOTED_MAX: usize = 4;
/// Most of a log that is looked through, in bytes; the reason stands at its end.
const LOG_TAIL_MAX: u64 = 1 << 20;

/// Adds to criu's failure where its log is, and the errors in it.
pub(super) fn with_log(error: Error, directory: &Path, name: &str) -> Error {
    let Error::Criu { reason } = error else {
        return error;
    };
    let path = directory.join(name);
    let quoted = std::fs::File::open(&path)
        .map(|file| errors_in(&tail(file)))
        .unwrap_or_default();
    let mut text = format!("{reason}\nlog file: {}", path.display());
    for line in quoted {
        text.push('\n');
        text.push_str(&line);
    }
    Error::Criu { reason: text }
}

fn tail(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let length = file.metadata().map_or(0, |m| m.len());
    let mut text = Vec::new();
    // What cannot be read is not quoted.
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_MAX)));
    let _ = file.take(LOG_TAIL_MAX).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn errors_in(log: &str) -> Vec<String> {
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("Error")).collect();
    let first = errors.len().saturating_sub(QUOTED_MAX);
    errors[first..].iter().map(|l| (*l).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: i32, minor: i32) -> Version {
        Version {
            major,
            minor,
            patch: 0,
        }
    }

    #[test]
    fn versions_too_old_for_the_kernel_are_refused() {
        for (criu, kernel, fine) in [
            (version(2, 12), "4.19.0", false),
            (version(3, 17), "6.1.0-40-amd64", true),
            (version(3, 17), "6.12.94", true),
            (version(3, 17), "6.18.44-fc", false),
            (version(4, 0), "6.13.0", false),
            (version(4, 1), "6.18.44", true),
            (version(5, 0), "7.0.1", true),
        ] {
            assert_eq!(check_version(criu, kernel).is_ok(), fine, "{criu} {kernel}");
        }
        let error = check_version(version(3, 17), "6.18.44").unwrap_err();
        assert_eq!(
            error.to_string(),
            "criu 3.17 is too old for Linux 6.18.44: 4.1 or newer is needed (https://criu.org/Installation)"
        );
    }

    #[test]
    fn the_log_s_last_errors_are_quoted() {
        let log: String = (0..9)
            .map(|n| format!("({n}) Error (x.c:{n}): no\nfine\n"))
            .collect();
        let quoted = errors_in(&log);
        assert_eq!(quoted.len(), QUOTED_MAX);
        assert_eq!(quoted[3], "(8) Error (x.c:8): no");
        let error = Error::Criu {
            reason: "type DUMP errno 1".into(),
        };
        let text = with_log(error, Path::new("/nosuch"), "dump.log").to_string();
        assert_eq!(
            text,
            "criu failed: type DUMP errno 1\nlog file: /nosuch/dump.log"
        );
    }
}
