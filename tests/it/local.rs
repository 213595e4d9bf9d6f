//! Tests of: local.
