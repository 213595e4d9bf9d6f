//! Tests of: moves.
