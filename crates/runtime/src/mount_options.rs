//! Mount options of the runtime specification: which are attributes, which propagation, which the
//! filesystem's own.

use hull_sys::mount::attr;

use crate::plan::Propagation;

/// `options` of a mount, taken apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// Attributes to set on the top mount.
    pub set: u64,
    /// Attributes to clear on the top mount.
    pub clear: u64,
    /// Attributes to set on the whole tree (`rro`, ..).
    pub rec_set: u64,
    /// Attributes to clear on the whole tree.
    pub rec_clear: u64,
    /// Propagation changes, in order.
    pub propagation: Vec<Propagation>,
    /// A bind mount; `Some(true)`: of the whole tree.
    pub bind: Option<bool>,
    /// Only change what is mounted there.
    pub remount: bool,
    /// Copy what the mount covers into it.
    pub copy_up: bool,
    /// Idmapped; `Some(true)`: the whole tree.
    pub idmap: Option<bool>,
    /// What the filesystem gets, as `key` or `key=value`.
    pub data: Vec<String>,
}

/// Options that change one attribute: name, bit, whether it sets it.
const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", attr::RDONLY, true),
    ("rw", attr::RDONLY, false),
    ("nosuid", attr::NOSUID, true),
    ("suid", attr::NOSUID, false),
    ("nodev", attr::NODEV, true),
    ("dev", attr::NODEV, false),
    ("noexec", attr::NOEXEC, true),
    ("exec", attr::NOEXEC, false),
    ("nodiratime", attr::NODIRATIME, true),
    ("diratime", attr::NODIRATIME, false),
    ("nosymfollow", attr::NOSYMFOLLOW, true),
    ("symfollow", attr::NOSYMFOLLOW, false),
];

/// Options of access times: name, the value of the field, or `None` to go back to the default.
const ATIMES: &[(&str, Option<u64>)] = &[
    ("noatime", Some(attr::NOATIME)),
    ("atime", None),
    ("relatime", None),
    ("norelatime", None),
    ("strictatime", Some(attr::STRICTATIME)),
    ("nostrictatime", None),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Superblock flags that fsconfig(2) takes by these names.
const SUPERBLOCK: &[&str] = &[
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
];
/// Options without effect of their own.
const NEUTRAL: &[&str] = &["defaults", "loud", "silent", "iversion", "noiversion"];

/// Takes options apart. Later ones win, as with mount(8).
#[must_use]
pub fn parse<S: AsRef<str>>(options: &[S]) -> Parsed {
    let mut parsed = Parsed::default();
    for option in options {
        parsed.apply(option.as_ref());
    }
    parsed
}

impl Parsed {
    fn apply(&mut self, option: &str) {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            _ if NEUTRAL.contains(&option) => {}
            _ if self.attribute(option) || self.propagate(option) => {}
            _ => self.data.push(option.to_owned()),
        }
    }

    /// An attribute or, with an `r` before it, a recursive one.
    fn attribute(&mut self, option: &str) -> bool {
        if let Some((set, clear)) = bits(option) {
            self.clear = self.clear & !set | clear;
            self.set = self.set & !clear | set;
            return true;
        }
        // `relatime` and `rw` are found above, so what is left with an `r` is recursive.
        if let Some((set, clear)) = option.strip_prefix('r').and_then(bits) {
            self.rec_clear = self.rec_clear & !set | clear;
            self.rec_set = self.rec_set & !clear | set;
            return true;
        }
        false
    }

    fn propagate(&mut self, option: &str) -> bool {
        let find = |name: &str| PROPAGATIONS.iter().find(|(known, _)| *known == name);
        let (found, recursive) = match (find(option), option.strip_prefix('r').and_then(find)) {
            (Some(found), _) => (found, false),
            (None, Some(found)) => (found, true),
            (None, None) => return false,
        };
        self.propagation.push(Propagation {
            flag: found.1,
            recursive,
        });
        true
    }
}

/// The bits that an option sets and clears. An access-time option clears its whole field.
fn bits(option: &str) -> Option<(u64, u64)> {
    if let Some((_, bit, set)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
        return Some(if *set { (*bit, 0) } else { (0, *bit) });
    }
    let (_, value) = ATIMES.iter().find(|(name, _)| *name == option)?;
    Some((value.unwrap_or(0), attr::ATIME))
}

/// Every option that is not the filesystem's own, for `features`.
#[must_use]
pub fn known() -> Vec<String> {
    let mut names: Vec<String> = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"]
        .iter()
        .chain(SUPERBLOCK)
        .chain(NEUTRAL)
        .map(|s| (*s).to_owned())
        .collect();
    let attributes = ATTRIBUTES
        .iter()
        .map(|a| a.0)
        .chain(ATIMES.iter().map(|a| a.0));
    for name in attributes.chain(PROPAGATIONS.iter().map(|p| p.0)) {
        names.push(name.to_owned());
        names.push(format!("r{name}"));
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win() {
        let parsed = parse(&["ro", "rw", "nosuid", "noatime", "strictatime"]);
        assert_eq!(parsed.set, attr::NOSUID | attr::STRICTATIME);
        assert_eq!(parsed.clear & attr::RDONLY, attr::RDONLY);
    }

    #[test]
    fn recursive_and_plain_are_told_apart() {
        let parsed = parse(&[
            "rbind",
            "rro",
            "rw",
            "relatime",
            "rslave",
            "size=1m",
            "rnorelatime",
        ]);
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.rec_set, attr::RDONLY);
        assert_eq!(parsed.rec_clear, attr::ATIME);
        assert_eq!(
            parsed.propagation,
            [Propagation {
                flag: libc::MS_SLAVE,
                recursive: true
            }]
        );
        assert_eq!(parsed.data, ["size=1m"]);
    }

    proptest::proptest! {
        /// What an option sets, the same option does not clear; and each option has an effect or is the file system's.
        #[test]
        fn any_options_are_sorted(options in proptest::collection::vec("[a-z=,0-9]{0,12}|r?(ro|rw|nosuid|suid|bind|slave|private|relatime)", 0..8)) {
            let parsed = parse(&options);
            proptest::prop_assert_eq!(parsed.set & parsed.clear & !attr::ATIME, 0);
            proptest::prop_assert_eq!(parsed.rec_set & parsed.rec_clear & !attr::ATIME, 0);
            proptest::prop_assert!(parsed.data.len() <= options.len());
        }
    }
}
