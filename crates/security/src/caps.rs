//! Capability names and bits, Docker's default set, and Docker's rules for `--cap-add` and `--cap-drop`.
//!
//! What does not live here: reading or setting the capabilities of a process (the runtime does that).

use std::collections::BTreeSet;
use std::fmt;

/// Declares the capabilities once, so that a name, its bit and its variant cannot disagree.
macro_rules! capabilities {
    ($($variant:ident = $bit:literal $name:literal,)*) => {
        /// One capability of capabilities(7); the value is its bit, as in `linux/capability.h`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cap {
            $(#[doc = concat!("`CAP_", $name, "`")] $variant = $bit,)*
        }

        impl Cap {
            /// Every capability that this program knows, by rising bit (Linux 5.9 added the last one).
            pub const ALL: &'static [Cap] = &[$(Cap::$variant,)*];

            /// The full name: `CAP_CHOWN`.
            pub fn name(self) -> &'static str {
                match self { $(Cap::$variant => concat!("CAP_", $name),)* }
            }
        }
    };
}

capabilities! {
    Chown = 0 "CHOWN",
    DacOverride = 1 "DAC_OVERRIDE",
    DacReadSearch = 2 "DAC_READ_SEARCH",
    Fowner = 3 "FOWNER",
    Fsetid = 4 "FSETID",
    Kill = 5 "KILL",
    Setgid = 6 "SETGID",
    Setuid = 7 "SETUID",
    Setpcap = 8 "SETPCAP",
    LinuxImmutable = 9 "LINUX_IMMUTABLE",
    NetBindService = 10 "NET_BIND_SERVICE",
    NetBroadcast = 11 "NET_BROADCAST",
    NetAdmin = 12 "NET_ADMIN",
    NetRaw = 13 "NET_RAW",
    IpcLock = 14 "IPC_LOCK",
    IpcOwner = 15 "IPC_OWNER",
    SysModule = 16 "SYS_MODULE",
    SysRawio = 17 "SYS_RAWIO",
    SysChroot = 18 "SYS_CHROOT",
    SysPtrace = 19 "SYS_PTRACE",
    SysPacct = 20 "SYS_PACCT",
    SysAdmin = 21 "SYS_ADMIN",
    SysBoot = 22 "SYS_BOOT",
    SysNice = 23 "SYS_NICE",
    SysResource = 24 "SYS_RESOURCE",
    SysTime = 25 "SYS_TIME",
    SysTtyConfig = 26 "SYS_TTY_CONFIG",
    Mknod = 27 "MKNOD",
    Lease = 28 "LEASE",
    AuditWrite = 29 "AUDIT_WRITE",
    AuditControl = 30 "AUDIT_CONTROL",
    Setfcap = 31 "SETFCAP",
    MacOverride = 32 "MAC_OVERRIDE",
    MacAdmin = 33 "MAC_ADMIN",
    Syslog = 34 "SYSLOG",
    WakeAlarm = 35 "WAKE_ALARM",
    BlockSuspend = 36 "BLOCK_SUSPEND",
    AuditRead = 37 "AUDIT_READ",
    Perfmon = 38 "PERFMON",
    Bpf = 39 "BPF",
    CheckpointRestore = 40 "CHECKPOINT_RESTORE",
}

impl Cap {
    /// The bit number in the kernel's 64-bit sets.
    pub fn bit(self) -> u8 {
        self as u8
    }

    /// The capability with this exact name (`CAP_CHOWN`), as `config.json` writes it.
    pub fn from_name(name: &str) -> Option<Cap> {
        Cap::ALL.iter().copied().find(|cap| cap.name() == name)
    }

    /// The capability of this bit number.
    pub fn from_bit(bit: u8) -> Option<Cap> {
        Cap::ALL.get(usize::from(bit)).copied()
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What Docker gives a container that asks for nothing (moby's `caps.DefaultCapabilities`).
pub const DOCKER_DEFAULT: [Cap; 14] = [
    Cap::Chown,
    Cap::DacOverride,
    Cap::Fsetid,
    Cap::Fowner,
    Cap::Mknod,
    Cap::NetRaw,
    Cap::Setgid,
    Cap::Setuid,
    Cap::Setfcap,
    Cap::Setpcap,
    Cap::NetBindService,
    Cap::SysChroot,
    Cap::Kill,
    Cap::AuditWrite,
];

/// Why a list of capabilities was refused; the sentences are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No kernel that this program knows has that capability.
    #[error("invalid {field}: unknown capability: \"{name}\"")]
    Unknown {
        /// `CapAdd` or `CapDrop`.
        field: &'static str,
        /// The name after upper-casing and prefixing.
        name: String,
    },
    /// The capability exists, but not in the running kernel.
    #[error(
        "invalid {field}: capability not supported by your kernel or not available in the current environment: \"{name}\""
    )]
    Unsupported {
        /// `CapAdd` or `CapDrop`.
        field: &'static str,
        /// The full name.
        name: String,
    },
}

/// The capabilities of the running kernel, by `/proc/sys/kernel/cap_last_cap`; all known ones when that cannot be read.
pub fn supported() -> BTreeSet<Cap> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse::<u8>().ok())
        .unwrap_or(u8::MAX);
    Cap::ALL
        .iter()
        .copied()
        .filter(|cap| cap.bit() <= last)
        .collect()
}

