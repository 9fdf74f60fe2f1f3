//! Docker's profiles: rules that apply only with a capability, an architecture or a kernel, and the files that hold them.

use std::collections::BTreeSet;

use hull_oci::runtime as oci;
use serde::Deserialize;

use super::{Arch, Error};
use crate::caps::Cap;

/// The version of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

impl Kernel {
    /// The running one, by uname(2). A release that cannot be read counts as 0.0, which has the fewest rights.
    pub fn running() -> Kernel {
        let uname = rustix::system::uname();
        Kernel::parse_release(&uname.release().to_string_lossy())
            .unwrap_or(Kernel { major: 0, minor: 0 })
    }

    /// The first two numbers of a release such as `6.12.107+deb12-cloud-amd64`.
    pub fn parse_release(release: &str) -> Option<Kernel> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Kernel {
            major: next()?,
            minor: next()?,
        })
    }

    /// `minKernel` of a profile: exactly two numbers.
    fn parse_exact(text: &str) -> Result<Kernel, Error> {
        let parsed = text.split_once('.').and_then(|(major, minor)| {
            Some(Kernel {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        });
        parsed
            .filter(|kernel| kernel.major > 0)
            .ok_or_else(|| Error::KernelVersion(text.to_owned()))
    }
}

/// A profile with conditions.
#[derive(Debug)]
pub(super) struct Profile {
    base: oci::Seccomp,
    /// Which other architectures go with the native one.
    arch_map: Vec<(oci::Arch, Vec<oci::Arch>)>,
    pub(super) rules: Vec<Rule>,
}

/// A rule with conditions.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) syscall: oci::Syscall,
    includes: Conditions,
    excludes: Conditions,
}

/// Conditions of `includes` (all must hold) or `excludes` (none may hold). Empty ones say nothing.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub arches: Vec<String>,
    pub caps: Vec<String>,
    pub min_kernel: Option<Kernel>,
}

impl Conditions {
    pub fn arches(names: &[&str]) -> Conditions {
        Conditions {
            arches: names.iter().map(|&name| name.to_owned()).collect(),
            ..Conditions::default()
        }
    }

    pub fn cap(cap: Cap) -> Conditions {
        Conditions {
            caps: vec![cap.name().to_owned()],
            ..Conditions::default()
        }
    }

    fn include(&self, native: Arch, caps: &BTreeSet<&str>, kernel: Kernel) -> bool {
        (self.arches.is_empty() || self.arches.iter().any(|arch| arch == native.docker_name()))
            && self.caps.iter().all(|cap| caps.contains(cap.as_str()))
            && self.min_kernel.is_none_or(|least| kernel >= least)
    }

    fn exclude(&self, native: Arch, caps: &BTreeSet<&str>, kernel: Kernel) -> bool {
        self.arches.iter().any(|arch| arch == native.docker_name())
            || self.caps.iter().any(|cap| caps.contains(cap.as_str()))
            || self.min_kernel.is_some_and(|least| kernel >= least)
    }
}

impl Rule {
    pub fn allow(names: Vec<&str>) -> Rule {
        Rule::new(names, oci::SeccompAction::Allow, None)
    }

    pub fn errno(names: Vec<&str>, errno: u32) -> Rule {
        Rule::new(names, oci::SeccompAction::Errno, Some(errno))
    }

    fn new(names: Vec<&str>, action: oci::SeccompAction, errno_ret: Option<u32>) -> Rule {
        let names = names.into_iter().map(str::to_owned).collect();
        let syscall = oci::Syscall {
            names,
            action,
            errno_ret,
            args: Vec::new(),
        };
        Rule {
            syscall,
            includes: Conditions::default(),
            excludes: Conditions::default(),
        }
    }

    pub fn on_argument(
        mut self,
        index: u32,
        op: oci::SeccompOp,
        value: u64,
        value_two: u64,
    ) -> Rule {
        self.syscall.args.push(oci::SeccompArg {
            index,
            value,
            value_two,
            op,
        });
        self
    }

    pub fn including(self, includes: Conditions) -> Rule {
        Rule { includes, ..self }
    }

    pub fn excluding(self, excludes: Conditions) -> Rule {
        Rule { excludes, ..self }
    }
}

impl Profile {
    /// Docker's defaults around `rules`: everything else fails with EPERM.
    pub fn docker(rules: Vec<Rule>) -> Profile {
        let arch_map = Arch::ALL
            .iter()
            .filter(|arch| !arch.companions().is_empty());
        let arch_map = arch_map
            .map(|arch| {
                (
                    arch.to_oci(),
                    arch.companions()
                        .iter()
                        .map(|other| other.to_oci())
                        .collect(),
                )
            })
            .collect();
        let base = oci::Seccomp {
            default_action: oci::SeccompAction::Errno,
            default_errno_ret: Some(1),
            architectures: Vec::new(),
            flags: Vec::new(),
            listener_path: None,
            listener_metadata: None,
            syscalls: Vec::new(),
        };
        Profile {
            base,
            arch_map,
            rules,
        }
    }

