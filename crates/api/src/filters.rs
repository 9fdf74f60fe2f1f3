//! The `filters` query parameter: `{"label": ["a=b"]}`, or `{"label": {"a=b": true}}` from old clients.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Keys, each with the set of wanted values: values of a key are alternatives, keys must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the parameter; empty text is no filter.
    ///
    /// # Errors
    /// Docker's sentence (status 400) where the text has neither form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || format!("invalid filter: {text:?} is not a map of lists");
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return Err("invalid filter".to_owned());
        };
        let mut filters = Self::default();
        for (key, values) in object {
            match values {
                Value::Array(list) => {
                    for value in list {
                        filters.add(&key, value.as_str().ok_or_else(invalid)?);
                    }
                }
                Value::Object(set) => {
                    for (value, wanted) in set {
                        // Go keeps a key whose value is false, too; it is never matched, nor ever sent.
                        if wanted.as_bool().ok_or_else(invalid)? {
                            filters.add(&key, &value);
                        }
                    }
                }
                Value::Null => {}
                _ => return Err(invalid()),
            }
        }
        Ok(filters)
    }

    /// The parameter's text in the newer form; empty where there is no filter.
    pub fn encode(&self) -> String {
        match self.fields.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&self.fields).unwrap_or_default(),
        }
    }

    /// Adds a wanted value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.fields
            .entry(key.to_owned())
            .or_default()
            .insert(value.to_owned());
    }

    /// Is there no filter at all?
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Is the key filtered on?
    pub fn contains(&self, key: &str) -> bool {
        self.fields
            .get(key)
            .is_some_and(|values| !values.is_empty())
    }

    /// Wanted values of a key, in order.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.fields
            .get(key)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Refuses keys that the route does not know.
    ///
    /// # Errors
    /// `invalid filter 'key'` (status 400).
    pub fn validate(&self, accepted: &[&str]) -> Result<(), String> {
        match self
            .fields
            .keys()
            .find(|key| !accepted.contains(&key.as_str()))
        {
            Some(key) => Err(format!("invalid filter '{key}'")),
            None => Ok(()),
        }
    }

    /// Holds where the key is not filtered on, or `value` is one of the wanted.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.matches(key, |wanted| wanted == value)
    }

    /// Holds where the key is not filtered on, or `test` holds for one of the wanted values.
    pub fn matches(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        !self.contains(key) || self.get(key).any(test)
    }

    /// Key/value filters such as `label`: *every* wanted `key` or `key=value` must be among `pairs`.
    pub fn matches_pairs(&self, key: &str, pairs: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => pairs.get(name).is_some_and(|v| v == value),
            None => pairs.contains_key(wanted),
        })
    }

    /// `label!`: holds where not every wanted pair is among `pairs`, or none is wanted.
    pub fn excludes_pairs(&self, key: &str, pairs: &BTreeMap<String, String>) -> bool {
        !self.contains(key) || !self.matches_pairs(key, pairs)
    }

    /// A boolean filter such as `dangling`.
    ///
    /// # Errors
    /// `invalid filter 'key=[value]'` where the value is no boolean, or both are asked for.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, String> {
        let values: Vec<&str> = self.get(key).collect();
        match values[..] {
            [] => Ok(None),
            ["1" | "true" | "True" | "TRUE" | "t" | "T"] => Ok(Some(true)),
            ["0" | "false" | "False" | "FALSE" | "f" | "F"] => Ok(Some(false)),
            _ => Err(format!("invalid filter '{key}={values:?}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..6), any in ".{0,40}") {
            let mut filters = Filters::default();
            for (key, value) in &pairs {
                filters.add(key, value);
            }
            proptest::prop_assert_eq!(Filters::parse(&filters.encode()), Ok(filters));
            let _ = Filters::parse(&any);
        }
    }
}
