//! `docker-init -- program args..`: the first process of a container that asked for one (`--init`). It forwards signals to the
//! program, reaps orphans, and ends as the program ended; nothing else.

use std::ffi::CString;
use std::os::fd::AsFd;

use hull_sys::clone::fork;
use hull_sys::exec::{CStrings, execve};
use hull_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// SIGCHLD, in the numbering of x86 and arm.
const SIGCHLD: i32 = 17;
/// SIGTTIN and SIGTTOU: blocked, so that handing over the terminal cannot stop this process, and never forwarded.
const TERMINAL_SIGNALS: [i32; 2] = [21, 22];
/// Signals that this process causes itself by a fault (ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS): left alone.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Runs the program; returns its exit code, 128 + n where signal n ended it, 127 and 126 where it could not be run.
pub fn main(args: &[String]) -> i32 {
    let program = match args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => args,
    };
    if program.is_empty() {
        eprintln!("docker-init: a program is needed: docker-init -- PROGRAM [ARG...]");
        return 125;
    }
    match run(program) {
        Ok(code) => code,
        Err(errno) => {
            eprintln!("docker-init: {errno}");
            125
        }
    }
}

fn run(program: &[String]) -> Result<i32, Errno> {
    let watched: Vec<i32> = (1..=31)
        .filter(|n| !FAULTS.contains(n) && !TERMINAL_SIGNALS.contains(n) && !matches!(n, 9 | 19))
        .collect();
    let mask = signal::block(&watched)?;
    signal::block(&TERMINAL_SIGNALS)?;
    let signals = signal::signalfd(&watched)?;
    let argv = CStrings::new(program)?;
    let environment: Vec<_> = std::env::vars_os()
        .map(|(key, value)| [key, value].join(std::ffi::OsStr::new("=")))
        .collect();
    let environment = CStrings::new(environment)?;
    let candidates = candidates(&program[0]);
    let child = fork(|| start(&candidates, &argv, &environment, mask))?;
    let main = Pid::from_raw(child).ok_or(Errno::SRCH)?;
    loop {
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        while let Some(received) = signal::read_signalfd(signals.as_fd())? {
            if received.signal != SIGCHLD
                && let Some(signal) = Signal::from_named_raw(received.signal)
            {
                // Gone already: its end is reported next.
                let _ = kill_process(main, signal);
            }
        }
        if let Some(code) = reap(main)? {
            return Ok(code);
        }
    }
}

/// Reaps whoever has ended; the program's exit code if it is among them.
fn reap(main: Pid) -> Result<Option<i32>, Errno> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => {
                ended = status
                    .exit_status()
                    .or(status.terminating_signal().map(|signal| 128 + signal));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(ended),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// In the child: a process group of its own, in the foreground where there is a terminal, the signal mask from before, and
/// the program.
fn start(candidates: &[CString], argv: &CStrings, environment: &CStrings, mask: u64) -> i32 {
    let own = rustix::process::getpid();
    if rustix::process::setpgid(None, None).is_ok() {
        // Without a terminal this fails, and nothing is to be done.
        let _ = rustix::termios::tcsetpgrp(std::io::stdin(), own);
    }
    if signal::restore(mask).is_err() {
        return 126;
    }
    let mut worst = Errno::NOENT;
    for candidate in candidates {
        match execve(candidate, argv, environment) {
            Errno::NOENT | Errno::NOTDIR => {}
            errno => worst = errno,
        }
    }
    eprintln!(
        "docker-init: exec {}: {worst}",
        argv.as_slice()[0].to_string_lossy()
    );
    if worst == Errno::NOENT { 127 } else { 126 }
}

/// Where the program may be: as it is with a slash, else in each directory of PATH.
fn candidates(program: &str) -> Vec<CString> {
    let paths: Vec<String> = match program.contains('/') {
        true => vec![program.to_owned()],
        false => {
            let path =
                std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
            path.split(':')
                .map(|dir| format!("{}/{program}", if dir.is_empty() { "." } else { dir }))
                .collect()
        }
    };
    paths
        .into_iter()
        .filter_map(|path| CString::new(path).ok())
        .collect()
}
