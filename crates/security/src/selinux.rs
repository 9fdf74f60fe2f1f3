//! SELinux: labels, the category pairs that keep containers apart, Docker's `label=` options, and relabelling of volumes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, XattrFlags};

/// Where the kernel's SELinux is spoken to.
const SELINUXFS: &str = "/sys/fs/selinux";
/// Categories of the usual policies are c0 to c1023.
const CATEGORIES: u16 = 1024;
/// How deep a volume is relabelled: deeper than any path that can be named in one go (PATH_MAX / 2).
const DEPTH_MAX: usize = 2048;

/// What went wrong with a label.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not `user:role:type[:level]`.
    #[error("\"{0}\" is not an SELinux label (user:role:type:level)")]
    Label(String),
    /// An option of `--security-opt label=`; the sentence is Docker's.
    #[error(
        "Bad label option {0:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
    )]
    Option(String),
    /// All 523776 pairs of categories are taken.
    #[error("no free pair of SELinux categories is left")]
    Exhausted,
    /// A system directory must not be relabelled as a volume; the sentence is Docker's.
    #[error("SELinux relabeling of {0} is not allowed")]
    Protected(String),
    /// A file could not be relabelled.
    #[error("relabel {path}")]
    Relabel {
        /// The file, below the volume's own path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Whether SELinux runs on this kernel with a policy loaded.
pub fn is_enabled() -> bool {
    Path::new(SELINUXFS).join("enforce").exists()
        && fs::read_to_string("/proc/self/attr/current")
            .is_ok_and(|own| own.trim_end_matches('\0') != "kernel")
}

/// A security context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// `system_u`.
    pub user: String,
    /// `system_r` for processes, `object_r` for files.
    pub role: String,
    /// `container_t`.
    pub kind: String,
    /// `s0:c1,c2`; empty without multi-level security.
    pub level: String,
}

impl std::str::FromStr for Label {
    type Err = Error;

    /// The level may itself contain colons.
    fn from_str(text: &str) -> Result<Label, Error> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (user, role, kind) = (parts.next(), parts.next(), parts.next());
        let bad = text.contains(|c: char| c.is_whitespace() || c.is_control());
        match (user, role, kind) {
            (Some(user), Some(role), Some(kind))
                if !bad && !user.is_empty() && !role.is_empty() && !kind.is_empty() =>
            {
                Ok(Label {
                    user,
                    role,
                    kind,
                    level: parts.next().unwrap_or_default(),
                })
            }
            _ => Err(Error::Label(text.to_owned())),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        if self.level.is_empty() {
            Ok(())
        } else {
            write!(f, ":{}", self.level)
        }
    }
}

/// Two different categories, the smaller first: what one container's processes and files have and no other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Categories(u16, u16);

impl Categories {
    /// The pair in a level such as `s0:c1,c2`; `None` for levels of other forms.
    pub fn of_level(level: &str) -> Option<Categories> {
        let (_, categories) = level.split_once(':')?;
        let (first, second) = categories.split_once(',')?;
        let number = |text: &str| {
            text.strip_prefix('c')?
                .parse::<u16>()
                .ok()
                .filter(|&number| number < CATEGORIES)
        };
        let (first, second) = (number(first)?, number(second)?);
        (first != second).then(|| Categories(first.min(second), first.max(second)))
    }

    /// The level with this pair: `s0:c1,c2`.
    pub fn level(self) -> String {
        format!("s0:c{},c{}", self.0, self.1)
    }

    /// A pair that is not in use. `random` gives any numbers; after some collisions the next free pair in order is taken.
    pub fn allocate(
        in_use: &BTreeSet<Categories>,
        mut random: impl FnMut() -> u32,
    ) -> Result<Categories, Error> {
        for _ in 0..64 {
            let (a, b) = (
                (random() % u32::from(CATEGORIES)) as u16,
                (random() % u32::from(CATEGORIES)) as u16,
            );
            let pair = Categories(a.min(b), a.max(b));
            if a != b && !in_use.contains(&pair) {
                return Ok(pair);
            }
        }
        let mut all =
            (0..CATEGORIES).flat_map(|a| (a + 1..CATEGORIES).map(move |b| Categories(a, b)));
        all.find(|pair| !in_use.contains(pair))
            .ok_or(Error::Exhausted)
    }
}

/// The labels that the policy wants for containers: `lxc_contexts` of the policy in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    /// For processes.
    pub process: Label,
    /// For files that a container may write.
    pub file: Label,
}

impl Contexts {
    /// The policy's, from /etc/selinux, or the usual policies' names where it does not say.
    pub fn load() -> Contexts {
        let config = fs::read_to_string("/etc/selinux/config").unwrap_or_default();
        let policy = setting(&config, "SELINUXTYPE")
            .unwrap_or("targeted")
            .to_owned();
        let text = fs::read_to_string(format!("/etc/selinux/{policy}/contexts/lxc_contexts"))
            .unwrap_or_default();
        Contexts::parse(&text)
    }

