//! Giving back memory that the kernel can find again by itself: pages of the program's own file.

use std::fs::File;
use std::io::BufReader;

use crate::{Result, check_unit};

/// Longest list of mappings that is read, in lines of `/proc/self/smaps`.
const LINES_MAX: usize = 100_000;

/// Unmaps the pages of the program's own code and constants, so that what only the start needed is no longer resident: what is
/// needed again comes back from the page cache, 16 pages at a fault. For a server that has started and now waits. Returns the
/// bytes that were resident there.
///
/// # Errors
/// When `/proc/self/smaps` cannot be read, and those of madvise(2).
pub fn drop_program_pages() -> Result<u64> {
    let smaps = File::open("/proc/self/smaps").map_err(errno)?;
    let program = std::fs::read_link("/proc/self/exe").map_err(errno)?;
    let mut dropped = 0;
    for mapping in mappings(BufReader::new(smaps)).map_err(errno)? {
        if mapping.is_unwritten() && std::path::Path::new(&mapping.path) == program {
            let length = mapping.end - mapping.start;
            // SAFETY: the range is a private mapping of a file (its path is our own program's, which cannot be written
            // while it runs), without a page of its own: MADV_DONTNEED then changes no byte that can be read there, for the next
            // access maps the same page of the file. It is not writable, and this program changes no protection after its start,
            // so nothing can be written there between the look at smaps and this call.
            let outcome =
                unsafe { libc::madvise(mapping.start as *mut _, length, libc::MADV_DONTNEED) };
            check_unit(outcome.into())?;
            dropped += mapping.resident_kib << 10;
        }
    }
    Ok(dropped)
}

fn errno(error: std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
}

/// One mapping as proc_pid_smaps(5) shows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
    permissions: String,
    path: String,
    resident_kib: u64,
    /// Pages that are the process's own, in memory or swapped out.
    own_kib: u64,
}

impl Mapping {
    /// Whether it is exactly what is in its file: never written, and not writable.
    fn is_unwritten(&self) -> bool {
        matches!(self.permissions.as_str(), "r-xp" | "r--p") && self.own_kib == 0
    }
}

/// Reads all mappings.
fn mappings(smaps: impl std::io::BufRead) -> std::io::Result<Vec<Mapping>> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in smaps.lines().take(LINES_MAX) {
        let line = line?;
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some(field) = first.strip_suffix(':') {
            let value: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match (found.last_mut(), field) {
                (Some(mapping), "Rss") => mapping.resident_kib = value,
                (Some(mapping), "Anonymous" | "Swap") => mapping.own_kib += value,
                _ => {}
            }
            continue;
        }
        let Some((start, end)) = first.split_once('-') else {
            continue;
        };
        let (Ok(start), Ok(end)) = (
            usize::from_str_radix(start, 16),
            usize::from_str_radix(end, 16),
        ) else {
            continue;
        };
        let permissions = words.next().unwrap_or_default().to_owned();
        found.push(Mapping {
            start,
            end,
            permissions,
            // After offset, device and inode. Blanks inside a path make it another: it is then left alone.
            path: words.nth(3).unwrap_or_default().to_owned(),
            ..Mapping::default()
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00200000-008c0000 r--p 00000000 fe:00 1234 /usr/bin/hull
Size:               6912 kB
Rss:                1664 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
0220e000-022b8000 r--p 0200d000 fe:00 1234 /usr/bin/hull
Rss:                 664 kB
Anonymous:            12 kB
Swap:                  0 kB
022b8000-022c2000 rw-p 020b6000 fe:00 1234 /usr/bin/hull
Rss:                  40 kB
Anonymous:             0 kB
7ff130000000-7ff130021000 r--p 00000000 00:00 0 
Rss:                  32 kB
Anonymous:             0 kB
Swap:                  4 kB
";

    #[test]
    fn only_what_was_never_written_may_go() {
        let all = mappings(SMAPS.as_bytes()).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|one| (one.path.as_str(), one.resident_kib, one.is_unwritten()))
            .collect();
        let hull = "/usr/bin/hull";
        assert_eq!(
            seen,
            [
                (hull, 1664, true),
                (hull, 664, false),
                (hull, 40, false),
                ("", 32, false)
            ]
        );
        assert_eq!((all[0].start, all[0].end), (0x20_0000, 0x8c_0000));
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        assert!(drop_program_pages().unwrap() > 0);
        let text: String = SMAPS.lines().rev().collect();
        assert_eq!(text.len(), SMAPS.len() - SMAPS.lines().count());
    }
}
