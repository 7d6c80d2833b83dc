//! The capture daemon of lc-hunt: takes packets from network interfaces and capture files, and puts each into the shared-memory ring of
//! the worker that handles its flow.
//!
//! ```text
//! source ──batch──> filter (kernel, or here for files) ──> steer by flow hash ──> rx ring of worker w
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`source`] | what a source is; capture files; live interfaces |
//! | [`bpf`] | builds and checks the capture filter |
//! | [`steer`] | picks the worker |
//! | `absence` | which workers lose their share of the load to the others |
//! | `engine` | a capture thread: from source to rings |
//! | `regions`, `run_dir`, `broker` | makes the shared regions, says who may have them, and hands them out |
//! | `key_log` | reads secrets of TLS sessions, for the workers |
//! | `pushed`, `control` | filters from the processor, on their way to the capture threads |
//! | `daemon` | puts it all together: [`run`] |
//!
//! One thread per source, one for the broker, one for the key log if there is any, and the main thread, which follows filters and signals.

#![forbid(unsafe_code)]

pub mod bpf;
pub mod source;
pub mod steer;

mod absence;
mod arguments;
mod broker;
mod calls;
mod control;
mod daemon;
mod engine;
mod key_log;
mod pushed;
mod regions;
mod run_dir;

pub use arguments::Arguments;
pub use broker::ListenError;
pub use daemon::{Passed, StartError, open_sources, run};
pub use key_log::KeyLogError;
pub use run_dir::{RunDir, RunDirError};
