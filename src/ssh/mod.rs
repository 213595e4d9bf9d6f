//! The way to a remote replica (spec 5).
