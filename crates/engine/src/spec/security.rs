//! `--security-opt`, read.

use crate::error::{Error, Result};

/// Which system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SeccompChoice {
    /// The daemon's.
    #[default]
    Default,
    /// Docker's, whatever the daemon's is.
    Builtin,
    /// None.
    Unconfined,
    /// A profile, as JSON.
    Profile(String),
}

/// All of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecurityOptions {
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) seccomp: SeccompChoice,
    /// Profile name; none: the default.
    pub(crate) apparmor: Option<String>,
    /// `disable`, `type:..`, `level:..`, ...
    pub(crate) labels: Vec<String>,
    pub(crate) system_paths_unconfined: bool,
    pub(crate) writable_cgroups: Option<bool>,
}

impl SecurityOptions {
    /// Reads the list, in Docker's two spellings (`key=value`, and `key:value` of old).
    pub(crate) fn parse(options: &[String]) -> Result<SecurityOptions> {
        let mut parsed = SecurityOptions::default();
        for option in options {
            if option == "no-new-privileges" {
                parsed.no_new_privileges = Some(true);
                continue;
            }
            if option == "disable" {
                parsed.labels.push("disable".to_owned());
                continue;
            }
            let (key, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: {option:?}")))?;
            match key {
                "label" => parsed.labels.push(value.to_owned()),
                "apparmor" => parsed.apparmor = Some(value.to_owned()),
                "seccomp" => {
                    parsed.seccomp = match value {
                        "unconfined" => SeccompChoice::Unconfined,
                        "builtin" => SeccompChoice::Builtin,
                        profile => SeccompChoice::Profile(profile.to_owned()),
                    }
                }
                "no-new-privileges" => parsed.no_new_privileges = Some(boolean(key, value)?),
                "writable-cgroups" => parsed.writable_cgroups = Some(boolean(key, value)?),
                "systempaths" if value == "unconfined" => parsed.system_paths_unconfined = true,
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid --security-opt 2: {option:?}"
                    )));
                }
            }
        }
        Ok(parsed)
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!(
            "invalid --security-opt 2: \"{key}={value}\""
        ))),
    }
}