    /// Reads `process = ".."` and `file = ".."` lines; what is missing or broken has the usual value.
    pub fn parse(text: &str) -> Contexts {
        let label = |key: &str, kind: &str, role: &str| {
            let written = setting(text, key).and_then(|value| value.parse().ok());
            written.unwrap_or(Label {
                user: "system_u".to_owned(),
                role: role.to_owned(),
                kind: kind.to_owned(),
                level: "s0".to_owned(),
            })
        };
        Contexts {
            process: label("process", "container_t", "system_r"),
            file: label("file", "container_file_t", "object_r"),
        }
    }
}

/// The value of `key = "value"`, comments and quotes aside.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

/// The labels of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLabels {
    /// `process.selinuxLabel`.
    pub process: Label,
    /// `linux.mountLabel`.
    pub mount: Label,
}

/// The labels for a container with the `label=` options of `--security-opt` (without `label=`); `None` when they say `disable`.
///
/// `fresh` gives a pair of categories that no other container has; it is asked unless `level:` names one.
pub fn labels(
    contexts: &Contexts,
    options: &[&str],
    fresh: impl FnOnce() -> Result<Categories, Error>,
) -> Result<Option<ContainerLabels>, Error> {
    let (mut process, mut mount) = (contexts.process.clone(), contexts.file.clone());
    let mut level = None;
    for &option in options {
        if option == "disable" {
            return Ok(None);
        }
        let (key, value) = option
            .split_once([':', '='])
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| Error::Option(option.to_owned()))?;
        let value = value.to_owned();
        match key {
            "user" => {
                process.user.clone_from(&value);
                mount.user = value;
            }
            "role" => process.role = value,
            "type" => process.kind = value,
            "filetype" => mount.kind = value,
            "level" => level = Some(value),
            _ => return Err(Error::Option(option.to_owned())),
        }
    }
    let level = match level {
        Some(level) => level,
        None => fresh()?.level(),
    };
    process.level.clone_from(&level);
    mount.level = level;
    Ok(Some(ContainerLabels { process, mount }))
}

/// Directories whose relabelling would break the host, themselves and not what is below them.
#[rustfmt::skip]
const PROTECTED: [&str; 24] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib",
    "/lib64", "/media", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr",
    "/var", "/var/lib", "/var/log",
];

/// Gives a volume and everything in it a label: `:Z` (the container's own level) or `:z` (`shared`: level s0, for all containers).
///
/// Links are relabelled, not followed, and the walk goes by descriptors, so that a file swapped for a link cannot lead it elsewhere.
pub fn relabel(path: &Path, label: &Label, shared: bool) -> Result<(), Error> {
    let shown = path.display().to_string();
    let real = fs::canonicalize(path).map_err(|source| Error::Relabel {
        path: shown.clone(),
        source,
    })?;
    if PROTECTED
        .iter()
        .any(|protected| [path, real.as_path()].contains(&Path::new(protected)))
    {
        return Err(Error::Protected(shown));
    }
    let level = if shared {
        "s0".to_owned()
    } else {
        label.level.clone()
    };
    let value = Label {
        level,
        ..label.clone()
    }
    .to_string();
    let failed = |path: &Path, source: rustix::io::Errno| Error::Relabel {
        path: path.display().to_string(),
        source: source.into(),
    };
    set(&real, &value).map_err(|source| failed(&real, source))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(&real, flags, Mode::empty()) {
        Ok(folder) => walk(folder, &real, &value, 0),
        Err(rustix::io::Errno::NOTDIR) => Ok(()),
        Err(source) => Err(failed(&real, source)),
    }
}

fn walk(folder: OwnedFd, path: &Path, value: &str, depth: usize) -> Result<(), Error> {
    let failed = |path: &Path, source: rustix::io::Errno| Error::Relabel {
        path: path.display().to_string(),
        source: source.into(),
    };
    if depth > DEPTH_MAX {
        return Err(failed(path, rustix::io::Errno::LOOP));
    }
    let entries = Dir::read_from(&folder).map_err(|source| failed(path, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| failed(path, source))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let own_name = OsStr::from_bytes(name.to_bytes());
        let child = path.join(own_name);
        // /proc/self/fd/N/name names the entry of this directory, whatever the path to it has become.
        let by_fd = Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(own_name);
        match set(&by_fd, value) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            // Removed meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(source) => return Err(failed(&child, source)),
        }
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(&folder, name, flags, Mode::empty())
                .map_err(|source| failed(&child, source))?;
            walk(inner, &child, value, depth + 1)?;
        }
    }
    Ok(())
}

