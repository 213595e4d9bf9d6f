//! Tests of: security.
