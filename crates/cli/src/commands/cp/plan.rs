//! Where a copied thing lands, and under which name: Docker's table of cases. Pure.

use crate::opts::volume::clean;

/// What is copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// First part of the names in its archive; `None` for `dir/.`, whose content is meant.
    pub base: Option<String>,
    /// The name of the link that was followed to it.
    pub rename: Option<String>,
    /// A directory?
    pub is_dir: bool,
}

/// Where it is to go.
#[derive(Clone, Debug)]
pub struct Target {
    /// As given.
    pub path: String,
    /// Is something there?
    pub exists: bool,
    /// A directory?
    pub is_dir: bool,
}

/// Where the archive is unpacked, and how its first part is renamed: (from, to).
#[derive(Clone, Debug, PartialEq)]
pub struct Landing {
    /// Directory to unpack in.
    pub dir: String,
    /// `None` keeps the names.
    pub rename: Option<(String, String)>,
}

/// Decides; the errors are Docker's.
pub fn land(source: &Source, target: &Target) -> Result<Landing, String> {
    let base = source.base.clone().unwrap_or_else(|| ".".into());
    if target.exists && target.is_dir {
        let rename = source
            .rename
            .clone()
            .filter(|name| *name != base)
            .map(|name| (base, name));
        return Ok(Landing {
            dir: target.path.clone(),
            rename,
        });
    }
    if target.exists && source.is_dir {
        return Err("cannot copy directory".into());
    }
    if !target.exists && !source.is_dir && asserts_directory(&target.path) {
        return Err("no such directory".into());
    }
    if target.exists && asserts_directory(&target.path) {
        return Err("not a directory".into());
    }
    let path = clean(&target.path);
    let (dir, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => ("/".to_owned(), path),
    };
    let rename = (base != name).then_some((base, name));
    Ok(Landing { dir, rename })
}

/// `path/` and `path/.` say that a directory is meant.
fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// Last part of a path; `None` when it ends in `.` or is the root.
pub fn base(path: &str) -> Option<String> {
    if path == "." || path.ends_with("/.") {
        return None;
    }
    let clean = clean(path);
    clean
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// `absolute` with the `/` or `/.` that `given` ends in.
pub fn keep_ending(absolute: &str, given: &str) -> String {
    if absolute.ends_with('/') {
        return absolute.to_owned();
    }
    if given == "." || given.ends_with("/.") {
        return format!("{absolute}/.");
    }
    if given.ends_with('/') {
        format!("{absolute}/")
    } else {
        absolute.to_owned()
    }
}

/// A name in the archive after renaming its first part.
pub fn renamed(path: &str, rename: Option<&(String, String)>) -> String {
    let path = path.trim_start_matches("./");
    let Some((from, to)) = rename else {
        return path.to_owned();
    };
    if from == "." {
        return if path.is_empty() || path == "." {
            to.clone()
        } else {
            format!("{to}/{path}")
        };
    }
    match path.strip_prefix(from.as_str()) {
        Some("") => to.clone(),
        Some(rest) if rest.starts_with('/') => format!("{to}{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        base: Option<&str>,
        source_dir: bool,
        target: &str,
        exists: bool,
        is_dir: bool,
    ) -> String {
        let source = Source {
            base: base.map(str::to_owned),
            rename: None,
            is_dir: source_dir,
        };
        match land(
            &source,
            &Target {
                path: target.into(),
                exists,
                is_dir,
            },
        ) {
            Ok(landing) => format!("{} {:?}", landing.dir, landing.rename),
            Err(error) => error,
        }
    }

    #[test]
    fn docker_s_table() {
        assert_eq!(check(Some("f"), false, "/d", true, true), "/d None");
        assert_eq!(
            check(Some("f"), false, "/d/g", false, false),
            "/d Some((\"f\", \"g\"))"
        );
        assert_eq!(check(Some("f"), false, "/d/f", true, false), "/d None");
        assert_eq!(
            check(Some("f"), false, "/d/new/", false, false),
            "no such directory"
        );
        assert_eq!(check(Some("s"), true, "/d", true, true), "/d None");
        assert_eq!(
            check(Some("s"), true, "/d", false, false),
            "/ Some((\"s\", \"d\"))"
        );
        assert_eq!(
            check(None, true, "/d", false, false),
            "/ Some((\".\", \"d\"))"
        );
        assert_eq!(
            check(Some("s"), true, "/f", true, false),
            "cannot copy directory"
        );
        assert_eq!(
            check(Some("f"), false, "/f/", true, false),
            "not a directory"
        );
    }

    #[test]
    fn names() {
        let rename = Some(("s".to_owned(), "d".to_owned()));
        assert_eq!(renamed("s/a/s", rename.as_ref()), "d/a/s");
        assert_eq!(renamed("sx", rename.as_ref()), "sx");
        let dot = Some((".".to_owned(), "d".to_owned()));
        assert_eq!(
            (renamed("./", dot.as_ref()), renamed("./a", dot.as_ref())),
            ("d".into(), "d/a".into())
        );
        assert_eq!(
            (base("/a/b/"), base("/a/."), base("/")),
            (Some("b".into()), None, None)
        );
        assert_eq!(keep_ending("/x/a", "a/."), "/x/a/.");
    }
}
