//! Classic BPF as seccomp(2) takes it: instructions, an assembler that writes a program backwards, and an interpreter.
//!
//! A program is assembled from its end to its start, so that every jump's target is already placed and its distance known. The
//! interpreter, with the kernel's own rules about what a filter may contain, is what the tests and the fuzz target judge programs by.

pub use hull_sys::seccomp::SockFilter;

/// `BPF_MAXINSNS`: the kernel refuses a longer filter.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`: load the 32-bit word at offset `k` of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`: skip `k` instructions.
pub const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub const JUMP_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`, unsigned.
pub const JUMP_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`, unsigned.
pub const JUMP_GE: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub const RETURN: u16 = 0x06;

/// A filter for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// At most [`MAX_INSTRUCTIONS`].
    pub instructions: Vec<SockFilter>,
    /// `SECCOMP_FILTER_FLAG_*` that the profile asks for.
    pub flags: u64,
}

impl Program {
    /// The instructions as the kernel reads them (`struct sock_filter[]` in native byte order), 8 bytes each.
    pub fn as_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * 8);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }
}

/// A place in a program under assembly: the number of instructions from it to the end, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label(usize);

/// Writes a program from its last instruction to its first.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Last instruction first.
    reversed: Vec<SockFilter>,
    /// The nearest `RETURN` of each value, to be jumped to again.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(SockFilter { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// Instructions that a jump written next would have to skip to reach `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    /// A `RETURN` of `value` near enough to be jumped to with some instructions still to come between, else a new one.
    pub(crate) fn ret(&mut self, value: u32) -> Label {
        // 200 leaves room for the comparisons of one rule (at most 6 arguments of 6 instructions) and the trampolines.
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some(index) = known {
            let label = self.returns[index].1;
            if self.distance(label) <= 200 {
                return label;
            }
        }
        let label = self.push(RETURN, 0, 0, value);
        match known {
            Some(index) => self.returns[index].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(LOAD, 0, 0, offset)
    }

    pub(crate) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(AND, 0, 0, mask)
    }

    /// Makes `next` what the instruction written next falls through to.
    fn fall_through(&mut self, next: Label) {
        let distance = self.distance(next);
        if distance > 0 {
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX));
        }
    }

    /// A conditional jump; a target further than 255 instructions is reached through a `JUMP` placed right behind it.
    pub(crate) fn branch(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        loop {
            let (far_yes, far_no) = (self.distance(yes), self.distance(no));
            match (u8::try_from(far_yes), u8::try_from(far_no)) {
                (Ok(jt), Ok(jf)) => return self.push(code, jt, jf, k),
                (Err(_), _) => {
                    yes = self.push(JUMP, 0, 0, u32::try_from(far_yes).unwrap_or(u32::MAX))
                }
                (_, Err(_)) => {
                    no = self.push(JUMP, 0, 0, u32::try_from(far_no).unwrap_or(u32::MAX))
                }
            }
        }
    }

    /// The instructions in the order in which they run, from `start`.
    pub(crate) fn finish(mut self, start: Label) -> Vec<SockFilter> {
        self.fall_through(start);
        self.reversed.reverse();
        self.reversed
    }
}

/// `struct seccomp_data`: what a filter is shown of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeccompData {
    /// System call number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address of the instruction after the call.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The 32-bit word at byte `offset` in memory order of a little-endian machine.
    fn word(&self, offset: u32) -> Option<u32> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        let half = |value: u64, high: bool| {
            if high {
                (value >> 32) as u32
            } else {
                value as u32
            }
        };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer, offset == 12)),
            16..64 => Some(half(self.args[(offset as usize - 16) / 8], offset % 8 == 4)),
            _ => None,
        }
    }
}

/// Why a program is not one that the kernel would load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No instructions, or more than [`MAX_INSTRUCTIONS`].
    #[error("a filter of {0} instructions (1 to 4096 are allowed)")]
    Length(usize),
    /// An operation that seccomp does not allow, or that the compiler never writes.
    #[error("instruction {at}: operation {code:#x} is not allowed")]
    Operation {
        /// Index of the instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A load outside `struct seccomp_data`, or not aligned.
    #[error("instruction {at}: load at offset {offset}")]
    Load {
        /// Index of the instruction.
        at: usize,
        /// The offset.
        offset: u32,
    },
    /// A jump past the end.
    #[error("instruction {at}: jump past the end")]
    Jump {
        /// Index of the instruction.
        at: usize,
    },
    /// The last instruction is not a return.
    #[error("the last instruction is not a return")]
    End,
}

/// Applies the kernel's checks (`bpf_check_classic`, `seccomp_check_filter`) to every instruction.
pub fn check(program: &[SockFilter]) -> Result<(), Fault> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(Fault::Length(program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match instruction.code {
            LOAD if instruction.k >= 64 || !instruction.k.is_multiple_of(4) => {
                return Err(Fault::Load {
                    at,
                    offset: instruction.k,
                });
            }
            LOAD | AND | RETURN => {}
            JUMP if instruction.k as usize >= left => return Err(Fault::Jump { at }),
            JUMP => {}
            JUMP_EQ | JUMP_GT | JUMP_GE
                if usize::from(instruction.jt.max(instruction.jf)) >= left =>
            {
                return Err(Fault::Jump { at });
            }
            JUMP_EQ | JUMP_GT | JUMP_GE => {}
            code => return Err(Fault::Operation { at, code }),
        }
    }
    match program.last() {
        Some(SockFilter { code: RETURN, .. }) => Ok(()),
        _ => Err(Fault::End),
    }
}

/// Runs a filter on one system call as the kernel would: the value returned and the number of instructions that ran.
pub fn run(program: &[SockFilter], data: &SeccompData) -> Result<(u32, usize), Fault> {
    check(program)?;
    let (mut at, mut accumulator, mut steps) = (0_usize, 0_u32, 0_usize);
    // Jumps only go forward, so at most every instruction runs once.
    while let Some(instruction) = program.get(at) {
        steps += 1;
        let skip = |condition: bool| {
            usize::from(if condition {
                instruction.jt
            } else {
                instruction.jf
            })
        };
        at += 1;
        match instruction.code {
            LOAD => {
                accumulator = data.word(instruction.k).ok_or(Fault::Load {
                    at,
                    offset: instruction.k,
                })?
            }
            AND => accumulator &= instruction.k,
            JUMP => at += instruction.k as usize,
            JUMP_EQ => at += skip(accumulator == instruction.k),
            JUMP_GT => at += skip(accumulator > instruction.k),
            JUMP_GE => at += skip(accumulator >= instruction.k),
            RETURN => return Ok((instruction.k, steps)),
            code => return Err(Fault::Operation { at: at - 1, code }),
        }
    }
    Err(Fault::End)
}
