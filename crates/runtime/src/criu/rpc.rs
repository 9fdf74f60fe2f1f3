//! criu's requests and responses (criu, images/rpc.proto): the fields that the runtime sets and reads.

use std::path::PathBuf;

use super::protobuf::{Malformed, Value, Writer, fields};

/// Kinds of request; a response repeats its request's (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    fn from_number(number: i32) -> Option<Self> {
        let all = [
            Self::Dump,
            Self::Restore,
            Self::PreDump,
            Self::Notify,
            Self::FeatureCheck,
            Self::Version,
        ];
        all.into_iter().find(|kind| *kind as i32 == number)
    }

    /// The name in criu's protocol, which runc's messages show.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::Restore => "RESTORE",
            Self::PreDump => "PRE_DUMP",
            Self::Notify => "NOTIFY",
            Self::FeatureCheck => "FEATURE_CHECK",
            Self::Version => "VERSION",
        }
    }
}

/// What criu does with the cgroups of a tree (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManageCgroups {
    /// criu's own choice: soft.
    #[default]
    Default,
    /// Restores what it must make itself.
    Soft,
    /// Restores all, also of what exists.
    Full,
    /// Restores all; what exists is an error.
    Strict,
    /// Leaves them alone.
    Ignore,
}

impl ManageCgroups {
    fn number(self) -> u64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
            Self::Default => 6,
        }
    }
}

/// `criu_opts`. Descriptors are criu's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Opts {
    pub images_dir_fd: i32,
    pub work_dir_fd: Option<i32>,
    pub pid: Option<i32>,
    pub leave_running: bool,
    pub ext_unix_sk: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub evasive_devices: bool,
    pub rst_sibling: bool,
    pub log_file: String,
    pub root: Option<PathBuf>,
    pub parent: Option<String>,
    pub page_server: Option<(String, u16)>,
    pub cgroups: ManageCgroups,
    /// Controllers of a hierarchy, and where the tree is in it.
    pub cgroup_roots: Vec<(String, String)>,
    pub freeze_cgroup: Option<PathBuf>,
    /// `CLONE_NEW*` of namespaces that are made, without what was in them.
    pub empty_ns: u64,
    /// At dump: mount point and name. At restore: name and source.
    pub ext_mounts: Vec<(PathBuf, PathBuf)>,
    pub external: Vec<String>,
    /// What a descriptor of criu's own stands for.
    pub inherit: Vec<(String, i32)>,
    /// Kind and file of namespaces to enter.
    pub join_ns: Vec<(String, PathBuf)>,
    pub config_file: Option<String>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// Logged by criu: everything but debug output (criu(8): 4 is debug; runc asks for it too, the log is what is left
/// of a failure).
const LOG_LEVEL: i32 = 4;

impl Opts {
    fn write(&self, w: &mut Writer) {
        w.int32(1, self.images_dir_fd);
        if let Some(pid) = self.pid {
            w.int32(2, pid);
        }
        for (field, value) in [
            (3, self.leave_running),
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (6, self.evasive_devices),
            (7, self.shell_job),
            (8, self.file_locks),
            (12, true), // notify_scripts
            (15, self.parent.is_some()),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (24, true), // manage_cgroups, for criu before 2.0's mode
            (26, self.rst_sibling),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
            (50, true), // orphan_pts_master
        ] {
            w.flag(field, value);
        }
        w.int32(9, LOG_LEVEL);
        w.bytes(10, &self.log_file);
        if let Some((address, port)) = &self.page_server {
            w.message(11, |m| {
                m.bytes(1, address);
                m.int32(2, i32::from(*port));
            });
        }
        self.write_texts(w);
        if let Some(fd) = self.work_dir_fd {
            w.int32(17, fd);
        }
        w.number(34, self.cgroups.number());
        w.number(38, self.empty_ns);
        self.write_lists(w);
    }

    fn write_texts(&self, w: &mut Writer) {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        for (field, value) in [
            (13, path(&self.root)),
            (14, self.parent.clone()),
            (44, path(&self.freeze_cgroup)),
            (51, self.config_file.clone()),
            (53, self.lsm_profile.clone()),
            (63, self.lsm_mount_context.clone()),
        ] {
            if let Some(value) = value {
                w.bytes(field, value);
            }
        }
    }

    fn write_lists(&self, w: &mut Writer) {
        for (key, value) in &self.ext_mounts {
            w.message(23, |m| {
                m.bytes(1, key.as_os_str().as_encoded_bytes());
                m.bytes(2, value.as_os_str().as_encoded_bytes());
            });
        }
        for (controllers, path) in &self.cgroup_roots {
            w.message(25, |m| {
                m.bytes(1, controllers);
                m.bytes(2, path);
            });
        }
        for (key, fd) in &self.inherit {
            w.message(27, |m| {
                m.bytes(1, key);
                m.int32(2, *fd);
            });
        }
        for external in &self.external {
            w.bytes(37, external);
        }
        for (kind, file) in &self.join_ns {
            w.message(39, |m| {
                m.bytes(1, kind);
                m.bytes(2, file.as_os_str().as_encoded_bytes());
            });
        }
    }
}

