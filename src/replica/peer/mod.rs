//! A replica behind ssh whose machine has an osync too: both speak a protocol of their own, and
//! the same code as for a local replica works on the spot (spec 5, "A peer, where there is one";
//! docs/peer-protocol.md).

pub(super) mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod listing;
pub mod protocol;
pub mod serve;
