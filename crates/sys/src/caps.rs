//! Capabilities as 64-bit masks (bit n is capability number n): capset(2), bounding, ambient, securebits.
//!
//! By number and not by rustix's named flags, so that a capability newer than the library passes through.

use crate::process::prctl;
use crate::{Errno, Result, check_unit};

const VERSION_3: u32 = 0x2008_0522;

/// The three sets that capset(2) handles.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept across execve where the file's inheritable set has it.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The calling thread's sets.
///
/// # Errors
/// None are known.
pub fn get() -> Result<CapSets> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 has exactly two data elements; both outlive the call.
    check_unit(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |f: fn(&Data) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
    Ok(CapSets {
        effective: join(|d| d.effective),
        permitted: join(|d| d.permitted),
        inheritable: join(|d| d.inheritable),
    })
}

/// Sets the calling thread's sets.
///
/// # Errors
/// `EPERM` when a set would grow beyond what capabilities(7) allows.
pub fn set(sets: CapSets) -> Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: as in `get`; the kernel only reads the data.
    check_unit(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

/// Removes every capability that is not in `keep` from the bounding set, up to `last` (the kernel's
/// `cap_last_cap`).
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn limit_bounding(keep: u64, last: u32) -> Result<()> {
    for cap in 0..=last.min(63) {
        if keep & (1 << cap) == 0 {
            match prctl(libc::PR_CAPBSET_DROP, u64::from(cap), 0) {
                Ok(()) => {}
                // The kernel is older than `last` says.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// The bounding set.
#[must_use]
pub fn bounding() -> u64 {
    let mut set = 0;
    for cap in 0..64 {
        // SAFETY: PR_CAPBSET_READ takes a number; an unknown one gives -1.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap as u64, 0u64, 0u64, 0u64) } == 1 {
            set |= 1 << cap;
        }
    }
    set
}

/// Empties the ambient set.
///
/// # Errors
/// `EINVAL` on kernels before 4.3.
pub fn clear_ambient() -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
}

/// Raises one capability in the ambient set.
///
/// # Errors
/// `EPERM` when it is not both permitted and inheritable.
pub fn raise_ambient(cap: u32) -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(cap),
    )
}

/// Whether permitted capabilities survive the next change of user, `PR_SET_KEEPCAPS`.
///
/// # Errors
/// `EPERM` when securebits lock it.
pub fn set_keep(on: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on), 0)
}

/// Sets securebits, `PR_SET_SECUREBITS`.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP` or when locked.
pub fn set_securebits(bits: u32) -> Result<()> {
    prctl(libc::PR_SET_SECUREBITS, u64::from(bits), 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sets_agree_with_proc() {
        let sets = super::get().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        assert_eq!(sets.effective, field("CapEff"));
        assert_eq!(sets.permitted, field("CapPrm"));
        assert_eq!(sets.inheritable, field("CapInh"));
        assert_eq!(super::bounding(), field("CapBnd"));
    }
}
