//! Tests of: locks.
