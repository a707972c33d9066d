//! Conformance tests: one body for both backends
