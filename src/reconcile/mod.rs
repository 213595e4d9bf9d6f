//! What should happen: pure.
