//! Who a process runs as: names and numbers looked up in the image's own `passwd` and `group`, with Docker's sentences
//! (libcontainer's `user` package). Pure: the files' contents come in.

use crate::error::{Error, Result};

/// The contents of the two files; empty when the image has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

/// A user with everything looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The primary group first, then supplementary ones, then those of `--group-add`.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let _password = fields.next();
            let uid = fields.next()?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let _comment = fields.next();
            Some(Account {
                name,
                uid,
                gid,
                home: fields.next().unwrap_or_default(),
            })
        })
}

fn groups(file: &str) -> impl Iterator<Item = Group<'_>> {
    file.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let _password = fields.next();
            let gid = fields.next()?.parse().ok()?;
            let members = fields
                .next()
                .unwrap_or_default()
                .split(',')
                .filter(|member| !member.is_empty())
                .collect();
            Some(Group { name, gid, members })
        })
}

/// A number of the range that the kernel and Docker take (0 to 2^31 - 1).
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>()
        .ok()
        .filter(|number| *number <= i32::MAX as u32)
}

/// Resolves `user[:group]`, each a name or a number, and `--group-add`.
pub(crate) fn resolve(wanted: &str, group_add: &[String], files: &Files) -> Result<ResolvedUser> {
    let (user_part, group_part) = wanted
        .split_once(':')
        .map_or((wanted, None), |(user, group)| (user, Some(group)));
    let account = accounts(&files.passwd).find(|account| match user_part {
        "" => account.uid == 0,
        name => account.name == name || name.parse() == Ok(account.uid),
    });
    let mut user = ResolvedUser {
        home: "/".to_owned(),
        ..ResolvedUser::default()
    };
    let mut name = None;
    if let Some(account) = &account {
        user.uid = account.uid;
        user.gid = account.gid;
        if !account.home.is_empty() {
            account.home.clone_into(&mut user.home);
        }
        name = Some(account.name);
    } else if !user_part.is_empty() {
        user.uid = number(user_part).ok_or_else(|| match user_part.parse::<i64>() {
            Ok(_) => Error::invalid("uids and gids must be in range 0-2147483647"),
            Err(_) => Error::invalid(format!(
                "unable to find user {user_part}: no matching entries in passwd file"
            )),
        })?;
    }
    match group_part.filter(|group| !group.is_empty()) {
        Some(group) => user.gid = group_id(group, &files.group)?,
        // With a group given, the supplementary groups of the account do not count.
        None => {
            if let Some(name) = name {
                user.groups = groups(&files.group)
                    .filter(|group| group.members.contains(&name))
                    .map(|group| group.gid)
                    .collect();
            }
        }
    }
    user.groups.insert(0, user.gid);
    for group in group_add {
        user.groups.push(group_id(group, &files.group)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    user.groups.retain(|group| seen.insert(*group));
    Ok(user)
}

fn group_id(wanted: &str, file: &str) -> Result<u32> {
    let found = groups(file).find(|group| group.name == wanted || wanted.parse() == Ok(group.gid));
    match found {
        Some(group) => Ok(group.gid),
        None => number(wanted).ok_or_else(|| match wanted.parse::<i64>() {
            Ok(_) => Error::invalid("uids and gids must be in range 0-2147483647"),
            Err(_) => Error::invalid(format!(
                "unable to find group {wanted}: no matching entries in group file"
            )),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/web:/bin/false\n# note\nbroken\n".into(),
            group: "root:x:0:root\nwww:x:34:\nlogs:x:50:web,other\nadm:x:60:root\n".into(),
        }
    }

    fn of(wanted: &str, add: &[&str]) -> Result<ResolvedUser> {
        resolve(
            wanted,
            &add.iter()
                .map(|group| (*group).to_owned())
                .collect::<Vec<_>>(),
            &files(),
        )
    }

    #[test]
    fn names_and_numbers() {
        let root = of("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.groups, [0, 60]);
        let web = of("web", &["adm", "7"]).unwrap();
        assert_eq!((web.uid, web.gid, web.home.as_str()), (33, 34, "/srv/web"));
        assert_eq!(web.groups, [34, 50, 60, 7]);
        assert_eq!(of("33", &[]).unwrap().home, "/srv/web");
        let other = of("1000:logs", &[]).unwrap();
        assert_eq!((other.uid, other.gid, other.home.as_str()), (1000, 50, "/"));
        assert_eq!(
            of("web:0", &[]).unwrap().groups,
            [0],
            "a given group replaces the account's"
        );
        assert_eq!(of(":logs", &[]).unwrap().uid, 0);
    }

    #[test]
    fn dockers_sentences() {
        assert_eq!(
            of("foo", &[]).unwrap_err().message,
            "unable to find user foo: no matching entries in passwd file"
        );
        assert_eq!(
            of("web:foo", &[]).unwrap_err().message,
            "unable to find group foo: no matching entries in group file"
        );
        assert_eq!(
            of("4294967296", &[]).unwrap_err().message,
            "uids and gids must be in range 0-2147483647"
        );
    }
}