    /// The rules that hold for these capabilities on this machine, in the runtime spec's form.
    pub fn resolve(self, caps: &BTreeSet<Cap>, kernel: Kernel, native: Arch) -> oci::Seccomp {
        let caps: BTreeSet<&str> = caps.iter().map(|cap| cap.name()).collect();
        let mut seccomp = self.base;
        if let Some((arch, others)) = self
            .arch_map
            .into_iter()
            .find(|(arch, _)| *arch == native.to_oci())
        {
            seccomp.architectures.push(arch);
            seccomp.architectures.extend(others);
        }
        let holding = |rule: &Rule| {
            !rule.excludes.exclude(native, &caps, kernel)
                && rule.includes.include(native, &caps, kernel)
        };
        seccomp.syscalls = self
            .rules
            .into_iter()
            .filter(holding)
            .map(|rule| rule.syscall)
            .collect();
        seccomp
    }
}

/// A profile file's top level: the runtime spec's, but for the rules, and with `archMap`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileProfile {
    #[serde(default)]
    default_action: Option<oci::SeccompAction>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<oci::Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<FileArchitecture>>,
    #[serde(default)]
    flags: Option<Vec<oci::SeccompFlag>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<FileRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArchitecture {
    architecture: oci::Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<oci::Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: oci::SeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<oci::SeccompArg>>,
    #[serde(default)]
    includes: Option<FileConditions>,
    #[serde(default)]
    excludes: Option<FileConditions>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileConditions {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl FileConditions {
    fn read(self) -> Result<Conditions, Error> {
        let min_kernel = self
            .min_kernel
            .as_deref()
            .map(Kernel::parse_exact)
            .transpose()?;
        Ok(Conditions {
            arches: self.arches.unwrap_or_default(),
            caps: self.caps.unwrap_or_default(),
            min_kernel,
        })
    }
}

impl FileRule {
    fn read(self) -> Result<Rule, Error> {
        let names = match (
            self.name.filter(|name| !name.is_empty()),
            self.names.unwrap_or_default(),
        ) {
            (Some(_), names) if !names.is_empty() => {
                return Err(Error::Contradiction(
                    "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            (Some(name), _) => vec![name],
            (None, names) => names,
        };
        let syscall = oci::Syscall {
            names,
            action: self.action,
            errno_ret: self.errno_ret,
            args: self.args.unwrap_or_default(),
        };
        Ok(Rule {
            syscall,
            includes: self.includes.unwrap_or_default().read()?,
            excludes: self.excludes.unwrap_or_default().read()?,
        })
    }
}

/// Reads the file given by `--security-opt seccomp=<file>`, and keeps the rules that hold for `caps` (the bounding set) and `kernel`.
///
/// `None` for a profile that says nothing at all, with which Docker turns the filter off.
pub fn from_docker_json(
    text: &str,
    caps: &BTreeSet<Cap>,
    kernel: Kernel,
) -> Result<Option<oci::Seccomp>, Error> {
    let native = Arch::native().unwrap_or(Arch::X86_64);
    Ok(read(text)?.map(|profile| profile.resolve(caps, kernel, native)))
}

pub(super) fn read(text: &str) -> Result<Option<Profile>, Error> {
    let file: FileProfile = serde_json::from_str(text).map_err(Error::Json)?;
    let (architectures, arch_map) = (
        file.architectures.unwrap_or_default(),
        file.arch_map.unwrap_or_default(),
    );
    if !architectures.is_empty() && !arch_map.is_empty() {
        return Err(Error::Contradiction(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    let rules = file
        .syscalls
        .unwrap_or_default()
        .into_iter()
        .map(FileRule::read)
        .collect::<Result<Vec<_>, _>>()?;
    let Some(default_action) = file.default_action else {
        return if rules.is_empty() {
            Ok(None)
        } else {
            Err(Error::Contradiction(
                "the seccomp profile has no 'defaultAction'",
            ))
        };
    };
    let base = oci::Seccomp {
        default_action,
        default_errno_ret: file.default_errno_ret,
        architectures,
        flags: file.flags.unwrap_or_default(),
        listener_path: file.listener_path.filter(|path| !path.is_empty()),
        listener_metadata: file.listener_metadata.filter(|text| !text.is_empty()),
        syscalls: Vec::new(),
    };
    let arch_map = arch_map
        .into_iter()
        .map(|entry| {
            (
                entry.architecture,
                entry.sub_architectures.unwrap_or_default(),
            )
        })
        .collect();
    Ok(Some(Profile {
        base,
        arch_map,
        rules,
    }))
}
