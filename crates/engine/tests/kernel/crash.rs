//! The daemon dies at a failure point; the next one finds a world that fits its database.

use std::ffi::OsString;

use crate::fixture::Case;

pub const CASES: &[Case] = &[];

/// The process that dies.
pub fn victim(_args: &[OsString]) -> i32 {
    1
}
