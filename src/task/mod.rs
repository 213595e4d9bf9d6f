//! One run, start to end (spec 7).
