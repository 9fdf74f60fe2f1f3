//! Device rules: the specification's list with what every container may use, and its two forms, lines of
//! cgroup v1 and a BPF program of cgroup v2.
//!
//! Semantics are those of the list read in order: for each of read, write and mknod the last rule that
//! matches the device decides; without one it is denied.

use std::collections::BTreeSet;

use hull_oci::runtime::{DeviceCgroup, DeviceType};
use hull_sys::bpf::Insn;

/// The file of cgroup v1 that takes what is allowed.
const ALLOW: &str = "devices.allow";
/// Making a node, `m`.
pub const MKNOD: u32 = 1;
/// Reading, `r`.
pub const READ: u32 = 2;
/// Writing, `w`.
pub const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;
/// `BPF_DEVCG_DEV_BLOCK`.
const BLOCK: u32 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: u32 = 2;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// [`BLOCK`], [`CHAR`] or both when absent.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// What every container may use, whatever the configuration says: making nodes of any kind harms nobody
/// (opening them is another matter), and the devices that the specification promises.
const DEFAULTS: &[Rule] = &[
    any(CHAR, MKNOD),
    any(BLOCK, MKNOD),
    char(1, Some(3)),
    char(1, Some(8)),
    char(1, Some(7)),
    char(5, Some(0)),
    char(1, Some(5)),
    char(1, Some(9)),
    // devpts and its master
    char(136, None),
    char(5, Some(2)),
];

const fn any(kind: u32, access: u32) -> Rule {
    Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access,
    }
}

const fn char(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        allow: true,
        kind: Some(CHAR),
        major: Some(major),
        minor,
        access: ALL,
    }
}

/// The configuration's rules followed by the defaults. Values that the kernel does not know were refused by
/// validation.
#[must_use]
pub fn rules(configured: &[DeviceCgroup]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = configured.iter().map(rule).collect();
    rules.extend_from_slice(DEFAULTS);
    rules
}

fn rule(configured: &DeviceCgroup) -> Rule {
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let access = configured.access.as_deref().filter(|a| !a.is_empty());
    let access = access.map_or(ALL, |text| {
        text.chars().fold(0, |bits, c| {
            bits | match c {
                'm' => MKNOD,
                'r' => READ,
                'w' => WRITE,
                _ => 0,
            }
        })
    });
    let kind = match configured.kind {
        None | Some(DeviceType::All) => None,
        Some(DeviceType::Block) => Some(BLOCK),
        Some(DeviceType::Char | DeviceType::Unbuffered | DeviceType::Fifo) => Some(CHAR),
    };
    Rule {
        allow: configured.allow,
        kind,
        // `a` means every device, whatever numbers stand beside it (as in cgroup v1).
        major: kind.and(number(configured.major)),
        minor: kind.and(number(configured.minor)),
        access,
    }
}

/// What the rules allow in systemd's words, as pairs for `DeviceAllow`; `None` when they allow everything.
///
/// systemd knows no exceptions: what a later rule takes away again stays in its list. The container's own rules
/// decide besides, so it allows no more than they do.
#[must_use]
pub fn systemd_rules(rules: &[Rule]) -> Option<Vec<(String, String)>> {
    let everything = |rule: &Rule| rule.kind.is_none() && rule.access == ALL;
    let from = match rules.iter().rposition(everything) {
        Some(last) if rules[last].allow => {
            if rules[last..].iter().all(|rule| rule.allow) {
                return None;
            }
            last
        }
        Some(last) => last + 1,
        None => 0,
    };
    let mut list = Vec::new();
    for rule in rules[from..].iter().filter(|rule| rule.allow) {
        for (kind, name) in [(BLOCK, "block"), (CHAR, "char")] {
            if rule.kind.is_some_and(|k| k != kind) {
                continue;
            }
            let device = match (rule.major, rule.minor) {
                (None, None) => format!("{name}-*"),
                (Some(major), None) => format!("{name}-{major}"),
                (Some(major), Some(minor)) => format!("/dev/{name}/{major}:{minor}"),
                // systemd has no word for it.
                (None, Some(_)) => continue,
            };
            list.push((device, letters(rule.access)));
        }
    }
    Some(list)
}

