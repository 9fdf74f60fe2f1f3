//! The wire format of protocol buffers, as far as criu's messages use it: varints and bytes.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. A message is a row of fields; a field is a tag (number and
//! wire type) and a value. Unknown fields are skipped, as the format asks for.

/// Longest varint: 64 bits in groups of 7.
const VARINT_MAX: usize = 10;

/// A message that is being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An unsigned number, an enumeration's value.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.raw(u64::from(field) << 3);
        self.raw(value);
    }

    /// An `int32`: negative ones take ten bytes.
    pub(super) fn int32(&mut self, field: u32, value: i32) {
        self.number(field, i64::from(value) as u64);
    }

    /// A `bool`; false is left out, which is every such field's default in criu's messages.
    pub(super) fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// A string, or bytes.
    pub(super) fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.raw(u64::from(field) << 3 | 2);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message within the message.
    pub(super) fn message(&mut self, field: u32, build: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        build(&mut inner);
        self.bytes(field, inner.0);
    }

    /// The finished message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf message")]
pub(super) struct Malformed;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Numbers, booleans, enumerations.
    Number(u64),
    /// Strings, bytes, messages.
    Bytes(&'a [u8]),
    /// A fixed-width number, which criu's messages do not use.
    Fixed,
}

impl<'a> Value<'a> {
    /// As an `int32` or an enumeration's value.
    pub(super) fn int32(self) -> Result<i32, Malformed> {
        match self {
            // Negative numbers are sign-extended to 64 bits; the lower half is the number.
            Self::Number(n) => Ok(n as u32 as i32),
            Self::Bytes(_) | Self::Fixed => Err(Malformed),
        }
    }

    /// As a `bool`.
    pub(super) fn flag(self) -> Result<bool, Malformed> {
        Ok(self.int32()? != 0)
    }

    /// As bytes.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(Malformed),
        }
    }

    /// As text; what is not UTF-8 is replaced.
    pub(super) fn text(self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

/// The fields of a message, in the order in which they were written.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// Iterator of [`fields`]; ends after the first malformed one.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for index in 0..VARINT_MAX {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            let group = u64::from(byte & 0x7f);
            // The tenth byte holds the 64th bit alone.
            if index == VARINT_MAX - 1 && group > 1 {
                return Err(Malformed);
            }
            value |= group << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if field == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 are groups, long withdrawn; the others do not exist.
            _ => return Err(Malformed),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_specification_s_own_examples() {
        let mut writer = Writer::default();
        writer.number(1, 150);
        assert_eq!(writer.finish(), [0x08, 0x96, 0x01]);
        let mut writer = Writer::default();
        writer.bytes(2, "testing");
        assert_eq!(writer.finish(), b"\x12\x07testing");
        let mut writer = Writer::default();
        writer.message(3, |inner| inner.number(1, 150));
        assert_eq!(writer.finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut writer = Writer::default();
        writer.int32(1, -2);
        assert_eq!(
            writer.finish(),
            [
                0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
            ]
        );
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bad in [
            &[0x08][..],
            &[0x00, 0x01],
            &[0x0a, 0x05, 1],
            &[0x0b],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
            &[0x0d, 1, 2, 3],
        ] {
            let last = fields(bad).last();
            assert_eq!(last, Some(Err(Malformed)), "{bad:x?}");
        }
    }

    #[derive(Debug, Clone)]
    enum Field {
        Number(u64),
        Int(i32),
        Bytes(Vec<u8>),
    }

    fn field() -> impl Strategy<Value = (u32, Field)> {
        let value = prop_oneof![
            any::<u64>().prop_map(Field::Number),
            any::<i32>().prop_map(Field::Int),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Field::Bytes),
        ];
        (1..1u32 << 29, value)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(list in proptest::collection::vec(field(), 0..20)) {
            let mut writer = Writer::default();
            for (number, field) in &list {
                match field {
                    Field::Number(n) => writer.number(*number, *n),
                    Field::Int(n) => writer.int32(*number, *n),
                    Field::Bytes(bytes) => writer.bytes(*number, bytes),
                }
            }
            let message = writer.finish();
            let read: Vec<_> = fields(&message).map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), list.len());
            for ((number, value), (wanted, field)) in read.iter().zip(&list) {
                prop_assert_eq!(number, wanted);
                match field {
                    Field::Number(n) => prop_assert_eq!(*value, Value::Number(*n)),
                    Field::Int(n) => prop_assert_eq!(value.int32().unwrap(), *n),
                    Field::Bytes(bytes) => prop_assert_eq!(value.bytes().unwrap(), &bytes[..]),
                }
            }
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