fn set(path: &Path, value: &str) -> Result<(), rustix::io::Errno> {
    rustix::fs::lsetxattr(
        path,
        "security.selinux",
        value.as_bytes(),
        XattrFlags::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_written() {
        for text in [
            "system_u:system_r:container_t:s0:c1,c2",
            "a:b:c",
            "u:r:t:s0-s0:c0.c1023",
        ] {
            assert_eq!(text.parse::<Label>().expect(text).to_string(), text);
        }
        for text in ["", "a:b", "a::c:s0", "a:b:c d:s0"] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }

    #[test]
    fn categories() {
        assert_eq!(Categories::of_level("s0:c2,c1"), Some(Categories(1, 2)));
        for level in ["s0", "s0:c1", "s0:c1,c1", "s0:c1,c1024", "s0:c1.c5"] {
            assert_eq!(Categories::of_level(level), None, "{level}");
        }
        let mut numbers = [7_u32, 3, 3, 7, 1024 + 5, 5, 9, 8].into_iter();
        let used = BTreeSet::from([Categories(3, 7)]);
        let pair =
            Categories::allocate(&used, || numbers.next().unwrap_or(0)).expect("a free pair");
        assert_eq!(pair.level(), "s0:c8,c9");
        assert_eq!(
            Categories::allocate(&used, || 1).expect("in order"),
            Categories(0, 1)
        );
        let all: BTreeSet<Categories> = (0..CATEGORIES)
            .flat_map(|a| (a + 1..CATEGORIES).map(move |b| Categories(a, b)))
            .collect();
        assert_eq!(all.len(), 523_776);
        assert!(matches!(
            Categories::allocate(&all, || 1),
            Err(Error::Exhausted)
        ));
    }

    #[test]
    fn dockers_options() {
        let contexts = Contexts::parse(
            "# policy\nprocess = \"system_u:system_r:svirt_lxc_net_t:s0\"\ncontent = \"x\"\n",
        );
        assert_eq!(contexts.file.kind, "container_file_t");
        let with = |options: &[&str]| labels(&contexts, options, || Ok(Categories(1, 2)));
        let plain = with(&[]).expect("no options").expect("not disabled");
        assert_eq!(
            plain.process.to_string(),
            "system_u:system_r:svirt_lxc_net_t:s0:c1,c2"
        );
        assert_eq!(
            plain.mount.to_string(),
            "system_u:object_r:container_file_t:s0:c1,c2"
        );
        let chosen = with(&["user:u", "type:t", "level:s0:c5,c6", "filetype:f"])
            .expect("good options")
            .expect("not disabled");
        assert_eq!(
            (
                chosen.process.to_string().as_str(),
                chosen.mount.to_string().as_str()
            ),
            ("u:system_r:t:s0:c5,c6", "u:object_r:f:s0:c5,c6")
        );
        assert_eq!(with(&["disable"]).expect("an option"), None);
        assert!(
            with(&["nonsense"])
                .expect_err("no value")
                .to_string()
                .starts_with("Bad label option \"nonsense\", valid options")
        );
    }

    #[test]
    fn volumes_are_relabelled_and_links_are_not_followed() {
        if !hull_testkit::skips::is_root() {
            hull_testkit::skip!("security.selinux can be written by root only");
            return;
        }
        let root = hull_testkit::TempRoot::on_disk("hull-selinux");
        let (volume, outside) = (root.folder("volume/deep"), root.file("outside", "x"));
        let inside = root.file("volume/deep/file", "x");
        std::os::unix::fs::symlink(&outside, volume.join("link")).expect("make a link");
        let label: Label = "system_u:object_r:container_file_t:s0:c1,c2"
            .parse()
            .expect("a label");
        let read = |path: &Path| {
            let mut value = [0_u8; 128];
            rustix::fs::lgetxattr(path, "security.selinux", &mut value)
                .map(|length| String::from_utf8_lossy(&value[..length]).into_owned())
        };
        relabel(&root.join("volume"), &label, false).expect("relabel");
        for path in [
            root.join("volume"),
            volume.clone(),
            inside,
            volume.join("link"),
        ] {
            assert_eq!(
                read(&path).expect("labelled"),
                label.to_string(),
                "{}",
                path.display()
            );
        }
        assert!(read(&outside).is_err(), "a link was followed");
        relabel(&root.join("volume"), &label, true).expect("relabel");
        assert_eq!(
            read(&volume).expect("labelled"),
            "system_u:object_r:container_file_t:s0"
        );
        assert!(matches!(
            relabel(Path::new("/usr"), &label, false),
            Err(Error::Protected(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_level_is_categories_or_none(text in "s0:c[0-9+]{0,5},c[0-9+]{0,5}|.{0,20}") {
            if let Some(categories) = Categories::of_level(&text) {
                proptest::prop_assert_eq!(Categories::of_level(&categories.level()), Some(categories));
            }
            let _ = Contexts::parse(&text);
        }
    }
}