fn letters(access: u32) -> String {
    [('r', READ), ('w', WRITE), ('m', MKNOD)]
        .iter()
        .filter(|(_, bit)| access & bit != 0)
        .map(|(c, _)| *c)
        .collect()
}

/// The rules as cgroup v1 takes them: file and line, in order. The first denies everything.
#[must_use]
pub fn v1_lines(rules: &[Rule]) -> Vec<(&'static str, String)> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for rule in rules {
        let file = if rule.allow { ALLOW } else { "devices.deny" };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let (major, minor) = (number(rule.major), number(rule.minor));
        let access = letters(rule.access);
        match rule.kind {
            // `a` ignores everything behind it: only right for all accesses.
            None if rule.access == ALL => lines.push((file, "a".to_owned())),
            None => {
                lines.push((file, format!("b {major}:{minor} {access}")));
                lines.push((file, format!("c {major}:{minor} {access}")));
            }
            Some(BLOCK) => lines.push((file, format!("b {major}:{minor} {access}"))),
            Some(_) => lines.push((file, format!("c {major}:{minor} {access}"))),
        }
    }
    // What comes before a rule about everything has no effect.
    if let Some(last) = lines.iter().rposition(|(_, line)| line == "a") {
        lines.drain(..last);
    }
    // Each write costs as much as a rule does: Docker's list names most of the defaults already. Where something is denied again the
    // order counts, and nothing is left out.
    if lines.iter().skip(1).all(|(file, _)| *file == ALLOW) {
        let mut seen = BTreeSet::new();
        lines.retain(|(_, line)| seen.insert(line.clone()));
    }
    lines
}

