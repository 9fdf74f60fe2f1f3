//! OCI distribution server over the content store.
#![forbid(unsafe_code)]
