//! Readers of the composite flag values of `run` and `create`, which give pieces of the API's bodies.

pub mod device;
pub mod kvfile;
pub mod mount;
pub mod network;
pub mod port;
pub mod volume;

/// Fields of one line of CSV with Go's rules (`encoding/csv`): quotes only around whole fields.
pub fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    if text.is_empty() {
        return Err("EOF".into());
    }
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if let Some(at) = field.find('"') {
                let column = text.len() - rest.len() + at + 1;
                return Err(format!(
                    "parse error on line 1, column {column}: bare \" in non-quoted field"
                ));
            }
            fields.push(field.to_owned());
            match rest.get(end + 1..) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, after) = quoted_field(quoted).ok_or_else(|| {
            format!(
                "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                text.len() + 1
            )
        })?;
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => {
                let column = text.len() - after.len();
                return Err(format!(
                    "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                ));
            }
        }
    }
}

fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let quote = rest.find('"')?;
        out.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                out.push('"');
                rest = next;
            }
            None => return Some((out, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::csv;
    use proptest::prelude::*;

    #[test]
    fn csv_fields() {
        assert_eq!(csv("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(csv("\"a,\"\"b\",c").unwrap(), ["a,\"b", "c"]);
        assert!(csv("a\"b").is_err() && csv("\"a").is_err() && csv("\"a\"b").is_err());
        assert_eq!(csv("a,").unwrap(), ["a", ""]);
    }

    proptest! {
        #[test]
        fn any_csv_is_answered(text in "[a\",=é]{0,12}") {
            let _ = csv(&text);
        }
    }
}
