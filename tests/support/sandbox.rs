//! A temporary directory with two replicas, and the binary run in it.
