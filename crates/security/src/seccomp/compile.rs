//! Tables of numbered rules to a BPF program: a binary search over ranges of system call numbers, arguments compared at its leaves.
//!
//! A linear filter of Docker's profile runs hundreds of instructions for the last system call in it, and takes the kernel 600-735 us
//! to load (it runs every filter for every number once, to find the calls that are always allowed); the tree takes about 100 us.

use super::bpf::{self, Assembler, Label, Program};
use super::policy::{Call, Condition, Operator, Policy, Table};
use super::syscalls::X32_BIT;
use super::{Arch, Error};

/// `offsetof(struct seccomp_data, nr)`.
const NUMBER: u32 = 0;
/// `offsetof(struct seccomp_data, arch)`.
const ARCHITECTURE: u32 = 4;
/// `offsetof(struct seccomp_data, args)`.
const ARGUMENTS: u32 = 16;

/// What happens to the numbers of one range.
#[derive(Debug, Clone, Copy)]
enum Leaf<'a> {
    Return(u32),
    /// Rules on arguments, which are 64 bits wide or 32.
    Rules {
        call: &'a Call,
        wide: bool,
    },
}

impl Leaf<'_> {
    fn same(self, other: Leaf<'_>) -> bool {
        matches!((self, other), (Leaf::Return(a), Leaf::Return(b)) if a == b)
    }
}

/// A range of numbers, from `first` to the next segment's.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    first: u32,
    leaf: Leaf<'a>,
}

/// Writes the program of a policy.
pub(super) fn program(policy: &Policy) -> Result<Program, Error> {
    let mut asm = Assembler::default();
    let mut next = asm.ret(policy.bad_arch);
    // The native table is first in the policy and so last here: it is tested first.
    for (index, table) in policy.tables.iter().enumerate().rev() {
        let segments = match table.arch {
            Arch::X86_64 | Arch::X32
                if policy.tables[..index]
                    .iter()
                    .any(|earlier| earlier.arch.audit() == table.arch.audit()) =>
            {
                continue;
            }
            Arch::X86_64 | Arch::X32 => both_64_bit_x86(policy),
            Arch::X86 | Arch::Aarch64 | Arch::Arm => segments(policy, table, 0),
        };
        let tree = tree(&mut asm, policy, &segments);
        let body = asm.load(NUMBER, tree);
        next = asm.branch(bpf::JUMP_EQ, table.arch.audit(), body, next);
    }
    let start = asm.load(ARCHITECTURE, next);
    let instructions = asm.finish(start);
    if instructions.len() > bpf::MAX_INSTRUCTIONS {
        return Err(Error::TooLong(instructions.len()));
    }
    Ok(Program {
        instructions,
        flags: policy.flags,
    })
}

/// The ranges of one table, with neighbours of the same fate merged; numbers below `base` are somebody else's.
fn segments<'a>(policy: &Policy, table: &'a Table, base: u32) -> Vec<Segment<'a>> {
    let mut segments = Vec::with_capacity(table.calls.len() + 2);
    let mut expected = base;
    for (&number, call) in &table.calls {
        if number > expected {
            gap(&mut segments, policy, table, expected);
        }
        let leaf = match call.always {
            Some(value) => Leaf::Return(value),
            None => Leaf::Rules {
                call,
                wide: table.arch.is_64_bit(),
            },
        };
        push(&mut segments, number, leaf);
        expected = number.saturating_add(1);
    }
    gap(&mut segments, policy, table, expected);
    segments
}

/// The range of unnamed numbers that begins at `first`, cut where the numbers become newer than the profile.
fn gap<'a>(segments: &mut Vec<Segment<'a>>, policy: &Policy, table: &Table, first: u32) {
    match table.newest {
        Some(newest) if first > newest => push(segments, first, Leaf::Return(policy.unknown)),
        Some(_) | None => push(segments, first, Leaf::Return(policy.default)),
    }
}

fn push<'a>(segments: &mut Vec<Segment<'a>>, first: u32, leaf: Leaf<'a>) {
    if !segments.last().is_some_and(|last| last.leaf.same(leaf)) {
        segments.push(Segment { first, leaf });
    }
}

