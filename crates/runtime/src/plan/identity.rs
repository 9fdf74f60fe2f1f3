//! Names to numbers: capabilities, resource limits, CPU and node lists.

use hull_security::caps::Cap;

/// Bits of the named capabilities; the ones newer than this kernel are left out.
///
/// # Errors
/// The first unknown name.
pub(crate) fn capability_mask(names: &[String], last: u32) -> Result<u64, String> {
    names.iter().try_fold(0, |mask, name| {
        let cap = Cap::from_name(name).ok_or_else(|| name.clone())?;
        let bit = u32::from(cap.bit());
        Ok(if bit <= last { mask | 1 << bit } else { mask })
    })
}

/// `RLIMIT_*` of getrlimit(2), as `RLIMIT_NOFILE`.
pub(crate) fn rlimit_number(name: &str) -> Option<u32> {
    let known = [
        ("RLIMIT_CPU", libc::RLIMIT_CPU),
        ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
        ("RLIMIT_DATA", libc::RLIMIT_DATA),
        ("RLIMIT_STACK", libc::RLIMIT_STACK),
        ("RLIMIT_CORE", libc::RLIMIT_CORE),
        ("RLIMIT_RSS", libc::RLIMIT_RSS),
        ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
        ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
        ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
        ("RLIMIT_AS", libc::RLIMIT_AS),
        ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
        ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
        ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", libc::RLIMIT_NICE),
        ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

/// Largest CPU or node number that a list may name.
const NUMBER_MAX: u32 = 8191;

/// A list as the kernel writes it: `0-3,7`. Empty is no number.
///
/// # Errors
/// The reason, for the user.
pub(crate) fn cpu_list(text: &str) -> Result<Vec<u32>, String> {
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |n: &str| n.trim().parse::<u32>().ok().filter(|n| *n <= NUMBER_MAX);
        match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first <= last => numbers.extend(first..=last),
            _ => return Err(format!("{part:?} is no number or range")),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,7"), Ok(vec![0, 1, 2, 7]));
        assert_eq!(cpu_list(""), Ok(vec![]));
        for bad in ["3-1", "x", "1-", "-1", "99999999999", "0-100000"] {
            cpu_list(bad).unwrap_err();
        }
    }

    #[test]
    fn capabilities_newer_than_the_kernel_are_left_out() {
        let names = ["CAP_CHOWN".to_owned(), "CAP_CHECKPOINT_RESTORE".to_owned()];
        assert_eq!(capability_mask(&names, 39), Ok(1));
        assert_eq!(capability_mask(&names, 40), Ok(1 | 1 << 40));
        capability_mask(&["CAP_NOPE".to_owned()], 40).unwrap_err();
    }
}
