//! Tests of: filter.
