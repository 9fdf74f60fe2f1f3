//! Query parameters by Docker's rules (`httputils.BoolValue` and its siblings). Pure.

use super::Failure;

/// Decoded parameters in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the question mark.
    ///
    /// # Errors
    /// A broken percent escape (status 400), as Go's `url.ParseQuery`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(key, true)?, decode(value, true)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of a key; empty where it is absent.
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or_default()
    }

    /// The first value of a key.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Docker's booleans: absent, empty, `0`, `no`, `false` and `none` are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        !matches!(
            self.get(key).trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// As [`Query::flag`], with a default for an absent key.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        match self.find(key) {
            Some(_) => self.flag(key),
            None => default,
        }
    }

    /// A number, absent or empty for `None`.
    ///
    /// # Errors
    /// Go's `strconv` sentence (status 400).
    pub fn number(&self, key: &str) -> Result<Option<i64>, Failure> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            Failure::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
        })
    }

    /// The `filters` parameter.
    ///
    /// # Errors
    /// Docker's sentence (status 400).
    pub fn filters(&self) -> Result<hull_api::filters::Filters, Failure> {
        hull_api::filters::Filters::parse(self.get("filters")).map_err(Failure::invalid)
    }
}

/// Undoes percent encoding; `plus` also reads `+` as a space, as in queries.
///
/// # Errors
/// `invalid URL escape "%x"` (status 400), also for bytes that are not UTF-8.
pub fn decode(text: &str, plus: bool) -> Result<String, Failure> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                // Checked before the conversion, which would take a sign too.
                let escape = bytes
                    .get(at + 1..at + 3)
                    .filter(|h| h.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|h| std::str::from_utf8(h).ok());
                let value = escape.and_then(|h| u8::from_str_radix(h, 16).ok());
                let Some(value) = value else {
                    let shown =
                        String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned();
                    return Err(Failure::invalid(format!("invalid URL escape {shown:?}")));
                };
                out.push(value);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8(out).map_err(|_| Failure::invalid("invalid URL: not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_and_reads_flags() {
        let query = Query::parse("a=1&b=x%20y+z&c&d=False&t=5&s=-1&bad=q&m=1&m=2").unwrap();
        assert!(
            query.flag("a")
                && !query.flag("c")
                && !query.flag("d")
                && !query.flag("zz")
                && query.flag_or("zz", true)
        );
        assert_eq!(query.get("b"), "x y z");
        assert_eq!(
            (
                query.number("t").unwrap(),
                query.number("s").unwrap(),
                query.number("zz").unwrap()
            ),
            (Some(5), Some(-1), None)
        );
        assert_eq!(
            query.number("bad").unwrap_err().message,
            "strconv.Atoi: parsing \"q\": invalid syntax"
        );
        assert_eq!(query.all("m").collect::<Vec<_>>(), ["1", "2"]);
        assert!(
            Query::parse("a=%zz").is_err()
                && Query::parse("a=%f").is_err()
                && Query::parse("a=%+f").is_err()
                && Query::parse("a=%ff").is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read(pairs in proptest::collection::vec((".{1,10}", ".{0,20}"), 0..5)) {
            let escape = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
            let parts: Vec<String> = pairs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
            let query = Query::parse(&parts.join("&")).unwrap();
            prop_assert_eq!(query.0, pairs);
        }

        #[test]
        fn any_query_is_read_or_refused(text in "[a-z0-9%+&=f-]{0,40}") {
            // Each `%` is followed by two digits, or the whole is refused.
            let broken = text.split('%').skip(1).any(|rest| {
                let digits = rest.get(..2).unwrap_or("");
                digits.len() < 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit())
            });
            let read = Query::parse(&text);
            prop_assert!(!broken || read.is_err(), "{read:?}");
        }
    }
}
