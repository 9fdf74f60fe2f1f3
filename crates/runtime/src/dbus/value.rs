//! D-Bus values and their wire form (the D-Bus specification, "Marshaling").
//!
//! Written little-endian; read in either order, as a bus passes on what the sender wrote. What is read comes
//! from outside: lengths, depths and padding are checked, and nothing is allocated by a length alone.

/// Deepest nesting of arrays, structs and variants that is read (the specification allows 64).
const DEPTH_MAX: usize = 64;

/// A value. Dictionaries are arrays of structs with two members and an element `{..}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Str(String),
    Path(String),
    Signature(String),
    /// The element's signature, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

/// What is wrong with bytes or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub &'static str);

type Parsed<T> = Result<T, Malformed>;

impl Value {
    pub(crate) fn str(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// `ay`.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().map(|b| Self::Byte(*b)).collect())
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }

    /// The type, in the specification's letters.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Str(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(members) => {
                let inner: String = members.iter().map(Self::signature).collect();
                format!("({inner})")
            }
            Self::Variant(_) => "v".into(),
        }
    }
}

/// Bytes of a message being written; alignment counts from its start.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, n: u32) {
        self.fixed(&n.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(b) => self.u32(u32::from(*b)),
            Value::I16(n) => self.fixed(&n.to_le_bytes()),
            Value::U16(n) => self.fixed(&n.to_le_bytes()),
            Value::I32(n) => self.fixed(&n.to_le_bytes()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.fixed(&n.to_le_bytes()),
            Value::U64(n) => self.fixed(&n.to_le_bytes()),
            Value::Double(n) => self.fixed(&n.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.signature(text),
            Value::Array(element, items) => {
                self.u32(0);
                let length_at = self.bytes.len() - 4;
                // The padding up to the first element is there in an empty array too, and does not count.
                self.align(alignment(element.as_bytes().first().copied()));
                let start = self.bytes.len();
                items.iter().for_each(|item| self.value(item));
                let length = (self.bytes.len() - start) as u32;
                self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Value::Struct(members) => {
                self.align(8);
                members.iter().for_each(|member| self.value(member));
            }
            Value::Variant(inner) => {
                self.signature(&inner.signature());
                self.value(inner);
            }
        }
    }
}

fn alignment(kind: Option<u8>) -> usize {
    match kind {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Length of the first complete type of a signature.
fn complete(signature: &[u8], depth: usize) -> Parsed<usize> {
    if depth > DEPTH_MAX {
        return Err(Malformed("signature nested too deep"));
    }
    match signature.first() {
        Some(
            b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
            | b'v',
        ) => Ok(1),
        Some(b'a') => Ok(1 + complete(&signature[1..], depth + 1)?),
        Some(open @ (b'(' | b'{')) => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at).ok_or(Malformed("signature ends early"))? != close {
                at += complete(&signature[at..], depth + 1)?;
            }
            if at == 1 {
                return Err(Malformed("empty struct"));
            }
            Ok(at + 1)
        }
        _ => Err(Malformed("unknown type in a signature")),
    }
}

/// Bytes being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

macro_rules! number {
    ($reader:expr, $type:ty) => {{
        let bytes = $reader.fixed()?;
        if $reader.big_endian {
            <$type>::from_be_bytes(bytes)
        } else {
            <$type>::from_le_bytes(bytes)
        }
    }};
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self {
            bytes,
            at: 0,
            big_endian,
        }
    }

    fn take(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let end = self.at.checked_add(length);
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or(Malformed("message ends early"))?;
        self.at += length;
        Ok(part)
    }

    pub(crate) fn align(&mut self, to: usize) -> Parsed<()> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Malformed("padding is not zero"));
        }
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.align(N)?;
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| Malformed("message ends early"))
    }

    pub(crate) fn u32(&mut self) -> Parsed<u32> {
        Ok(number!(self, u32))
    }

    fn text(&mut self, length: usize) -> Parsed<String> {
        let bytes = self.take(length)?;
        if self.take(1)? != [0] {
            return Err(Malformed("text does not end in NUL"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Every value of a signature.
    pub(crate) fn values(&mut self, signature: &str) -> Parsed<Vec<Value>> {
        self.sequence(signature.as_bytes(), 0)
    }

    fn sequence(&mut self, mut signature: &[u8], depth: usize) -> Parsed<Vec<Value>> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let length = complete(signature, depth)?;
            values.push(self.value(&signature[..length], depth)?);
            signature = &signature[length..];
        }
        Ok(values)
    }

    fn value(&mut self, signature: &[u8], depth: usize) -> Parsed<Value> {
        if depth > DEPTH_MAX {
            return Err(Malformed("value nested too deep"));
        }
        let kind = signature.first().ok_or(Malformed("empty signature"))?;
        Ok(match kind {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(match self.u32()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed("boolean is neither 0 nor 1")),
            }),
            b'n' => Value::I16(number!(self, i16)),
            b'q' => Value::U16(number!(self, u16)),
            b'i' => Value::I32(number!(self, i32)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(number!(self, i64)),
            b't' => Value::U64(number!(self, u64)),
            b'd' => Value::Double(number!(self, f64)),
            b's' | b'o' => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if *kind == b's' {
                    Value::Str(text)
                } else {
                    Value::Path(text)
                }
            }
            b'g' => {
                let length = usize::from(self.take(1)?[0]);
                Value::Signature(self.text(length)?)
            }
            b'v' => {
                let length = usize::from(self.take(1)?[0]);
                let inner = self.text(length)?;
                if complete(inner.as_bytes(), depth)? != inner.len() {
                    return Err(Malformed("a variant holds one value"));
                }
                Value::Variant(Box::new(self.value(inner.as_bytes(), depth + 1)?))
            }
            b'a' => self.array(&signature[1..], depth + 1)?,
            _ => {
                self.align(8)?;
                let members = &signature[1..signature.len() - 1];
                Value::Struct(self.sequence(members, depth + 1)?)
            }
        })
    }

    fn array(&mut self, element: &[u8], depth: usize) -> Parsed<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(element.first().copied()))?;
        let end = self.at.checked_add(length);
        let end = end.filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed("array is longer than its message"))?;
        let mut items = Vec::new();
        // Every element takes at least one byte, so this ends.
        while self.at < end {
            items.push(self.value(element, depth)?);
        }
        if self.at != end {
            return Err(Malformed("array's length is not that of its elements"));
        }
        Ok(Value::Array(
            String::from_utf8_lossy(element).into_owned(),
            items,
        ))
    }

    /// Bytes that are left.
    pub(crate) fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (-1e9..1e9).prop_map(Value::Double),
            "[a-zäö ]{0,12}".prop_map(Value::Str),
            "(/[a-z]{1,4}){1,3}".prop_map(Value::Path),
            Just(Value::Signature("a(sv)".into())),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        scalar().prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                inner.clone().prop_map(|v| Value::Variant(Box::new(v))),
                (inner, 0..4_usize).prop_map(|(v, n)| Value::Array(v.signature(), vec![v; n])),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(value(), 0..5)) {
            let mut writer = Writer::default();
            values.iter().for_each(|v| writer.value(v));
            let signature: String = values.iter().map(Value::signature).collect();
            let mut reader = Reader::new(&writer.bytes, false);
            prop_assert_eq!(reader.values(&signature).unwrap(), values);
            prop_assert_eq!(reader.rest(), 0);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), signature in "[ybnqiuxtdsogva(){}]{0,12}", big in any::<bool>()) {
            let _ = Reader::new(&bytes, big).values(&signature);
        }
    }

    #[test]
    fn the_specification_s_example() {
        // An array of one 64-bit number at an odd place: 4 bytes of padding that its length does not count.
        let mut writer = Writer::default();
        writer.value(&Value::Array("x".into(), vec![Value::I64(5)]));
        assert_eq!(
            writer.bytes,
            [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
        );
        let big = [0, 0, 0, 3, b'f', b'o', b'o', 0];
        let read = Reader::new(&big, true).values("s").unwrap();
        assert_eq!(read, [Value::str("foo")]);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "a".repeat(200) + "y";
        assert!(Reader::new(&[0; 1024], false).values(&deep).is_err());
        let variants = [1, b'v', 0].repeat(300);
        assert!(Reader::new(&variants, false).values("v").is_err());
    }
}
