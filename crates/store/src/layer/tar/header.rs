//! The 512-byte header block: fields and numbers.

use super::BLOCK_LEN;

pub(super) type Block = [u8; BLOCK_LEN];

/// Which dialect a header speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
}

pub(super) fn format(block: &Block) -> Format {
    match &block[257..265] {
        b"ustar  \0" => Format::Gnu,
        magic if magic.starts_with(b"ustar\0") => Format::Ustar,
        _ => Format::V7,
    }
}

/// The bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number: octal digits between spaces and NULs, or GNU's base-256 with the high bit set. Empty is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        return base256(field);
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let field = &field[start..];
    let end = field.iter().position(blank).unwrap_or(field.len());
    field[..end]
        .iter()
        .try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative {
        field[0] | 0x80
    } else {
        field[0] & 0x7f
    };
    let fill = if negative { 0xff } else { 0 };
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, byte) in std::iter::once(&first).chain(&field[1..]).enumerate() {
        let left = field.len() - at;
        if left > 8 && *byte != fill {
            return None;
        }
        value = value.wrapping_shl(8) | i64::from(*byte);
    }
    ((value < 0) == negative).then_some(value)
}

/// Whether the checksum fits; both the signed and the unsigned sum are accepted, as everywhere.
pub(super) fn checksum_ok(block: &Block) -> bool {
    let Some(stored) = number(&block[148..156]) else {
        return false;
    };
    let at = |index: usize| {
        if (148..156).contains(&index) {
            b' '
        } else {
            block[index]
        }
    };
    let unsigned: i64 = (0..BLOCK_LEN).map(|index| i64::from(at(index))).sum();
    let signed: i64 = (0..BLOCK_LEN).map(|index| i64::from(at(index) as i8)).sum();
    stored == unsigned || stored == signed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  644 \0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"12x"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            None,
            "more than 63 bits"
        );
    }

    proptest! {
        #[test]
        fn base256_is_twos_complement(value: i64) {
            let mut field = [if value < 0 { 0xffu8 } else { 0 }; 12];
            field[4..].copy_from_slice(&value.to_be_bytes());
            field[0] |= 0x80;
            prop_assert_eq!(number(&field), Some(value));
        }

        #[test]
        fn any_field_is_read_without_panic(field in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = number(&field);
        }
    }
}
