//! Signal names and numbers, as Docker's clients write them.

use crate::error::{Error, Result};

/// Names without `SIG`, by number from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// First and last real-time signal, as the C library gives them to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a name with or without `SIG`, in any case, or a number.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let bad = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) {
            Ok(number)
        } else {
            Err(bad())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return Ok(at as i32 + 1);
    }
    let real_time = match name {
        "IOT" => return Ok(6),
        "CLD" => return Ok(17),
        "POLL" => return Ok(29),
        "UNUSED" => return Ok(31),
        "RTMIN" => RTMIN,
        "RTMAX" => RTMAX,
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(more), _) => RTMIN + more.parse::<i32>().map_err(|_| bad())?,
            (_, Some(less)) => RTMAX - less.parse::<i32>().map_err(|_| bad())?,
            (None, None) => return Err(bad()),
        },
    };
    if (RTMIN..=RTMAX).contains(&real_time) {
        Ok(real_time)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("SIGWINCH", 28),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "-1", "65", "SIGNOPE", "RTMIN+99"] {
            assert_eq!(
                parse(text).unwrap_err().message,
                format!("invalid signal: {text}")
            );
        }
    }
}