// Registers: r1 context, then r2 kind, r3 accesses not yet allowed, r4 major, r5 minor, r6 scratch.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn {
        code,
        regs: dst | src << 4,
        off,
        imm,
    }
}
const LDX_W: u8 = 0x61;
const MOV32_X: u8 = 0xbc;
const MOV64_K: u8 = 0xb7;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JEQ_K: u8 = 0x15;
const JNE_K: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The rules as a `BPF_PROG_TYPE_CGROUP_DEVICE` program: from the last rule to the first, a denying rule that
/// touches what is still asked for refuses, an allowing one ticks off what it allows.
#[must_use]
pub fn program(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        // access_type: access in the high half, kind in the low
        insn(LDX_W, 2, 1, 0, 0),
        insn(MOV32_X, 3, 2, 0, 0),
        insn(RSH32_K, 3, 0, 0, 16),
        insn(AND32_K, 2, 0, 0, 0xffff),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let body = body(rule);
        let checks: Vec<(u8, u32)> = [(2, rule.kind), (4, rule.major), (5, rule.minor)]
            .into_iter()
            .filter_map(|(register, value)| value.map(|v| (register, v)))
            .collect();
        for (index, (register, value)) in checks.iter().enumerate() {
            let skip = checks.len() - index - 1 + body.len();
            program.push(insn(JNE_K, *register, 0, skip as i16, *value as i32));
        }
        program.extend(body);
    }
    program.extend([insn(MOV64_K, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

fn body(rule: &Rule) -> Vec<Insn> {
    if rule.allow {
        return vec![
            insn(AND32_K, 3, 0, 0, !rule.access as i32),
            insn(JNE_K, 3, 0, 2, 0),
            insn(MOV64_K, 0, 0, 0, 1),
            insn(EXIT, 0, 0, 0, 0),
        ];
    }
    vec![
        insn(MOV32_X, 6, 3, 0, 0),
        insn(AND32_K, 6, 0, 0, rule.access as i32),
        insn(JEQ_K, 6, 0, 2, 0),
        insn(MOV64_K, 0, 0, 0, 0),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::{Just, Strategy, any as arbitrary, prop, prop_oneof, proptest};

    /// The list read in order.
    fn oracle(rules: &[Rule], kind: u32, major: u32, minor: u32, access: u32) -> bool {
        let matches = |r: &Rule| {
            r.kind.is_none_or(|k| k == kind)
                && r.major.is_none_or(|m| m == major)
                && r.minor.is_none_or(|m| m == minor)
        };
        [MKNOD, READ, WRITE].iter().all(|bit| {
            let asked = access & bit != 0;
            let last = rules
                .iter()
                .rev()
                .find(|r| matches(r) && r.access & bit != 0);
            !asked || last.is_some_and(|r| r.allow)
        })
    }

    /// Interprets the few instructions that are used.
    fn run(program: &[Insn], kind: u32, major: u32, minor: u32, access: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let (dst, src) = ((i.regs & 15) as usize, (i.regs >> 4) as usize);
            at += 1;
            match i.code {
                LDX_W => r[dst] = u64::from(context[i.off as usize / 4]),
                MOV32_X => r[dst] = r[src] & 0xffff_ffff,
                MOV64_K => r[dst] = i.imm as u64,
                AND32_K => r[dst] &= u64::from(i.imm as u32),
                RSH32_K => r[dst] = (r[dst] as u32 >> i.imm) as u64,
                JEQ_K if r[dst] == i.imm as u64 => at += i.off as usize,
                JNE_K if r[dst] != i.imm as u64 => at += i.off as usize,
                EXIT => return r[0] != 0,
                _ => {}
            }
        }
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(None), Just(Some(BLOCK)), Just(Some(CHAR))];
        (
            arbitrary::<bool>(),
            kind,
            option::of(0u32..3),
            option::of(0u32..3),
            1u32..8,
        )
            .prop_map(|(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major: kind.and(major),
                minor: kind.and(minor),
                access,
            })
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_list(
            rules in prop::collection::vec(some_rule(), 0..8),
            kind in 1u32..3, major in 0u32..3, minor in 0u32..3, access in 1u32..8,
        ) {
            let program = program(&rules);
            assert_eq!(
                run(&program, kind, major, minor, access),
                oracle(&rules, kind, major, minor, access)
            );
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let docker = [DeviceCgroup {
            allow: false,
            access: Some("rwm".into()),
            ..DeviceCgroup::default()
        }];
        match hull_sys::bpf::load_device(&program(&rules(&docker))) {
            Ok(_) => {}
            Err(hull_sys::Errno::PERM) => eprintln!("SKIP: not allowed to load BPF"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn v1_lines_start_at_the_last_rule_about_everything() {
        let rule = |allow, kind, major, access: &str| DeviceCgroup {
            allow,
            kind,
            major,
            minor: None,
            access: Some(access.into()),
        };
        let configured = [
            rule(true, Some(DeviceType::Char), Some(10), "rw"),
            rule(false, None, None, "rwm"),
            rule(true, Some(DeviceType::Block), Some(8), "r"),
        ];
        let lines = v1_lines(&rules(&configured));
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "b 8:* r".to_owned()));
        assert_eq!(lines[2], ("devices.allow", "c *:* m".to_owned()));
    }

    #[test]
    fn v1_lines_are_written_once_where_nothing_is_denied_again() {
        let null = |allow| DeviceCgroup {
            allow,
            kind: Some(DeviceType::Char),
            major: Some(1),
            minor: Some(3),
            access: Some("rwm".into()),
        };
        let everything = DeviceCgroup {
            allow: false,
            access: Some("rwm".into()),
            ..DeviceCgroup::default()
        };
        let count = |configured: &[DeviceCgroup]| {
            let lines = v1_lines(&rules(configured));
            lines.iter().filter(|(_, line)| line == "c 1:3 rwm").count()
        };
        assert_eq!(count(&[everything.clone(), null(true)]), 1);
        // Here the default that follows has to be written again.
        assert_eq!(count(&[everything, null(true), null(false)]), 3);
    }
}
