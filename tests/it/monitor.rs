//! Tests of: monitor.
