//! Tests of: upgrade.
