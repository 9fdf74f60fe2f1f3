//! Detach keys: a sequence such as `ctrl-p,ctrl-q` in the input that leaves the container alone.

/// Ctrl-p, ctrl-q.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-a,x,DEL`.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| match key.as_bytes() {
            [byte] => Ok(*byte),
            b"DEL" => Ok(127),
            [
                b'c',
                b't',
                b'r',
                b'l',
                b'-',
                key @ (b'@' | b'a'..=b'z' | b'[' | b'\\' | b']' | b'^' | b'_'),
            ] => Ok(if *key == b'@' {
                0
            } else {
                key.to_ascii_uppercase() - b'@'
            }),
            _ => Err(format!("Unknown character: '{key}'")),
        })
        .collect()
}

/// Watches input for the sequence.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

/// What to do with a piece of input.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// Pass these bytes on.
    Pass(Vec<u8>),
    /// The sequence is complete; the bytes before it are to be passed on.
    Detach(Vec<u8>),
}

impl Watch {
    /// Watches for `keys`.
    pub fn new(keys: Vec<u8>) -> Watch {
        Watch { keys, matched: 0 }
    }

    /// Takes input; the beginning of a sequence is held back until it is known how it goes on.
    pub fn feed(&mut self, input: &[u8]) -> Seen {
        let mut out = Vec::with_capacity(input.len());
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Seen::Detach(out);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                out.push(byte);
            }
        }
        Seen::Pass(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-@,ctrl-_,DEL").unwrap(), [b'a', 0, 31, 127]);
        assert_eq!(parse("x-y").unwrap_err(), "Unknown character: 'x-y'");
    }

    #[test]
    fn sequences() {
        let mut watch = Watch::new(DEFAULT.into());
        assert_eq!(watch.feed(b"ab\x10"), Seen::Pass(b"ab".to_vec()));
        assert_eq!(watch.feed(b"c"), Seen::Pass(b"\x10c".to_vec()));
        assert_eq!(watch.feed(b"\x10\x10"), Seen::Pass(b"\x10".to_vec()));
        assert_eq!(watch.feed(b"\x11rest"), Seen::Detach(Vec::new()));
    }
}
