//! Tests of: remote.
