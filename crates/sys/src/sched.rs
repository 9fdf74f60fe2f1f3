//! Scheduling: sched_setattr(2), ioprio_set(2), set_mempolicy(2), CPU affinity.

use crate::{Result, check_unit};

/// What sched_setattr(2) sets. Times are nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`.
    pub runtime_ns: u64,
    /// For `SCHED_DEADLINE`.
    pub deadline_ns: u64,
    /// For `SCHED_DEADLINE`.
    pub period_ns: u64,
}

#[repr(C)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling policy of the calling thread.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EBUSY` (deadline admission).
pub fn set_attr(attr: &SchedAttr) -> Result<()> {
    let raw = RawSchedAttr {
        size: size_of::<RawSchedAttr>() as u32,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime_ns,
        deadline: attr.deadline_ns,
        period: attr.period_ns,
    };
    // SAFETY: `raw` has the size that it states and outlives the call.
    check_unit(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) })
}

/// Sets the I/O priority of the calling thread: `class` 1 real-time, 2 best-effort, 3 idle; `level` 0 to 7.
///
/// # Errors
/// `EPERM` for real-time without `CAP_SYS_ADMIN`, `EINVAL`.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: takes plain numbers.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            class << 13 | (level & 7),
        )
    })
}

/// Sets the memory policy of the calling thread: `mode` with its flags, and the nodes it is about.
///
/// # Errors
/// `EINVAL` for an unknown mode or no usable node.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> Result<()> {
    const WORDS: usize = 16;
    let mut mask = [0u64; WORDS];
    for node in nodes {
        let (word, bit) = (*node as usize / 64, node % 64);
        *mask.get_mut(word).ok_or(crate::Errno::INVAL)? |= 1 << bit;
    }
    let (pointer, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (mask.as_ptr(), WORDS * 64)
    };
    // SAFETY: the mask has `bits` bits, or is null with a length of 0.
    check_unit(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

/// Restricts process `pid` (0: the caller) to the given CPUs.
///
/// # Errors
/// `EINVAL` when none of them exists, `ESRCH`, `EPERM`.
pub fn set_affinity(pid: i32, cpus: &[u32]) -> Result<()> {
    const WORDS: usize = 128;
    let mut mask = [0u64; WORDS];
    for cpu in cpus {
        let (word, bit) = (*cpu as usize / 64, cpu % 64);
        *mask.get_mut(word).ok_or(crate::Errno::INVAL)? |= 1 << bit;
    }
    // SAFETY: the kernel reads at most the length given.
    check_unit(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of_val(&mask),
            mask.as_ptr(),
        )
    })
}
