//! The architectures that a filter can speak of, and their names in the OCI spec, in Docker's profiles and in the kernel.

use hull_oci::runtime as oci;

use super::syscalls::X32_BIT;

/// A system call convention whose numbers this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit pointers on 64-bit x86; shares its `AUDIT_ARCH` with [`Arch::X86_64`], told apart by a bit of the number.
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 5] = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];

    /// The architecture that this program was built for, if it is one whose system calls are known.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "x86" => Some(Arch::X86),
            "aarch64" => Some(Arch::Aarch64),
            "arm" => Some(Arch::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, as `seccomp_data.arch` shows it.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// The convention of one call, from what the kernel shows of it. x32's bit is not one in -1, which means "no call".
    pub fn of_call(audit: u32, number: u32) -> Option<Arch> {
        match audit {
            0xc000_003e if number >= X32_BIT && number != u32::MAX => Some(Arch::X32),
            0xc000_003e => Some(Arch::X86_64),
            0x4000_0003 => Some(Arch::X86),
            0xc000_00b7 => Some(Arch::Aarch64),
            0x4000_0028 => Some(Arch::Arm),
            _ => None,
        }
    }

    /// Whether arguments are compared as 64-bit words. libseccomp takes x32 for a 32-bit convention, and so does this.
    pub fn is_64_bit(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }

    /// The runtime spec's name for it.
    pub fn to_oci(self) -> oci::Arch {
        match self {
            Arch::X86_64 => oci::Arch::X86_64,
            Arch::X32 => oci::Arch::X32,
            Arch::X86 => oci::Arch::X86,
            Arch::Aarch64 => oci::Arch::Aarch64,
            Arch::Arm => oci::Arch::Arm,
        }
    }

    /// The one that the runtime spec names; `None` for those that no machine which Hull runs on can execute.
    pub fn from_oci(named: oci::Arch, native: Arch) -> Option<Arch> {
        match named {
            oci::Arch::Native => Some(native),
            _ => Arch::ALL.into_iter().find(|arch| arch.to_oci() == named),
        }
    }

    /// The name in `includes.arches` and `excludes.arches` of a Docker profile.
    pub fn docker_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X32 => "x32",
            Arch::X86 => "x86",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// The other conventions that a kernel of this architecture may also run: Docker's `archMap`.
    pub fn companions(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86, Arch::X32],
            Arch::Aarch64 => &[Arch::Arm],
            Arch::X32 | Arch::X86 | Arch::Arm => &[],
        }
    }
}
