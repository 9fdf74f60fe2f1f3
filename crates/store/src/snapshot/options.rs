//! Storage options, `--storage-opt KEY=VALUE` of the daemon: reading them, and refusing what a driver does not know.

use crate::{Error, Result};

/// The options that were not taken yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// Reads `KEY=VALUE`s. Keys are taken in lower case, as Docker does.
    pub fn parse(options: &[String]) -> Result<Options> {
        let pair = |option: &String| match option.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
            None => Err(Error::Driver {
                driver: "(any)".to_owned(),
                why: format!("Unable to parse key/value option: {option}"),
            }),
        };
        options.iter().map(pair).collect::<Result<_>>().map(Options)
    }

    /// Takes an option's last value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let mut value = None;
        self.0.retain(|(name, given)| {
            if name == key {
                value = Some(given.clone());
            }
            name != key
        });
        value
    }

    /// Takes a size in bytes: a number with an optional unit, 1024-based.
    pub fn size(&mut self, key: &str) -> Result<Option<u64>> {
        let Some(text) = self.take(key) else {
            return Ok(None);
        };
        parse_size(&text).map(Some).ok_or_else(|| Error::Driver {
            driver: key.split('.').next().unwrap_or_default().to_owned(),
            why: format!("invalid size in storage option {key}: '{text}'"),
        })
    }

    /// Takes a truth value, in Go's spellings. Returns whether it was there.
    pub fn boolean(&mut self, driver: &str, key: &str) -> Result<bool> {
        let Some(text) = self.take(key) else {
            return Ok(false);
        };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE"
            | "False" => Ok(true),
            _ => Err(Error::Driver {
                driver: driver.to_owned(),
                why: format!("invalid truth value in storage option {key}: '{text}'"),
            }),
        }
    }

    /// Refuses what is left.
    pub fn finish(self, driver: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(Error::Driver {
                driver: driver.to_owned(),
                why: format!("unknown option {key}"),
            }),
        }
    }
}

/// A size in bytes as go-units' `RAMInBytes` reads it: `10G`, `1.5 GiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = lower.split_at(digits.unwrap_or(lower.len()));
    let unit = unit.trim_start();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes =
        number * f64::from(1u32 << (shift % 30)) * if shift >= 30 { 1_073_741_824.0 } else { 1.0 };
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

/// A size as go-units' `HumanSize` shows it, 1000-based.
pub(super) fn shown_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            let text = format!("{value:.3}");
            let text = text.get(..4).unwrap_or(&text).trim_end_matches('.');
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                text
            };
            return format!("{text}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0}PB")
}

#[cfg(test)]
mod tests {
    use super::{Options, parse_size, shown_size};

    #[test]
    fn sizes_as_docker_reads_them() {
        for (text, bytes) in [
            ("10", Some(10)),
            ("10k", Some(10 << 10)),
            ("1.5G", Some(3 << 29)),
            ("2 GiB", Some(2 << 30)),
            ("3tb", Some(3 << 40)),
            ("1p", Some(1 << 50)),
            ("", None),
            ("-1", None),
            ("10x", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        assert_eq!(shown_size(10_737_418_240), "10.7GB");
        assert_eq!(shown_size(500), "500B");
    }

    #[test]
    fn what_no_driver_takes_is_refused() {
        let given = ["Overlay2.size=1G".to_owned(), "zfs.fsname=tank".to_owned()];
        let mut options = Options::parse(&given).unwrap();
        assert_eq!(options.size("overlay2.size").unwrap(), Some(1 << 30));
        let refused = options.finish("overlay2").unwrap_err().to_string();
        assert_eq!(
            refused,
            "storage driver \"overlay2\" cannot be used: unknown option zfs.fsname"
        );
        assert!(Options::parse(&["nonsense".to_owned()]).is_err());
    }
}