/// What criu and the kernel can do beyond the ordinary (`criu_features`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Memory changes are tracked: pre-dumps.
    pub mem_track: bool,
    /// Pages can be sent after the processes run: userfaultfd(2).
    pub lazy_pages: bool,
}

/// `criu_req`.
pub(super) fn request(kind: Kind, opts: Option<&Opts>) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(1, kind as u64);
    if let Some(opts) = opts {
        w.message(2, |inner| opts.write(inner));
    }
    if kind == Kind::FeatureCheck {
        w.message(5, |inner| {
            inner.flag(1, true);
            inner.flag(2, true);
        });
    }
    w.finish()
}

/// The answer to a notification.
pub(super) fn notified(success: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(1, Kind::Notify as u64);
    // Written also when false: absent would be taken for a broken client.
    w.number(3, u64::from(success));
    w.finish()
}

/// `criu_resp`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub kind: Option<Kind>,
    pub success: bool,
    /// Init, after a restore.
    pub restored_pid: Option<i32>,
    /// Point and process of a notification.
    pub script: String,
    pub script_pid: i32,
    pub errno: i32,
    pub features: Features,
    pub version: Option<Version>,
}

impl Response {
    /// Reads one.
    pub(super) fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut response = Self::default();
        for field in fields(message) {
            let (number, value) = field?;
            match number {
                1 => response.kind = Kind::from_number(value.int32()?),
                2 => response.success = value.flag()?,
                4 => each(value, |number, value| {
                    if number == 1 {
                        response.restored_pid = Some(value.int32()?);
                    }
                    Ok(())
                })?,
                5 => each(value, |number, value| {
                    match number {
                        1 => response.script = value.text()?,
                        2 => response.script_pid = value.int32()?,
                        _ => {}
                    }
                    Ok(())
                })?,
                7 => response.errno = value.int32()?,
                8 => each(value, |number, value| {
                    match number {
                        1 => response.features.mem_track = value.flag()?,
                        2 => response.features.lazy_pages = value.flag()?,
                        _ => {}
                    }
                    Ok(())
                })?,
                10 => response.version = Some(Version::read(value)?),
                _ => {}
            }
        }
        Ok(response)
    }
}

fn each<'a>(
    message: Value<'a>,
    mut take: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for field in fields(message.bytes()?) {
        let (number, value) = field?;
        take(number, value)?;
    }
    Ok(())
}

/// A version of criu.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 4 of 4.1.1.
    pub major: i32,
    /// The first 1 of 4.1.1.
    pub minor: i32,
    /// The last.
    pub patch: i32,
}

impl Version {
    fn read(message: Value<'_>) -> Result<Self, Malformed> {
        let mut version = Self::default();
        each(message, |number, value| {
            match number {
                1 => version.major = value.int32()?,
                2 => version.minor = value.int32()?,
                4 => version.patch = value.int32()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(version)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch != 0 {
            write!(f, ".{}", self.patch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dump_request_s_bytes() {
        let opts = Opts {
            images_dir_fd: 5,
            pid: Some(42),
            leave_running: true,
            log_file: "dump.log".into(),
            ext_mounts: vec![("/etc/hosts".into(), "/hosts".into())],
            external: vec!["net[7]:extRootNetNS".into()],
            ..Opts::default()
        };
        let message = request(Kind::Dump, Some(&opts));
        let text = String::from_utf8_lossy(&message);
        let outer: Vec<_> = fields(&message).map(Result::unwrap).collect();
        assert_eq!(outer[0], (1, Value::Number(1)));
        let inner: Vec<_> = fields(outer[1].1.bytes().unwrap())
            .map(Result::unwrap)
            .collect();
        let of = |wanted: u32| inner.iter().filter(move |(n, _)| *n == wanted);
        assert_eq!(of(2).next().unwrap().1, Value::Number(42));
        assert_eq!(of(3).count(), 1);
        assert_eq!(of(26).count(), 0);
        assert_eq!(
            of(37).next().unwrap().1.text().unwrap(),
            "net[7]:extRootNetNS"
        );
        assert!(text.contains("\n\n/etc/hosts\u{12}\u{6}/hosts"), "{text:?}");
    }

    #[test]
    fn a_response_is_read() {
        let mut w = Writer::default();
        w.number(1, 6);
        w.flag(2, true);
        w.message(5, |m| {
            m.bytes(1, "post-restore");
            m.int32(2, 99);
        });
        w.int32(7, -1);
        // A field of a later protocol.
        w.bytes(77, "?");
        let response = Response::read(&w.finish()).unwrap();
        assert_eq!(response.kind, Some(Kind::Notify));
        assert_eq!(
            (response.script.as_str(), response.script_pid),
            ("post-restore", 99)
        );
        assert_eq!(response.errno, -1);
        Response::read(&[0x28, 1]).unwrap_err();
    }

    #[test]
    fn versions_have_an_order_and_a_name() {
        let mut w = Writer::default();
        w.flag(2, true);
        w.message(10, |m| {
            m.int32(1, 4);
            m.int32(2, 1);
            m.int32(4, 1);
        });
        let version = Response::read(&w.finish()).unwrap().version.unwrap();
        assert_eq!(version.to_string(), "4.1.1");
        let old = Version {
            major: 3,
            minor: 17,
            patch: 1,
        };
        assert!(old < version);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Response::read(&bytes);
        }
    }
}
