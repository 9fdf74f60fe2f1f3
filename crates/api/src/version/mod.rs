//! API versions, and the differences between them: an older client's request is brought to the current meaning
//! ([`adapt_create`] and its siblings), and an answer to what the client knows. The source is moby's version history
//! (api/docs/CHANGELOG.md) and, where that is silent, what its daemon does.

mod answers;
mod requests;

use std::fmt;

pub(crate) use answers::with_virtual_size;
pub use answers::{
    adapt_container_list, adapt_event, adapt_image_inspect, adapt_image_list, adapt_info,
    adapt_inspect, shows_event,
};
pub use requests::{
    adapt_create, adapt_exec, adapt_exec_start, adapt_network_create, adapt_update,
};

/// A version of the Engine API, such as 1.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 1 so far.
    pub major: u16,
    /// Counts the changes.
    pub minor: u16,
}

impl Version {
    /// The oldest that the daemon speaks.
    pub const MIN: Version = Version::new(40);
    /// The newest, and the one meant by a path without version.
    pub const CURRENT: Version = Version::new(55);
    /// Sums in `system df`; legacy members of events and of network settings are gone.
    pub const V1_52: Version = Version::new(52);

    /// Version 1.`minor`.
    pub const fn new(minor: u16) -> Self {
        Version { major: 1, minor }
    }

    /// Reads `1.44`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |t: &str| {
            t.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| t.parse().ok())
                .flatten()
        };
        Some(Version {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    /// Refuses what the daemon does not speak.
    ///
    /// # Errors
    /// Docker's sentence (status 400).
    pub fn check(self) -> Result<Self, String> {
        if self < Self::MIN {
            return Err(format!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
                Self::MIN
            ));
        }
        if self > Self::CURRENT {
            return Err(format!(
                "client version {self} is too new. Maximum supported API version is {}",
                Self::CURRENT
            ));
        }
        Ok(self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_versions_in_dockers_words() {
        let check = |text: &str| Version::parse(text).map(|v| v.check().map(|v| v.to_string()));
        assert_eq!(check("1.44"), Some(Ok("1.44".into())));
        assert_eq!(
            check("1.39"),
            Some(Err("client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version".into()))
        );
        assert_eq!(
            check("1.56"),
            Some(Err(
                "client version 1.56 is too new. Maximum supported API version is 1.55".into()
            ))
        );
        assert_eq!(check("2.0").map(|r| r.is_err()), Some(true));
        for bad in ["", "1", "1.", ".44", "1.-4", "1.+4", "a.b", "1.44.1"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }
}
