//! First commit pending.
