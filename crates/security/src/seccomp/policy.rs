//! A profile of the runtime spec, with its names resolved to numbers: what the compiler writes a program from.
//!
//! The meaning follows libseccomp as runc drives it, because profiles are written against that:
//! - the arguments of one rule must all hold, unless two of them look at the same argument: then each is a rule of its own;
//! - several rules of one system call: one without arguments beats those with, and among those with, the first that holds wins;
//! - a rule whose action is the default action says nothing;
//! - names that no kernel here knows are ignored;
//! - numbers above the newest system call that the profile names fail with ENOSYS, so that a C library which tries a newer call
//!   falls back, instead of taking the default EPERM for an answer (runc's libseccomp patch; bugs.debian.org/cgi-bin/bugreport.cgi?bug=965074);
//! - 32-bit x86 socket and System V IPC calls without arguments also match through `socketcall` and `ipc`.

use std::collections::BTreeMap;

use hull_oci::runtime as oci;

use super::syscalls;
use super::{Arch, Error};

/// Return values of linux/seccomp.h.
pub(super) mod ret {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `MAX_ERRNO`: what the kernel can return, and the most that it keeps of `SECCOMP_RET_DATA` for an errno.
const ERRNO_MAX: u32 = 4095;

/// A profile for one machine.
#[derive(Debug)]
pub(super) struct Policy {
    /// For calls that no rule decides.
    pub default: u32,
    /// For calls newer than the profile.
    pub unknown: u32,
    /// For calls of an architecture that the profile does not name.
    pub bad_arch: u32,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// One per architecture, the native one first.
    pub tables: Vec<Table>,
}

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Table {
    pub arch: Arch,
    /// The highest number that the profile names; `None` when newer calls are not told apart.
    pub newest: Option<u32>,
    /// By number.
    pub calls: BTreeMap<u32, Call>,
}

/// The rules of one system call.
#[derive(Debug, Default, Clone)]
pub(super) struct Call {
    /// The value of a rule without conditions.
    pub always: Option<u32>,
    /// Rules with conditions; the first whose conditions all hold decides.
    pub rules: Vec<Rule>,
}

/// Conditions and what follows from them.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub conditions: Vec<Condition>,
    pub value: u32,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    /// 0 to 5.
    pub index: u8,
    pub operator: Operator,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Operator {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Masked { mask: u64, value: u64 },
}

impl Policy {
    /// Checks a profile and resolves its names.
    pub(super) fn new(profile: &oci::Seccomp, native: Arch) -> Result<Policy, Error> {
        let default = action(
            profile.default_action,
            profile.default_errno_ret,
            "defaultErrnoRet",
        )?;
        if profile.default_action == oci::SeccompAction::Notify {
            return Err(Error::NotifyByDefault);
        }
        let tells_newer = !permissive(profile.default_action) && default != (ret::ERRNO | ENOSYS);
        let mut tables: Vec<Table> = Vec::new();
        for arch in std::iter::once(native).chain(
            profile
                .architectures
                .iter()
                .filter_map(|&named| Arch::from_oci(named, native)),
        ) {
            if !tables.iter().any(|table| table.arch == arch) {
                tables.push(Table {
                    arch,
                    newest: None,
                    calls: BTreeMap::new(),
                });
            }
        }
        for (index, syscall) in profile.syscalls.iter().enumerate() {
            add(&mut tables, syscall, index, default)?;
        }
        for table in &mut tables {
            if !tells_newer {
                table.newest = None;
            }
            if let Some(newest) = table.newest {
                // So that the range of unnamed numbers that begins here is the newer ones and nothing else.
                table.calls.entry(newest).or_insert(Call {
                    always: Some(default),
                    rules: Vec::new(),
                });
            }
        }
        Ok(Policy {
            default,
            unknown: ret::ERRNO | ENOSYS,
            bad_arch: ret::KILL_PROCESS,
            flags: flags(profile),
            tables,
        })
    }
}

/// Adds one rule of the profile to every table that knows one of its names.
fn add(
    tables: &mut [Table],
    syscall: &oci::Syscall,
    index: usize,
    default: u32,
) -> Result<(), Error> {
    let value = action(
        syscall.action,
        syscall.errno_ret,
        &format!("syscalls[{index}].errnoRet"),
    )?;
    let rules = conditions(syscall, index)?;
    for name in &syscall.names {
        if name.is_empty() {
            return Err(Error::EmptyName { rule: index });
        }
        // The listener could never be told: libseccomp and runc refuse it too.
        if syscall.action == oci::SeccompAction::Notify && name == "write" {
            return Err(Error::NotifyWrite { rule: index });
        }
        for table in tables.iter_mut() {
            if let Some(number) = syscalls::number(table.arch, name) {
                table.newest = table.newest.max(Some(number));
                if value != default {
                    table.calls.entry(number).or_default().add(&rules, value);
                }
            }
            if table.arch == Arch::X86
                && syscall.args.is_empty()
                && let Some((number, operation)) = multiplexed(name)
            {
                // The profile speaks of the multiplexer too: the call that asks for another operation is not a newer one.
                table.newest = table.newest.max(Some(number));
                if value == default {
                    continue;
                }
                let condition = Condition {
                    index: 0,
                    operator: Operator::Equal(operation),
                };
                table
                    .calls
                    .entry(number)
                    .or_default()
                    .add(&[vec![condition]], value);
            }
        }
    }
    Ok(())
}

impl Call {
    fn add(&mut self, rules: &[Vec<Condition>], value: u32) {
        if rules.is_empty() {
            self.always.get_or_insert(value);
        }
        self.rules.extend(rules.iter().map(|conditions| Rule {
            conditions: conditions.clone(),
            value,
        }));
    }
}

/// The conditions of a rule, as alternatives of which each must hold whole.
fn conditions(syscall: &oci::Syscall, rule: usize) -> Result<Vec<Vec<Condition>>, Error> {
    let mut all = Vec::with_capacity(syscall.args.len());
    let mut repeated = false;
    for (arg, wanted) in syscall.args.iter().enumerate() {
        let index = u8::try_from(wanted.index).ok().filter(|index| *index < 6);
        let index = index.ok_or(Error::ArgumentIndex {
            rule,
            arg,
            index: wanted.index,
        })?;
        repeated |= all
            .iter()
            .any(|condition: &Condition| condition.index == index);
        let value = wanted.value;
        let operator = match wanted.op {
            oci::SeccompOp::Eq => Operator::Equal(value),
            oci::SeccompOp::Ne => Operator::NotEqual(value),
            oci::SeccompOp::Lt => Operator::Less(value),
            oci::SeccompOp::Le => Operator::LessOrEqual(value),
            oci::SeccompOp::Gt => Operator::Greater(value),
            oci::SeccompOp::Ge => Operator::GreaterOrEqual(value),
            oci::SeccompOp::MaskedEq => Operator::Masked {
                mask: value,
                value: wanted.value_two,
            },
        };
        all.push(Condition { index, operator });
    }
    Ok(match all.len() {
        0 => Vec::new(),
        _ if repeated => all.into_iter().map(|condition| vec![condition]).collect(),
        _ => vec![all],
    })
}

/// The value that a filter returns for an action. `data` is the errno, or what the tracer is told.
pub(super) fn action(
    action: oci::SeccompAction,
    data: Option<u32>,
    field: &str,
) -> Result<u32, Error> {
    use oci::SeccompAction as Action;
    let limited = |most: u32| match data {
        Some(data) if data > most => Err(Error::Data {
            field: field.to_owned(),
            value: data,
            most,
        }),
        Some(data) => Ok(data),
        None => Ok(EPERM),
    };
    Ok(match action {
        Action::Kill | Action::KillThread => ret::KILL_THREAD,
        Action::KillProcess => ret::KILL_PROCESS,
        Action::Trap => ret::TRAP,
        Action::Errno => ret::ERRNO | limited(ERRNO_MAX)?,
        Action::Trace => ret::TRACE | limited(0xffff)?,
        Action::Allow => ret::ALLOW,
        Action::Log => ret::LOG,
        Action::Notify => ret::USER_NOTIF,
    })
}

/// Default actions under which a new system call runs or is somebody's to judge: those are left to them.
fn permissive(action: oci::SeccompAction) -> bool {
    use oci::SeccompAction as Action;
    match action {
        Action::Allow | Action::Log | Action::Trace => true,
        Action::Kill
        | Action::KillProcess
        | Action::KillThread
        | Action::Trap
        | Action::Errno
        | Action::Notify => false,
    }
}

/// `SECCOMP_FILTER_FLAG_*`. A profile without flags gets SPEC_ALLOW as runc gives it: the mitigation costs every system call, and
/// Linux itself stopped implying it with 5.16.
fn flags(profile: &oci::Seccomp) -> u64 {
    use oci::SeccompFlag as Flag;
    let bit = |flag: &Flag| match flag {
        Flag::Tsync => 1_u64 << 0,
        Flag::Log => 1 << 1,
        Flag::SpecAllow => 1 << 2,
        Flag::WaitKillableRecv => 1 << 5,
    };
    if profile.flags.is_empty() {
        bit(&Flag::SpecAllow)
    } else {
        profile.flags.iter().map(bit).fold(0, |all, one| all | one)
    }
}

/// Where 32-bit x86 has a system call inside another: the number of `socketcall` or `ipc` and the first argument that selects it
/// (linux/net.h, linux/ipc.h). Their further arguments lie behind a pointer, which a filter cannot follow.
pub(super) fn multiplexed(name: &str) -> Option<(u32, u64)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    const SOCKET_CALLS: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC_CALLS: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(position) = SOCKET_CALLS.iter().position(|known| *known == name) {
        return Some((SOCKETCALL, position as u64 + 1));
    }
    IPC_CALLS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, operation)| (IPC, *operation))
}
