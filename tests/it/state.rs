//! Tests of: state.
