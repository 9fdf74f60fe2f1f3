//! Files of `KEY=value` lines: `--env-file` and `--label-file`.

/// Longest line, as Go's scanner takes it.
const LINE_MAX: usize = 64 * 1024;

/// Reads the files in order. A key without a value is taken from `lookup`, or left out.
pub fn read(
    files: &[String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for file in files {
        let bytes = std::fs::read(file)
            .map_err(|error| format!("open {file}: {}", crate::failure_text(&error)))?;
        parse(&bytes, &lookup, &mut out)
            .map_err(|error| format!("invalid env file ({file}): {error}"))?;
    }
    Ok(out)
}

fn parse(
    bytes: &[u8],
    lookup: &impl Fn(&str) -> Option<String>,
    out: &mut Vec<String>,
) -> Result<(), String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, raw) in bytes.split(|&b| b == b'\n').enumerate() {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        if raw.len() > LINE_MAX {
            return Err("bufio.Scanner: token too long".into());
        }
        let line = std::str::from_utf8(raw).map_err(|_| {
            format!("invalid utf8 bytes at line {}: {raw:?}", index + 1).replace(", ", " ")
        })?;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split('=').next().unwrap_or("");
        if key.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if key.contains([' ', '\t']) {
            return Err(format!("variable '{key}' contains whitespaces"));
        }
        if line.contains('=') {
            out.push(line.to_owned());
        } else if let Some(value) = lookup(line) {
            out.push(format!("{key}={value}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        parse(
            text,
            &|key| (key == "HOME").then(|| "/h".to_owned()),
            &mut out,
        )
        .map(|()| out)
    }

    #[test]
    fn files() {
        assert_eq!(
            of(b"\xef\xbb\xbfA=1 \n# no\n\n  B=\nHOME\nNOPE\nC=a=b\r\n").unwrap(),
            ["A=1 ", "B=", "HOME=/h", "C=a=b"]
        );
        assert_eq!(
            of(b"a b=1").unwrap_err(),
            "variable 'a b' contains whitespaces"
        );
        assert_eq!(of(b"=1").unwrap_err(), "no variable name on line '=1'");
        assert_eq!(
            of(b"\xff").unwrap_err(),
            "invalid utf8 bytes at line 1: [255]"
        );
        assert_eq!(
            read(&["/nonex".into()], |_| None).unwrap_err(),
            "open /nonex: no such file or directory"
        );
    }
}
