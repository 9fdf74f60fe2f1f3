//! What the program was built from. Known to its topmost crate alone, so that a commit rebuilds that crate and no other:
//! the program's `main` tells it once, command line and engine show it.

use std::sync::OnceLock;

use jiff::Timestamp;

static BUILD: OnceLock<Build> = OnceLock::new();

/// What the program was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The commit, shortened; `unknown` where there was no git.
    pub commit: String,
    /// When, as Docker writes it (`2025-05-30T12:07:14.000000000+00:00`); empty where nobody knows.
    pub time: String,
}

impl Build {
    /// `time` in seconds since 1970; nothing else is a time.
    pub fn new(commit: &str, time: &str) -> Build {
        let stamp = time
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        Build {
            commit: if commit.is_empty() { "unknown" } else { commit }.to_owned(),
            time: stamp
                .map(|stamp| {
                    stamp
                        .strftime("%Y-%m-%dT%H:%M:%S.000000000+00:00")
                        .to_string()
                })
                .unwrap_or_default(),
        }
    }

    /// What [`Build::tell`] was told; unknown in a program that never told.
    pub fn get() -> Build {
        BUILD.get().cloned().unwrap_or_else(|| Build::new("", ""))
    }

    /// Has [`Build::get`] give this one; the first call counts.
    pub fn tell(self) {
        BUILD.get_or_init(|| self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_docker_does() {
        let build = Build::new("0123456", "1748606834");
        assert_eq!(build.time, "2025-05-30T12:07:14.000000000+00:00");
        for bad in ["", "yesterday", "99999999999999999999", "9999999999999999"] {
            assert_eq!(
                Build::new("", bad),
                Build {
                    commit: "unknown".to_owned(),
                    time: String::new()
                }
            );
        }
    }
}
