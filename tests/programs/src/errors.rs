//! What must fail, and how.
