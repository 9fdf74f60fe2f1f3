//! `-v [source:]target[:options]`.

/// What one `-v` means.
#[derive(Debug, PartialEq)]
pub enum Volume {
    /// A volume without a name, at this path.
    Anonymous(String),
    /// A bind or a named volume, as `HostConfig.Binds` takes it; a source that begins with `.` is absolute here.
    Bind(String),
}

/// Reads one `-v`.
pub fn parse(text: &str) -> Result<Volume, String> {
    match text.len() {
        0 => return Err("invalid empty volume spec".into()),
        1 | 2 => return Ok(Volume::Anonymous(text.to_owned())),
        _ => {}
    }
    let fail = |message: &str| Err(format!("invalid spec: {text}: {message}"));
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return fail("empty section between colons");
    }
    if parts.len() > 3 {
        return fail("too many colons");
    }
    let [source, rest @ ..] = parts.as_slice() else {
        return fail("empty section between colons");
    };
    if rest.is_empty() {
        return Ok(Volume::Anonymous(text.to_owned()));
    }
    let source = if source.starts_with('.') {
        absolute(source)
    } else {
        (*source).to_owned()
    };
    Ok(Volume::Bind(format!("{source}:{}", rest.join(":"))))
}

/// `filepath.Abs`: joined to the working directory and cleaned, without looking at links.
pub fn absolute(path: &str) -> String {
    let base = std::env::current_dir()
        .map(|dir| dir.to_string_lossy().into_owned())
        .unwrap_or_default();
    clean(&if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    })
}

/// `path.Clean` of an absolute or relative path.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".into(),
        (false, joined) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn volumes() {
        assert_eq!(
            parse("site:/usr/share"),
            Ok(Volume::Bind("site:/usr/share".into()))
        );
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("/a:/b:ro"), Ok(Volume::Bind("/a:/b:ro".into())));
        assert_eq!(
            parse(":/x").unwrap_err(),
            "invalid spec: :/x: empty section between colons"
        );
        assert_eq!(
            parse("a:/b:ro:x").unwrap_err(),
            "invalid spec: a:/b:ro:x: too many colons"
        );
        assert_eq!(parse("").unwrap_err(), "invalid empty volume spec");
        assert!(
            matches!(parse("./x:/y"), Ok(Volume::Bind(text)) if text.starts_with('/') && text.ends_with("/x:/y"))
        );
        assert_eq!(clean("/a/./b/../../.."), "/");
        assert_eq!(clean("a/../../b"), "../b");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            let _ = parse(&text);
        }
    }
}
