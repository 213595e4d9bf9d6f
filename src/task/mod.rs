//! One run, start to end (spec 7).

pub mod hooks;
