//! OCI image, runtime and distribution types, digests, references and platforms; pure.
#![forbid(unsafe_code)]
