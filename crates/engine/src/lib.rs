//! Container, exec, volume, image, network services; policy, restore, events, prune. No HTTP.
#![forbid(unsafe_code)]
