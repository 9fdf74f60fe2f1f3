//! Memory of processes: PSS, which shares out pages that several map, so that sums mean something.

use anyhow::Result;

/// The sum of the processes' PSS in bytes; `None` for no processes.
pub fn pss(pids: &[u32]) -> Result<Option<u64>> {
    if pids.is_empty() {
        return Ok(None);
    }
    let mut total = 0;
    for pid in pids {
        // One that has just ended counts nothing.
        let rollup =
            std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib: u64 = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        total += kib * 1024;
    }
    Ok(Some(total))
}

/// Those of `pids` whose command is `name`.
pub fn named(pids: &[u32], name: &str) -> Result<Vec<u32>> {
    Ok(pids
        .iter()
        .copied()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        })
        .collect())
}

/// Every process whose network namespace, executable's arguments or ancestors belong to `root`: those that were started since a
/// marker was put into their environment.
pub fn marked(marker: &str) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == marker.as_bytes())
        {
            found.push(pid);
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok())
        {
            parents.push((pid, parent));
        }
    }
    // Containers do not have the marker; the shims above them do.
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}
