//! Any profile of the runtime spec: the compiled filter is one that the kernel takes, and says of any call what the profile says.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use hull_oci::runtime as oci;
use hull_security::seccomp::bpf::{self, SeccompData};
use hull_security::seccomp::{self, Arch, Error, syscalls};
use libfuzzer_sys::fuzz_target;

/// Calls with conditions worth meeting: pairs that share numbers between architectures, and the multiplexed ones.
const NAMES: [&str; 16] = [
    "read",
    "write",
    "clone",
    "clone3",
    "socket",
    "bind",
    "accept",
    "semop",
    "shmat",
    "socketcall",
    "ipc",
    "openat",
    "mmap2",
    "set_tls",
    "listns",
    "nonsense",
];

fn choose<T: Copy>(u: &mut Unstructured<'_>, from: &[T]) -> Result<T> {
    u.choose(from).copied()
}

fn argument(u: &mut Unstructured<'_>) -> Result<oci::SeccompArg> {
    let op = choose(u, oci::SeccompOp::ALL)?;
    Ok(oci::SeccompArg {
        index: u.int_in_range(0..=6)?,
        value: value(u)?,
        value_two: value(u)?,
        op,
    })
}

/// Often around the borders of 32-bit words.
fn value(u: &mut Unstructured<'_>) -> Result<u64> {
    let borders = [0, 1, 2, 0xffff_ffff, 1 << 32, (1 << 32) + 1, u64::MAX];
    if u.ratio(3, 4)? {
        choose(u, &borders)
    } else {
        u64::arbitrary(u)
    }
}

fn list<'a, T>(
    u: &mut Unstructured<'a>,
    most: usize,
    mut one: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=most)?;
    (0..count).map(|_| one(u)).collect()
}

fn syscall(u: &mut Unstructured<'_>) -> Result<oci::Syscall> {
    let names = list(u, 4, |u| Ok(choose(u, &NAMES)?.to_owned()))?;
    let errno_ret = if bool::arbitrary(u)? {
        Some(u.int_in_range(0..=5000)?)
    } else {
        None
    };
    Ok(oci::Syscall {
        names,
        action: choose(u, oci::SeccompAction::ALL)?,
        errno_ret,
        args: list(u, 4, argument)?,
    })
}

fn profile(u: &mut Unstructured<'_>) -> Result<oci::Seccomp> {
    Ok(oci::Seccomp {
        default_action: choose(u, oci::SeccompAction::ALL)?,
        default_errno_ret: if bool::arbitrary(u)? {
            Some(u.int_in_range(0..=5000)?)
        } else {
            None
        },
        architectures: list(u, 4, |u| choose(u, oci::Arch::ALL))?,
        flags: list(u, 3, |u| choose(u, oci::SeccompFlag::ALL))?,
        listener_path: None,
        listener_metadata: None,
        syscalls: list(u, 40, syscall)?,
    })
}

fn call(u: &mut Unstructured<'_>) -> Result<SeccompData> {
    let arch = choose(u, &Arch::ALL)?;
    let near = syscalls::number(arch, choose(u, &NAMES)?)
        .unwrap_or(400)
        .wrapping_add(u.int_in_range(0..=2)?)
        .wrapping_sub(1);
    let nr = if u.ratio(4, 5)? {
        near
    } else {
        u32::arbitrary(u)?
    };
    let audit = if u.ratio(9, 10)? {
        arch.audit()
    } else {
        u32::arbitrary(u)?
    };
    let mut args = [0; 6];
    for one in &mut args {
        *one = value(u)?;
    }
    Ok(SeccompData {
        nr,
        arch: audit,
        instruction_pointer: u64::arbitrary(u)?,
        args,
    })
}

fn judge(u: &mut Unstructured<'_>) -> Result<()> {
    let (profile, native) = (profile(u)?, choose(u, &[Arch::X86_64, Arch::Aarch64])?);
    let program = match seccomp::compile(&profile, native) {
        Ok(program) => program,
        Err(Error::Json(_) | Error::Contradiction(_) | Error::KernelVersion(_)) => {
            panic!("an error of files")
        }
        Err(_) => return Ok(()),
    };
    bpf::check(&program.instructions).expect("a program that the kernel takes");
    for data in list(u, 32, call)? {
        let (said, _) = bpf::run(&program.instructions, &data).expect("a program that ends");
        let meant =
            seccomp::evaluate(&profile, native, &data).expect("what compiles can be evaluated");
        assert_eq!(said, meant, "{data:x?} on {native:?} under {profile:?}");
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    // Too few bytes for a profile is no finding.
    let _ = judge(&mut Unstructured::new(bytes));
});
