//! Readers of single flag values: what pflag and Docker's `opts` accept, and their sentences for the rest.

use crate::go::{duration as go_duration, strconv, units};

/// A signed integer as Go reads it.
pub fn go_int(text: &str) -> Result<i64, String> {
    strconv::parse_int(text)
}

/// An unsigned 16-bit number.
pub fn uint16(text: &str) -> Result<u64, String> {
    strconv::parse_uint(text, 16)
}

/// An unsigned 64-bit number.
pub fn uint(text: &str) -> Result<u64, String> {
    strconv::parse_uint(text, 64)
}

/// Bytes: `512m`.
pub fn bytes(text: &str) -> Result<i64, String> {
    units::ram_in_bytes(text)
}

/// Bytes, or -1 for no limit.
pub fn swap_bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        Ok(-1)
    } else {
        units::ram_in_bytes(text)
    }
}

/// A span of time, nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    go_duration::parse(text)
}

/// CPUs (`1.5`, `3/2`) in billionths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let (top, scale) = decimal(numerator).ok_or_else(bad)?;
    let bottom: i128 = denominator
        .parse()
        .ok()
        .filter(|&n: &i128| n > 0)
        .ok_or_else(bad)?;
    let divisor = bottom.checked_mul(scale).ok_or_else(bad)?;
    let nano = top.checked_mul(1_000_000_000).ok_or_else(bad)?;
    if nano % divisor != 0 {
        return Err("value is too precise".into());
    }
    i64::try_from(nano / divisor).map_err(|_| bad())
}

/// `1.25` as (125, 100).
fn decimal(text: &str) -> Option<(i128, i128)> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, part) = body.split_once('.').unwrap_or((body, ""));
    let plain = |digits: &str| digits.chars().all(|c| c.is_ascii_digit());
    if whole.len() + part.len() == 0
        || whole.len() + part.len() > 18
        || !plain(whole)
        || !plain(part)
    {
        return None;
    }
    let value: i128 = format!("{whole}{part}").parse().ok()?;
    Some((
        if text.starts_with('-') { -value } else { value },
        10i128.pow(part.len() as u32),
    ))
}

/// `name=value` of a filter; the name is folded to lower case. The empty text is no filter.
pub fn filter(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let (name, value) = text
        .split_once('=')
        .ok_or("bad format of filter (expected name=value)")?;
    Ok(format!("{}={}", name.trim().to_lowercase(), value.trim()))
}

/// `stdin`, `stdout` or `stderr`.
pub fn attach(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    if matches!(lower.as_str(), "stdin" | "stdout" | "stderr") {
        Ok(lower)
    } else {
        Err("valid streams are STDIN, STDOUT and STDERR".into())
    }
}

/// `KEY=value`, or `KEY` that is taken from our environment when it is there.
pub fn env(text: &str) -> Result<String, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if value.is_none()
        && let Ok(ours) = std::env::var(key)
    {
        return Ok(format!("{key}={ours}"));
    }
    Ok(text.to_owned())
}

/// `key=value` or `key`, without white space in the key.
pub fn label(text: &str) -> Result<String, String> {
    let key = text
        .split('=')
        .next()
        .unwrap_or("")
        .trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(text.to_owned())
}

/// An IP address in its canonical form.
pub fn ip(text: &str) -> Result<String, String> {
    let parsed = text.trim().parse::<std::net::IpAddr>();
    parsed
        .map(|ip| ip.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A DNS search domain, or `.`.
pub fn dns_search(text: &str) -> Result<String, String> {
    let text = text.trim_matches(' ');
    if text == "." {
        return Ok(text.to_owned());
    }
    let bad = || format!("{text} is not a valid domain");
    let name = text.trim_end();
    let name = name.strip_suffix('.').unwrap_or(name);
    let part_ok = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let valid = name.contains(|c: char| c.is_ascii_alphabetic())
        && name.len() < 255
        && name.split('.').all(part_ok);
    if valid {
        Ok(name.to_owned())
    } else {
        Err(bad())
    }
}

/// `host:ip`, `host=ip`, `host:host-gateway`; gives `host:ip`.
pub fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", strconv::quote(text));
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(bad)?;
    if host.is_empty() || host.contains(':') {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let address = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    ip(address).map_err(|_| {
        format!(
            "invalid IP address in add-host: {}",
            strconv::quote(address)
        )
    })?;
    Ok(format!("{host}:{address}"))
}

/// `name:alias` or `name`.
pub fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".into());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// `net.x=y` and the other sysctls that have a namespace.
pub fn sysctl(text: &str) -> Result<String, String> {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let bad = || format!("sysctl '{text}' is not allowed");
    let (key, _) = text.split_once('=').ok_or_else(bad)?;
    let known = NAMES.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.");
    if known {
        Ok(text.to_owned())
    } else {
        Err(bad())
    }
}

/// `c 1:3 rwm`.
pub fn device_cgroup_rule(text: &str) -> Result<String, String> {
    let number =
        |part: &str| part == "*" || (!part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    let valid = match parts.as_slice() {
        [kind, numbers, mode] => {
            matches!(*kind, "a" | "c" | "b")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
        }
        _ => false,
    };
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn docker_s_sentences() {
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(
            cpus("x").unwrap_err(),
            "failed to parse x as a rational number"
        );
        assert_eq!(cpus("0.0000000001").unwrap_err(), "value is too precise");
        assert_eq!(
            extra_host("x").unwrap_err(),
            "bad format for add-host: \"x\""
        );
        assert_eq!(extra_host("a=[::1]"), Ok("a:::1".into()));
        assert_eq!(
            filter("X").unwrap_err(),
            "bad format of filter (expected name=value)"
        );
        assert_eq!(
            sysctl("kernel.foo=1").unwrap_err(),
            "sysctl 'kernel.foo=1' is not allowed"
        );
        assert_eq!(
            device_cgroup_rule("c 1:3 rwx").unwrap_err(),
            "invalid device cgroup format 'c 1:3 rwx'"
        );
        assert_eq!(
            dns_search("a..b").unwrap_err(),
            "a..b is not a valid domain"
        );
        assert_eq!(label("=x").unwrap_err(), "invalid label '=x': empty name");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            let _ = (cpus(&text), filter(&text), extra_host(&text), dns_search(&text), device_cgroup_rule(&text), label(&text), link(&text));
        }
    }
}
