//! Detach keys: `ctrl-p,ctrl-q` and the like, as bytes.

use crate::error::{Error, Result};

/// Docker's default.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads the keys; none given: the default.
pub(crate) fn parse(keys: Option<&str>) -> Result<Vec<u8>> {
    let Some(keys) = keys else {
        return Ok(DEFAULT.to_vec());
    };
    if keys.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    keys.split(',')
        .map(|key| {
            one(key).ok_or_else(|| Error::invalid(format!("Invalid detach keys ({keys}) provided")))
        })
        .collect()
}

fn one(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        b"[" => Some(27),
        b"\\" => Some(28),
        b"]" => Some(29),
        b"^" => Some(30),
        b"_" => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse(None).unwrap(), [16, 17]);
        assert_eq!(parse(Some("ctrl-a,x,ctrl-[")).unwrap(), [1, b'x', 27]);
        assert_eq!(
            parse(Some("ctrl-9")).unwrap_err().message,
            "Invalid detach keys (ctrl-9) provided"
        );
    }
}
