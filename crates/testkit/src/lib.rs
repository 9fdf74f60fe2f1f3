//! Test support: contract suites, throwaway namespaces, image fixtures, the VM harness.
#![forbid(unsafe_code)]
