//! Beside iptables-legacy: its tables are not nf_tables, so a FORWARD policy of DROP there is met with its own program.
//!
//! The same as `netlink::forward` does for iptables of the nf_tables kind, and for the same reasons.

use super::Family;
use super::iptables::run;
use crate::error::Result;

fn program(family: Family) -> &'static str {
    match family {
        Family::Ip => "iptables-legacy",
        Family::Ip6 => "ip6tables-legacy",
    }
}

/// The legacy table `filter` is in use in this namespace. Looking is cheap; only then is a program run.
fn in_use(family: Family) -> bool {
    let names = match family {
        Family::Ip => "/proc/thread-self/net/ip_tables_names",
        Family::Ip6 => "/proc/thread-self/net/ip6_tables_names",
    };
    std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// FORWARD drops by policy.
pub(crate) fn forward_drops(family: Family) -> Result<bool> {
    if !in_use(family) {
        return Ok(false);
    }
    Ok(run(program(family), &["-w", "-S", "FORWARD"])?
        .lines()
        .any(|line| line == "-P FORWARD DROP"))
}

/// Makes the accepting rules, known by their `comment`, those of `bridges`; none where nothing drops.
pub(crate) fn sync_forward(family: Family, comment: &str, bridges: &[String]) -> Result<()> {
    if !in_use(family) {
        return Ok(());
    }
    let program = program(family);
    let rules = run(program, &["-w", "-S", "FORWARD"])?;
    let mark = format!("--comment \"{comment}\"");
    let ours = |line: &&str| {
        line.contains(&mark) || line.ends_with(&format!("--comment {comment} -j ACCEPT"))
    };
    for line in rules.lines().filter(ours) {
        let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('"')).collect();
        let mut arguments = vec!["-w", "-D"];
        arguments.extend(&words[1..]);
        run(program, &arguments)?;
    }
    if !rules.lines().any(|line| line == "-P FORWARD DROP") {
        return Ok(());
    }
    for bridge in bridges {
        for direction in ["-i", "-o"] {
            let rule = [
                "-w",
                "-A",
                "FORWARD",
                direction,
                bridge,
                "-m",
                "comment",
                "--comment",
                comment,
                "-j",
                "ACCEPT",
            ];
            run(program, &rule)?;
        }
    }
    Ok(())
}