/// The ranges of x86_64 and, above [`X32_BIT`], of x32: the kernel reports both as one architecture.
fn both_64_bit_x86(policy: &Policy) -> Vec<Segment<'_>> {
    let table = |arch: Arch| policy.tables.iter().find(|table| table.arch == arch);
    let absent = || {
        vec![Segment {
            first: 0,
            leaf: Leaf::Return(policy.bad_arch),
        }]
    };
    let mut all = table(Arch::X86_64).map_or_else(absent, |table| segments(policy, table, 0));
    let last = all
        .last()
        .map_or(Leaf::Return(policy.bad_arch), |segment| segment.leaf);
    match table(Arch::X32) {
        Some(x32) => segments(policy, x32, X32_BIT)
            .iter()
            .for_each(|segment| push(&mut all, segment.first, segment.leaf)),
        None => push(&mut all, X32_BIT, Leaf::Return(policy.bad_arch)),
    }
    // -1 is "no system call" (a tracer skipped it), not an x32 call.
    push(&mut all, u32::MAX, last);
    all
}

/// The binary search over `segments`, of which there is at least one. Expects the number in the accumulator.
fn tree(asm: &mut Assembler, policy: &Policy, segments: &[Segment<'_>]) -> Label {
    match segments {
        [only] => leaf(asm, policy, only.leaf),
        // One number that differs from its surroundings: one comparison instead of two.
        [around, single, rest] if rest.first == single.first + 1 && around.leaf.same(rest.leaf) => {
            let yes = leaf(asm, policy, single.leaf);
            let no = leaf(asm, policy, around.leaf);
            asm.branch(bpf::JUMP_EQ, single.first, yes, no)
        }
        _ => {
            let (lower, upper) = segments.split_at(segments.len() / 2);
            let yes = tree(asm, policy, upper);
            let no = tree(asm, policy, lower);
            asm.branch(bpf::JUMP_GE, upper[0].first, yes, no)
        }
    }
}

fn leaf(asm: &mut Assembler, policy: &Policy, leaf: Leaf<'_>) -> Label {
    match leaf {
        Leaf::Return(value) => asm.ret(value),
        Leaf::Rules { call, wide } => {
            let mut next = asm.ret(policy.default);
            for rule in call.rules.iter().rev() {
                let mut matched = asm.ret(rule.value);
                for condition in rule.conditions.iter().rev() {
                    matched = compare(asm, wide, condition, matched, next);
                }
                next = matched;
            }
            next
        }
    }
}

/// Instructions that go to `yes` when the argument satisfies the condition, else to `no`. Overwrites the accumulator.
fn compare(asm: &mut Assembler, wide: bool, condition: &Condition, yes: Label, no: Label) -> Label {
    let words = Words {
        low: ARGUMENTS + 8 * u32::from(condition.index),
        wide,
    };
    match condition.operator {
        Operator::Equal(value) => words.masked(asm, u64::MAX, value, yes, no),
        Operator::NotEqual(value) => words.masked(asm, u64::MAX, value, no, yes),
        Operator::Masked { mask, value } => words.masked(asm, mask, value & mask, yes, no),
        Operator::Greater(value) => words.above(asm, bpf::JUMP_GT, value, yes, no),
        Operator::GreaterOrEqual(value) => words.above(asm, bpf::JUMP_GE, value, yes, no),
        Operator::Less(value) => words.above(asm, bpf::JUMP_GE, value, no, yes),
        Operator::LessOrEqual(value) => words.above(asm, bpf::JUMP_GT, value, no, yes),
    }
}

/// Where the two 32-bit words of an argument lie (both architectures that Hull runs on are little-endian).
struct Words {
    low: u32,
    wide: bool,
}

impl Words {
    fn masked(&self, asm: &mut Assembler, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let (mask_low, value_low) = (mask as u32, value as u32);
        let (mask_high, value_high) = ((mask >> 32) as u32, (value >> 32) as u32);
        let equal = word(asm, self.low, mask_low, value_low, yes, no);
        if self.wide && mask_high != 0 {
            word(asm, self.low + 4, mask_high, value_high, equal, no)
        } else {
            equal
        }
    }

    /// `code` is `JUMP_GT` or `JUMP_GE`; the high words decide unless they are equal.
    fn above(&self, asm: &mut Assembler, code: u16, value: u64, yes: Label, no: Label) -> Label {
        let low = asm.branch(code, value as u32, yes, no);
        let low = asm.load(self.low, low);
        if !self.wide {
            return low;
        }
        let high = (value >> 32) as u32;
        let equal = asm.branch(bpf::JUMP_EQ, high, low, no);
        let greater = asm.branch(bpf::JUMP_GT, high, yes, equal);
        asm.load(self.low + 4, greater)
    }
}

fn word(asm: &mut Assembler, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    let mut next = asm.branch(bpf::JUMP_EQ, value, yes, no);
    if mask != u32::MAX {
        next = asm.and(mask, next);
    }
    asm.load(offset, next)
}
