//! Tests of: signals.
