//! Many tasks, one after the other (spec 7, "Batch").
