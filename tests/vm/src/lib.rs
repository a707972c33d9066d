//! End-to-end tests that boot a guest
