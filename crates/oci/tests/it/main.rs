//! Tests of hull-oci's public types; one binary, so that it links once.

mod auth;
mod digest;
mod distribution;
mod image;
mod platform;
mod reference;
mod runtime;
