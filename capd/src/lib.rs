//! The capture daemon of lc-hunt: takes packets from network interfaces and capture files, and puts each into the shared-memory ring of
//! the worker that handles its flow.
//!
//! ```text
//! source ──batch──> filter (kernel, or here for files) ──> steer by flow hash ──> rx ring of worker w
//! ```
//!
//! One thread per source. [`source`] says what a source is and holds the file and live ones, [`bpf`] builds and checks the capture filter,
//! [`steer`] picks the worker.

#![forbid(unsafe_code)]

pub mod bpf;
pub mod source;
pub mod steer;
