//! Whether a bind mount's source can be propagated as asked: moby's `ensureShared` and `ensureSharedOrSlave`, in its words.

use std::path::Path;

use crate::error::{Error, Result, failed};

/// The mount that a path lies on: where it is, and whether it is shared or a slave of a shared one.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    point: String,
    shared: bool,
    slave: bool,
}

/// Refuses `shared` on a mount that is not shared, and `slave` on one that is neither shared nor a slave: the container would see
/// nothing of what it asked to see.
pub(super) fn check(source: &str, propagation: &str) -> Result<()> {
    let (needed, slave_does) = match propagation {
        "shared" | "rshared" => ("a shared mount", false),
        "slave" | "rslave" => ("a shared or slave mount", true),
        _ => return Ok(()),
    };
    let real = std::fs::canonicalize(source).map_err(failed(format!("resolve {source}")))?;
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(failed("read mountinfo"))?;
    let Some(place) = place_of(&table, &real) else {
        return Err(Error::internal(format!(
            "Could not find source mount of {source}"
        )));
    };
    if place.shared || slave_does && place.slave {
        return Ok(());
    }
    Err(Error::internal(format!(
        "path {source} is mounted on {} but it is not {needed}",
        place.point
    )))
}

/// The last mount among those with the longest path above `path`: the topmost one. proc(5), "/proc/pid/mountinfo".
fn place_of(table: &str, path: &Path) -> Option<Place> {
    let mut best: Option<Place> = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4).map(|field| unescape(field)) else {
            continue;
        };
        let longer = best
            .as_ref()
            .is_none_or(|best| point.len() >= best.point.len());
        if !path.starts_with(&point) || !longer {
            continue;
        }
        let tags = fields.iter().skip(6).take_while(|field| **field != "-");
        let has = |tag: &str| tags.clone().any(|field| field.starts_with(tag));
        best = Some(Place {
            shared: has("shared:"),
            slave: has("master:"),
            point,
        });
    }
    best
}

/// A field of proc(5)'s mountinfo: `\040` and its like are octal.
pub(crate) fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 27 0:21 / /proc rw - proc proc rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 27 0:27 / /a\\040b rw shared:7 - tmpfs tmpfs rw\n\
        31 30 0:28 / /a\\040b/c rw master:7 propagate_from:2 - tmpfs tmpfs rw\n\
        32 30 0:29 / /a\\040b/c rw - tmpfs tmpfs rw\n";

    fn at(path: &str) -> Place {
        place_of(TABLE, Path::new(path)).expect("a mount")
    }

    #[test]
    fn the_topmost_of_the_longest_counts() {
        assert_eq!(at("/etc").point, "/");
        assert!(at("/a b/x").shared && !at("/a b/x").slave);
        assert_eq!(at("/a bc").point, "/");
        let covered = at("/a b/c/d");
        assert_eq!((covered.point.as_str(), covered.slave), ("/a b/c", false));
    }

    #[test]
    fn only_shared_and_slave_are_looked_up() {
        assert!(check("/no/such/path", "rprivate").is_ok());
        assert!(check("/no/such/path", "").is_ok());
        assert!(check("/no/such/path", "rshared").is_err());
    }
}
