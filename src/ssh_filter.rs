//! The forced command on the other side (spec 7, "ssh filter").
