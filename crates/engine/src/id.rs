//! Identifiers and names: random ids, Docker's rules for names, and names made up for containers that have none.

use rand::Rng;

use crate::error::{Error, Result};

/// 64 lower hex digits from the system's generator. As in Docker, never one whose first twelve digits are all decimal: a
/// host name made of digits only is taken for an address by some programs.
pub(crate) fn new_id() -> String {
    loop {
        let mut bytes = [0u8; 32];
        rand::rng().fill(&mut bytes);
        let id = hex(&bytes);
        if id[..12].bytes().any(|digit| digit.is_ascii_lowercase()) {
            return id;
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

/// The twelve digits that people see.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn matches_name(name: &str, length_min: usize) -> bool {
    let mut chars = name.chars();
    name.len() >= length_min
        && chars
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Checks a container's name, a leading slash allowed, and returns it without the slash.
pub(crate) fn container_name(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    match matches_name(bare, 2) {
        true => Ok(bare),
        false => Err(Error::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))),
    }
}

/// Checks a volume's name.
pub(crate) fn volume_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    match matches_name(name, 2) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ))),
    }
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ample", "apt", "ardent", "blithe", "bold", "brave", "bright",
    "brisk", "calm", "candid", "clear", "clever", "coral", "cosmic", "crisp", "curious", "daring",
    "deft", "eager", "early", "earnest", "fair", "fleet", "fond", "frank", "fresh", "gentle",
    "glad", "golden", "grand", "hardy", "hearty", "honest", "humble", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mighty", "modest", "neat", "nimble",
    "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid", "ready",
    "robust", "rustic", "sage", "serene", "sharp", "silent", "sleek", "smart", "snug", "solid",
    "spry", "stable", "steady", "stout", "sturdy", "sunny", "swift", "tidy", "tranquil", "trim",
    "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

const NOUNS: &[&str] = &[
    "anchor",
    "barge",
    "bay",
    "beacon",
    "boom",
    "bosun",
    "bow",
    "breeze",
    "brig",
    "buoy",
    "cabin",
    "canal",
    "canoe",
    "capstan",
    "captain",
    "catamaran",
    "clipper",
    "coast",
    "compass",
    "coracle",
    "corvette",
    "cove",
    "crane",
    "crew",
    "current",
    "cutter",
    "davit",
    "deck",
    "delta",
    "dhow",
    "dinghy",
    "dock",
    "estuary",
    "fathom",
    "ferry",
    "fjord",
    "fleet",
    "frigate",
    "galleon",
    "gangway",
    "halyard",
    "harbour",
    "hatch",
    "hawser",
    "helm",
    "inlet",
    "island",
    "jetty",
    "jib",
    "junk",
    "kayak",
    "keel",
    "ketch",
    "knot",
    "lagoon",
    "lantern",
    "launch",
    "league",
    "lighthouse",
    "lugger",
    "mainsail",
    "marina",
    "mast",
    "mooring",
    "navigator",
    "oar",
    "packet",
    "paddle",
    "pier",
    "pilot",
    "porthole",
    "prow",
    "quay",
    "raft",
    "reef",
    "regatta",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shoal",
    "skiff",
    "sloop",
    "spinnaker",
    "starboard",
    "stern",
    "tender",
    "tide",
    "tiller",
    "trawler",
    "tug",
    "wharf",
    "winch",
    "yacht",
    "yawl",
];

/// A name for a container that was given none; `attempt` above zero adds a digit, as Docker does on a collision.
pub(crate) fn made_up_name(attempt: u32) -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let noun = NOUNS[rng.random_range(0..NOUNS.len())];
    match attempt {
        0 => format!("{adjective}_{noun}"),
        _ => format!(
            "{adjective}_{noun}{}",
            rng.random_range(0..10u32.saturating_pow(attempt.min(6)))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        assert_eq!(container_name("/web-1.x_y").unwrap(), "web-1.x_y");
        for bad in ["", "/", "a", "-ab", "a b", "a/b", "é2"] {
            assert!(container_name(bad).is_err(), "{bad}");
        }
        assert!(volume_name("a").is_err());
        assert!(volume_name("site").is_ok());
    }

    #[test]
    fn ids_are_hex_and_differ() {
        let (one, two) = (new_id(), new_id());
        assert_ne!(one, two);
        assert_eq!(one.len(), 64);
        assert!(container_name(&made_up_name(3)).is_ok());
    }
}
