//! Image names to descriptors: pull and push client, unpack, save and load, platforms.
#![forbid(unsafe_code)]
