//! Tests of: fidelity.
