//! Records of pax extended headers: `length key=value\n`.

use super::{Entry, PATH_LEN_MAX};

/// What one member's pax header says beyond [`Entry`].
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub size: Option<u64>,
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseKeys,
}

/// The `GNU.sparse.*` keys of the three pax sparse formats.
#[derive(Debug, Default)]
pub(super) struct SparseKeys {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub map: Option<Vec<u8>>,
    pub pieces: Vec<u64>,
}

impl Extra {
    /// Takes in the records; the error says what is wrong.
    pub fn parse(&mut self, mut data: &[u8]) -> Result<(), &'static str> {
        while !data.is_empty() && data != [0] {
            let (key, value, rest) = record(data).ok_or("malformed pax record")?;
            self.take(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = decimal(value)?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or("malformed pax time")?),
            b"GNU.sparse.major" => self.sparse.major = decimal(value)?,
            b"GNU.sparse.minor" => self.sparse.minor = decimal(value)?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = decimal(value)?,
            b"GNU.sparse.map" => self.sparse.map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let even = self.sparse.pieces.len().is_multiple_of(2);
                if even != (key == b"GNU.sparse.offset")
                    || self.sparse.pieces.len() >= 2 * super::SPARSE_PIECES_MAX
                {
                    return Err("malformed pax sparse map");
                }
                self.sparse
                    .pieces
                    .push(decimal(value)?.ok_or("malformed pax sparse map")?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Overrides what the header block said.
    pub fn apply(&mut self, entry: &mut Entry) {
        if let Some(path) = self.path.take() {
            entry.path = path;
        }
        if let Some(link) = self.link.take() {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs.append(&mut self.xattrs);
    }
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(8).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&data[..space]).ok()??).ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let body = &data[space + 1..length - 1];
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &data[length..]))
}

/// A path or link target; an empty value takes the key back.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.len() > PATH_LEN_MAX {
        return Err("path too long");
    }
    if value.contains(&0) {
        return Err("path with a NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn decimal(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = value.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    // The kernel's sizes, offsets and times are signed.
    parsed
        .filter(|value| i64::try_from(*value).is_ok())
        .map(Some)
        .ok_or("malformed number in pax header")
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off towards the past, as Go does.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole).ok()??).ok()?;
    let digits = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nanos = digits.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, nanos) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, nanos) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_and_times() {
        let mut extra = Extra::default();
        extra
            .parse(b"12 path=a/b\n22 SCHILY.xattr.u.a=v\n20 mtime=1350244992.5\n")
            .unwrap_err();
        let mut extra = Extra::default();
        extra
            .parse(b"12 path=a/b\n22 SCHILY.xattr.u.a=v\n22 mtime=1350244992.5\n")
            .unwrap();
        assert_eq!(extra.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(extra.xattrs, [(b"u.a".to_vec(), b"v".to_vec())]);
        assert_eq!(extra.mtime, Some((1350244992, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-1"), Some((-1, 0)));
        assert_eq!(time(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time(b"x"), None);
        assert_eq!(
            decimal(b"18446744073709551615"),
            Err("malformed number in pax header")
        );
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Extra::default().parse(&data);
        }
    }
}
