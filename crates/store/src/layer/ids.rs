//! Owners under a remapped user namespace: an archive has the container's ids, the disk the host's.

/// The id that the kernel shows for one without a mapping (user_namespaces(7), "Unmapped user and group IDs").
const OVERFLOW_ID: u32 = 65534;

/// `length` ids from `inside` on are `outside` and following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id in the container, and in the archive.
    pub inside: u32,
    /// First id on disk.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// The ranges of users and of groups. No ranges at all map each id to itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// Whether every id is itself.
    pub fn is_identity(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Owner and group on disk of the container's; `None` outside the ranges.
    pub fn outside(&self, uid: u64, gid: u64) -> Option<(u32, u32)> {
        out(uid, &self.uids).zip(out(gid, &self.gids))
    }

    /// The container's owner and group of a file on disk; what is outside the ranges is nobody's.
    pub fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        (back(uid, &self.uids), back(gid, &self.gids))
    }

    /// The container's root on disk; 0 and 0 where root itself is not mapped.
    pub fn root(&self) -> (u32, u32) {
        self.outside(0, 0).unwrap_or_default()
    }
}

fn out(id: u64, ranges: &[IdRange]) -> Option<u32> {
    // u32::MAX means "leave alone" to chown(2).
    let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX)?;
    if ranges.is_empty() {
        return Some(id);
    }
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside)?;
        (offset < range.length)
            .then(|| range.outside.checked_add(offset))
            .flatten()
    })
}

fn back(id: u32, ranges: &[IdRange]) -> u32 {
    if ranges.is_empty() {
        return id;
    }
    let found = ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.outside)?;
        (offset < range.length)
            .then(|| range.inside.checked_add(offset))
            .flatten()
    });
    found.unwrap_or(OVERFLOW_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let range = |inside, outside, length| IdRange {
            inside,
            outside,
            length,
        };
        let maps = IdMaps {
            uids: vec![range(0, 100_000, 1000), range(1000, 500_000, 10)],
            gids: vec![range(0, 200_000, 1000)],
        };
        assert_eq!(maps.root(), (100_000, 200_000));
        assert_eq!(maps.outside(1005, 7), Some((500_005, 200_007)));
        assert_eq!(maps.outside(1010, 7), None);
        assert_eq!(maps.inside(500_005, 200_007), (1005, 7));
        assert_eq!(maps.inside(0, 0), (OVERFLOW_ID, OVERFLOW_ID));
        let none = IdMaps::default();
        assert!(none.is_identity());
        assert_eq!(none.outside(5, 6), Some((5, 6)));
        assert_eq!(none.inside(5, 6), (5, 6));
        assert_eq!(none.outside(u64::from(u32::MAX), 0), None);
    }
}
