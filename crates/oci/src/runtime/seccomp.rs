//! The system call filter (`config-linux.md`, "Seccomp"). Values are libseccomp's names.

use serde::{Deserialize, Serialize};

use crate::go;

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// For calls that no rule names.
    pub default_action: SeccompAction,
    /// The errno of that action; EPERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Further architectures than the native one.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub architectures: Vec<Arch>,
    /// Flags of `seccomp(2)`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<SeccompFlag>,
    /// The socket that gets the notify descriptor.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub listener_path: Option<String>,
    /// Opaque data sent along with it.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub syscalls: Vec<Syscall>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscall {
    /// The calls, by name.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// The errno of ERRNO, or the message of TRACE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions that must all hold.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// The operand; for MASKED_EQ the mask.
    pub value: u64,
    /// For MASKED_EQ the value compared with.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub value_two: u64,
    /// The comparison.
    pub op: SeccompOp,
}

go::closed_enum! {
    /// What happens to a call, `seccomp(2)`.
    pub enum SeccompAction in "linux.seccomp action" {
        /// Kill the thread (older name).
        Kill = "SCMP_ACT_KILL",
        /// Kill the process.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// Kill the thread.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// SIGSYS.
        Trap = "SCMP_ACT_TRAP",
        /// Fail with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// Ask the tracer.
        Trace = "SCMP_ACT_TRACE",
        /// Let it pass.
        Allow = "SCMP_ACT_ALLOW",
        /// Let it pass and log it.
        Log = "SCMP_ACT_LOG",
        /// Ask the listener.
        Notify = "SCMP_ACT_NOTIFY",
    }
}

go::closed_enum! {
    /// A comparison with an argument.
    pub enum SeccompOp in "linux.seccomp.syscalls[].args[].op" {
        /// Not equal.
        Ne = "SCMP_CMP_NE",
        /// Less.
        Lt = "SCMP_CMP_LT",
        /// Less or equal.
        Le = "SCMP_CMP_LE",
        /// Equal.
        Eq = "SCMP_CMP_EQ",
        /// Greater or equal.
        Ge = "SCMP_CMP_GE",
        /// Greater.
        Gt = "SCMP_CMP_GT",
        /// Equal under a mask.
        MaskedEq = "SCMP_CMP_MASKED_EQ",
    }
}

go::closed_enum! {
    /// A flag of `seccomp(2)`.
    pub enum SeccompFlag in "linux.seccomp.flags[]" {
        /// All threads.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// Log what is not allowed.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// Leave Speculative Store Bypass mitigation off.
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A notified call is interrupted by fatal signals only.
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

go::closed_enum! {
    /// A system call architecture.
    pub enum Arch in "linux.seccomp.architectures[]" {
        /// The running one.
        Native = "SCMP_ARCH_NATIVE",
        /// i386.
        X86 = "SCMP_ARCH_X86",
        /// x86-64.
        X86_64 = "SCMP_ARCH_X86_64",
        /// x86-64 with 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit ARM.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit ARM.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// MIPS, big endian, o32.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS, big endian, n64.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS, big endian, n32.
        Mips64n32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS, little endian, o32.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS, little endian, n64.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS, little endian, n32.
        Mipsel64n32 = "SCMP_ARCH_MIPSEL64N32",
        /// 32-bit POWER.
        Ppc = "SCMP_ARCH_PPC",
        /// 64-bit POWER, big endian.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// 64-bit POWER, little endian.
        Ppc64le = "SCMP_ARCH_PPC64LE",
        /// 31-bit s390.
        S390 = "SCMP_ARCH_S390",
        /// 64-bit s390.
        S390x = "SCMP_ARCH_S390X",
        /// 32-bit PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// 64-bit PA-RISC.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// 64-bit RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
        /// 64-bit LoongArch.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// SuperH, little endian.
        Sh = "SCMP_ARCH_SH",
        /// SuperH, big endian.
        Sheb = "SCMP_ARCH_SHEB",
    }
}
