//! What the user typed; the only place that wires rooms together.
