//! Monitor mode: run again on changes (spec 7).
