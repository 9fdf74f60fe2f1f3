//! What Docker's output takes from Go's standard library: number and string quoting, durations,
//! human sizes, elastic tabs, JSON layout. Pure.

pub mod duration;
pub mod json;
pub mod strconv;
pub mod tabwriter;
pub mod time;
pub mod units;
