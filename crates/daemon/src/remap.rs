//! `--userns-remap`: which ranges of ids the containers get, by moby's rules and in its words.
//!
//! The user is found in /etc/passwd and its ranges, by name or number, in /etc/subuid and /etc/subgid. `default` is the user
//! `dockremap`, made where it is missing.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use hull_engine::{IdMaps, IdRange};

/// The user of `default`.
const DEFAULT_USER: &str = "dockremap";
/// Ids that a new user gets: what useradd(8) gives (SUB_UID_COUNT).
const RANGE_LEN: u32 = 65536;
/// Where new ranges begin at the earliest (SUB_UID_MIN of login.defs(5)).
const RANGE_MIN: u32 = 100_000;

/// The ranges for a setting: `default`, `user`, `user:group`, names or numbers.
///
/// # Errors
/// An unknown user or group, and a user without ranges.
pub(crate) fn maps(setting: &str) -> Result<IdMaps> {
    let (user, group) = match setting.split(':').collect::<Vec<_>>()[..] {
        [user] => (user, None),
        [user, group] => (user, Some(group)),
        _ => bail!("Invalid user/group specification in --userns-remap: {setting:?}"),
    };
    let user = match user {
        "default" => {
            ensure_default_user()?;
            DEFAULT_USER
        }
        other => other,
    };
    let passwd = read("/etc/passwd")?;
    let (name, uid) = entry(&passwd, user).ok_or_else(|| match user.parse::<u32>() {
        Ok(uid) => anyhow!("Uid {uid} has no entry in /etc/passwd: getent unable to find entry \"{uid}\" in passwd database"),
        Err(_) => anyhow!("Error during uid lookup for {user:?}: getent unable to find entry {user:?} in passwd database"),
    })?;
    if let Some(group) = group.filter(|group| *group != "default")
        && entry(&read("/etc/group")?, group).is_none()
    {
        bail!(
            "Error during groupname lookup for {group:?}: getent unable to find entry {group:?} in group database"
        );
    }
    Ok(IdMaps {
        uids: ranges(&read("/etc/subuid")?, "subuid", &name, &uid)?,
        gids: ranges(&read("/etc/subgid")?, "subgid", &name, &uid)?,
    })
}

fn read(path: &str) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("read {path}")),
    }
}

/// Name and number of an entry of passwd(5) or group(5) that has this name or number.
fn entry(text: &str, wanted: &str) -> Option<(String, String)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (name == wanted || number == wanted).then(|| (name.to_owned(), number.to_owned()))
    })
}

/// A user's lines of subuid(5), one after another from 0 on.
fn ranges(text: &str, file: &str, name: &str, uid: &str) -> Result<Vec<IdRange>> {
    let mut next = 0_u32;
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let owner = fields.next().unwrap_or_default();
        if owner != name && owner != uid {
            continue;
        }
        let mut number = || fields.next().and_then(|field| field.parse::<u32>().ok());
        let (Some(outside), Some(length)) = (number(), number()) else {
            bail!("Can't create ID mappings: /etc/{file}: bad line {line:?}")
        };
        ranges.push(IdRange {
            inside: next,
            outside,
            length,
        });
        next = next
            .checked_add(length)
            .with_context(|| format!("/etc/{file}: the ranges of {name} are too large"))?;
    }
    if ranges.is_empty() {
        bail!("Can't create ID mappings: no {file} ranges found for user {name:?}");
    }
    Ok(ranges)
}

/// Makes `dockremap`, with ranges behind everybody else's.
fn ensure_default_user() -> Result<()> {
    let wrong = |error: String| anyhow!("Error during {DEFAULT_USER:?} user creation: {error}");
    if entry(&read("/etc/passwd")?, DEFAULT_USER).is_none() {
        let made = Command::new("useradd")
            .args(["--system", "--user-group", "--no-create-home"])
            .args(["--shell", "/bin/false", DEFAULT_USER])
            .output()
            .map_err(|error| wrong(format!("run useradd: {error}")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(wrong(format!("useradd: {}", said.trim())));
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = read(file)?;
        if text
            .lines()
            .any(|line| line.split(':').next() == Some(DEFAULT_USER))
        {
            continue;
        }
        let line = format!("{DEFAULT_USER}:{}:{RANGE_LEN}\n", free(&text));
        let mut open = std::fs::OpenOptions::new();
        open.create(true)
            .append(true)
            .open(file)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("add a range to {file}"))?;
    }
    Ok(())
}

/// The first id behind all ranges.
fn free(text: &str) -> u32 {
    let ends = text.lines().filter_map(|line| {
        let mut numbers = line
            .trim()
            .split(':')
            .skip(1)
            .map_while(|field| field.parse::<u32>().ok());
        numbers.next()?.checked_add(numbers.next()?)
    });
    ends.max().unwrap_or(0).max(RANGE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBUID: &str =
        "other:100000:65536\nme:300000:1000\n7001:500000:10\nmangled:x\nme:400000:5\n";

    #[test]
    fn ranges_follow_one_another() {
        let found = ranges(SUBUID, "subuid", "me", "7001").expect("ranges");
        let shown: Vec<_> = found
            .iter()
            .map(|range| (range.inside, range.outside, range.length))
            .collect();
        assert_eq!(
            shown,
            [(0, 300_000, 1000), (1000, 500_000, 10), (1010, 400_000, 5)]
        );
        assert_eq!(
            ranges(SUBUID, "subgid", "nobody", "1")
                .unwrap_err()
                .to_string(),
            "Can't create ID mappings: no subgid ranges found for user \"nobody\""
        );
        assert!(ranges(SUBUID, "subuid", "mangled", "1").is_err());
        assert!(ranges("a:0:4294967295\na:0:4294967295\n", "subuid", "a", "1").is_err());
    }

    #[test]
    fn new_ranges_come_last() {
        assert_eq!(free(SUBUID), 500_010);
        assert_eq!(free(""), RANGE_MIN);
        assert_eq!(free("a:4294967295:5\n"), RANGE_MIN);
    }

    #[test]
    fn entries_by_name_and_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:7001:7001::/:/bin/false\n";
        let me = Some(("me".to_owned(), "7001".to_owned()));
        assert_eq!(entry(passwd, "me"), me);
        assert_eq!(entry(passwd, "7001"), me);
        assert_eq!(entry(passwd, "you"), None);
    }
}
