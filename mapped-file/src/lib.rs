//! Files that are worked on through a shared mapping, with the guarantees of reads and writes at positions.
//!
//! On a plain mapping, a page that the system can't give is a SIGBUS, which ends the process: because the disk is full or fails, or because
//! somebody has cut the file. Here it is an error with a number, or a read that ends early, as `pread` and `pwrite` would have it:
//!
//! - *What a file grows by* is written by `pwrite`: a full or read-only disk answers there, the file ends where its last byte does, and
//!   it is several times as fast (`cargo bench --package lc-bench --bench segment`). Everything else goes through the mapping.
//! - *During* a copy, the handler of SIGBUS knows which mapping the thread copies from or to. On a fault there it puts memory of zeros in its
//!   place, so that the copy can end.
//! - *After* a copy that hit a fault, the mapping is thrown away, and the same is done once more by `pread` or `pwrite`. What those say is the
//!   outcome: the error with its number, or how many bytes there are. The next operation maps the file anew.
//!
//! So is done, too, what can't be mapped at all: files of a file system that does not map. Mapping and positions show the same page cache.
//!
//! Guarantees: no reference to mapped bytes exists, only copies of them, since whoever can open the file can change them at any moment. What was
//! written is in the page cache when [`MappedFile::write_at`] returns, and outlives the process. A SIGBUS that is none of these faults
//! goes to whoever had the signal before, and ends the process as ever.
//!
//! Not guaranteed: the handler helps nobody when another takes the signal over later and does not pass it on, nor when the system has no
//! memory left for the zeros.
//!
//! | module | what it does |
//! |---|---|
//! | `file` | what is mapped, what is done at positions |
//! | `mapping` | one mapping: bounds, copies |
//! | `fault` | the handler of SIGBUS |
//!
//! Beside `shm-layout` and `packet-socket` the only crate with `unsafe`: mappings, and the handler of a signal.

mod fault;
mod file;
mod mapping;

pub use file::MappedFile;
