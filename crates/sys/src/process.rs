//! Odd calls about the calling process: exit without unwinding, rlimits by number, personality, prctl(2).

use crate::{Result, check_unit};

/// Ends the process at once: no destructors, no flushing, no exit handlers. For children of
/// [`crate::clone::clone3`], whose copies of the parent's buffers must not be flushed twice.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(status) }
}

/// Sets a resource limit of process `pid` (0: the caller) by its kernel number (`RLIMIT_*`).
///
/// # Errors
/// `EPERM` when the hard limit would rise without `CAP_SYS_RESOURCE`, `EINVAL` for soft above hard or an
/// unknown resource, `ESRCH`.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `new` is valid for the call; no old value is asked for.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

/// Sets the execution domain, personality(2).
///
/// # Errors
/// `EINVAL` when the kernel does not know it.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: takes a plain number.
    check_unit(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

/// Sets the parent-death signal of the caller to `signal` (0: none), prctl(2) `PR_SET_PDEATHSIG`.
///
/// # Errors
/// `EINVAL` for an unknown signal.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0)
}

/// Makes the caller the reaper of its orphaned descendants, `PR_SET_CHILD_SUBREAPER`.
///
/// # Errors
/// None are known.
pub fn set_child_subreaper(on: bool) -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on), 0)
}

/// Sets whether the process can be dumped and its `/proc/PID` files opened by its own user,
/// `PR_SET_DUMPABLE`. Init is not dumpable until its exec, so that a process already in the
/// container cannot reach the host's descriptors through it (CVE-2016-9962).
///
/// # Errors
/// None are known.
pub fn set_dumpable(on: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on), 0)
}

/// Sets `no_new_privs`, which execve(2) inherits and nothing can unset.
///
/// # Errors
/// None are known.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// A prctl(2) whose arguments are numbers.
pub(crate) fn prctl(option: libc::c_int, arg2: u64, arg3: u64) -> Result<()> {
    // SAFETY: this crate passes only options whose arguments are numbers.
    check_unit(unsafe { libc::prctl(option, arg2, arg3, 0u64, 0u64) }.into())
}

/// Gives memory that the allocator holds free back to the kernel (malloc_trim(3)): after a burst a long-lived process would
/// keep the burst's peak for ever.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
