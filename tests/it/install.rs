//! Tests of: install.
