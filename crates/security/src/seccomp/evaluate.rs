//! What a profile says about one system call, worked out from the profile itself, call by call and as slowly as it is simple.
//!
//! The compiler is judged by this in tests and in the fuzz target; it shares no code with it but the tables of names.

use hull_oci::runtime as oci;

use super::bpf::SeccompData;
use super::policy::{action, multiplexed};
use super::syscalls::{self, X32_BIT};
use super::{Arch, Error};

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO_ENOSYS: u32 = 0x0005_0000 | 38;

/// The value that a filter for `profile` has to return for `data` on a machine of architecture `native`.
pub fn evaluate(profile: &oci::Seccomp, native: Arch, data: &SeccompData) -> Result<u32, Error> {
    let named = profile
        .architectures
        .iter()
        .filter_map(|&arch| Arch::from_oci(arch, native));
    let known: Vec<Arch> = std::iter::once(native).chain(named).collect();
    let Some(arch) = Arch::of_call(data.arch, data.nr).filter(|arch| known.contains(arch)) else {
        return Ok(KILL_PROCESS);
    };
    let default = action(
        profile.default_action,
        profile.default_errno_ret,
        "defaultErrnoRet",
    )?;
    let mut conditional = None;
    for syscall in &profile.syscalls {
        let value = action(syscall.action, syscall.errno_ret, "errnoRet")?;
        if value == default || !names(syscall, arch, data) {
            continue;
        }
        if syscall.args.is_empty() && is_direct(syscall, arch, data.nr) {
            return Ok(value);
        }
        if conditional.is_none() && (syscall.args.is_empty() || holds(&syscall.args, arch, data)) {
            conditional = Some(value);
        }
    }
    if let Some(value) = conditional {
        return Ok(value);
    }
    use oci::SeccompAction::{Allow, Log, Trace};
    let newest = profile
        .syscalls
        .iter()
        .flat_map(|syscall| syscall.names.iter().map(move |name| (syscall, name)))
        .flat_map(|(syscall, name)| {
            let inside = arch == Arch::X86 && syscall.args.is_empty();
            let through = multiplexed(name)
                .filter(|_| inside)
                .map(|(number, _)| number);
            [syscalls::number(arch, name), through]
        })
        .flatten()
        .max();
    // -1 on x86_64 counts as a number of x86_64, the greatest.
    let newer =
        newest.is_some_and(|newest| data.nr > newest && (arch != Arch::X32 || newest >= X32_BIT));
    if newer && !matches!(profile.default_action, Allow | Log | Trace) {
        return Ok(ERRNO_ENOSYS);
    }
    Ok(default)
}

fn is_direct(syscall: &oci::Syscall, arch: Arch, number: u32) -> bool {
    syscall
        .names
        .iter()
        .any(|name| syscalls::number(arch, name) == Some(number))
}

/// Whether a rule speaks of this call at all, arguments aside except the one that selects from `socketcall` and `ipc`.
fn names(syscall: &oci::Syscall, arch: Arch, data: &SeccompData) -> bool {
    let inside = |name: &String| {
        arch == Arch::X86
            && syscall.args.is_empty()
            && multiplexed(name) == Some((data.nr, u64::from(data.args[0] as u32)))
    };
    is_direct(syscall, arch, data.nr) || syscall.names.iter().any(inside)
}

fn holds(args: &[oci::SeccompArg], arch: Arch, data: &SeccompData) -> bool {
    let width = if arch.is_64_bit() {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let one = |arg: &oci::SeccompArg| {
        let actual = data.args[arg.index as usize] & width;
        let (value, value_two) = (arg.value & width, arg.value_two & width);
        match arg.op {
            oci::SeccompOp::Eq => actual == value,
            oci::SeccompOp::Ne => actual != value,
            oci::SeccompOp::Lt => actual < value,
            oci::SeccompOp::Le => actual <= value,
            oci::SeccompOp::Gt => actual > value,
            oci::SeccompOp::Ge => actual >= value,
            oci::SeccompOp::MaskedEq => actual & value == value_two & value,
        }
    };
    let repeated = args
        .iter()
        .enumerate()
        .any(|(at, arg)| args[..at].iter().any(|earlier| earlier.index == arg.index));
    if repeated {
        args.iter().any(one)
    } else {
        args.iter().all(one)
    }
}