/// The set that a container gets: Docker's defaults, changed by `--cap-add`, `--cap-drop` and `--privileged`.
///
/// `ALL` and names with or without `CAP_`, in any case, are understood. `--cap-add ALL` means everything the kernel has less what
/// is dropped; `--cap-drop ALL` means exactly what is added; otherwise drops go first and adds after.
pub fn tweak(add: &[String], drop: &[String], privileged: bool) -> Result<BTreeSet<Cap>, Error> {
    tweak_from(&supported(), add, drop, privileged)
}

/// [`tweak`] for a kernel whose capabilities are `supported`; pure.
pub fn tweak_from(
    supported: &BTreeSet<Cap>,
    add: &[String],
    drop: &[String],
    privileged: bool,
) -> Result<BTreeSet<Cap>, Error> {
    let added = parse("CapAdd", add, supported)?;
    let dropped = parse("CapDrop", drop, supported)?;
    if privileged {
        return Ok(supported.clone());
    }
    Ok(match (added.all, dropped.all) {
        // A drop of ALL means nothing here: only the capabilities dropped by name are.
        (true, _) => supported.difference(&dropped.caps).copied().collect(),
        (false, true) => added.caps,
        (false, false) => {
            let defaults: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().collect();
            defaults
                .difference(&dropped.caps)
                .copied()
                .chain(added.caps)
                .collect()
        }
    })
}

/// Docker's normal form of a list (`CapAdd` as `docker inspect` shows it): upper case, `CAP_` in front, `ALL` alone.
pub fn normalize(field: &'static str, names: &[String]) -> Result<Vec<String>, Error> {
    let list = parse(field, names, &supported())?;
    if list.all {
        return Ok(vec!["ALL".to_owned()]);
    }
    let mut normal: Vec<String> = list.caps.iter().map(|cap| cap.name().to_owned()).collect();
    normal.sort();
    Ok(normal)
}

/// A parsed list: `ALL` stands anywhere in it, and what else it names.
struct List {
    all: bool,
    caps: BTreeSet<Cap>,
}

fn parse(field: &'static str, names: &[String], supported: &BTreeSet<Cap>) -> Result<List, Error> {
    let mut caps = BTreeSet::new();
    let mut all = false;
    for name in names {
        let mut name = name.to_uppercase();
        if name == "ALL" {
            all = true;
            continue;
        }
        if !name.starts_with("CAP_") {
            name.insert_str(0, "CAP_");
        }
        let Some(cap) = Cap::from_name(&name) else {
            return Err(Error::Unknown { field, name });
        };
        if !supported.contains(&cap) {
            return Err(Error::Unsupported { field, name });
        }
        caps.insert(cap);
    }
    Ok(List { all, caps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(add: &[&str], drop: &[&str], expected: Expect) {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let all: BTreeSet<Cap> = Cap::ALL.iter().copied().collect();
        let text = match tweak_from(&all, &own(add), &own(drop), false) {
            Ok(set) => set
                .iter()
                .map(|cap| cap.name().trim_start_matches("CAP_"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn bits_follow_the_order_of_the_list() {
        for (index, cap) in Cap::ALL.iter().enumerate() {
            assert_eq!(usize::from(cap.bit()), index);
            assert_eq!(Cap::from_name(cap.name()), Some(*cap));
        }
    }

    #[test]
    fn dockers_rules() {
        let defaults = expect![
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
        ];
        check(&[], &[], defaults);
        check(
            &["net_admin", "CAP_SYS_TIME"],
            &["MKNOD", "cap_kill"],
            expect![
                "CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT SYS_TIME AUDIT_WRITE SETFCAP"
            ],
        );
        check(&["CHOWN"], &["ALL"], expect!["CHOWN"]);
        check(&["CHOWN"], &["all", "CHOWN"], expect!["CHOWN"]);
        let again = tweak(&["CHOWN".to_owned()], &["chown".to_owned()], false);
        assert_eq!(again, tweak(&[], &[], false));
        check(
            &["cheese"],
            &[],
            expect![[r#"invalid CapAdd: unknown capability: "CAP_CHEESE""#]],
        );
        check(
            &[],
            &["cap_cheese"],
            expect![[r#"invalid CapDrop: unknown capability: "CAP_CHEESE""#]],
        );
    }

    #[test]
    fn all_follows_the_kernel() {
        let old: BTreeSet<Cap> = Cap::ALL[..38].iter().copied().collect();
        let all = ["ALL".to_owned()];
        assert_eq!(tweak_from(&old, &all, &[], false).as_ref(), Ok(&old));
        assert_eq!(tweak_from(&old, &[], &[], true).as_ref(), Ok(&old));
        assert!(
            !tweak_from(&old, &all, &["CHOWN".to_owned()], false)
                .expect("known names")
                .contains(&Cap::Chown)
        );
        assert_eq!(
            tweak_from(&old, &["BPF".to_owned()], &[], false),
            Err(Error::Unsupported {
                field: "CapAdd",
                name: "CAP_BPF".to_owned()
            })
        );
    }

    #[test]
    fn normal_form_is_sorted_and_unique() {
        let names: Vec<String> = ["sys_time", "CAP_CHOWN", "chown"]
            .iter()
            .map(|&s| s.to_owned())
            .collect();
        assert_eq!(
            normalize("CapAdd", &names).expect("known names"),
            ["CAP_CHOWN", "CAP_SYS_TIME"]
        );
        assert_eq!(
            normalize("CapAdd", &["Chown".to_owned(), "all".to_owned()]).expect("known names"),
            ["ALL"]
        );
    }
}
