//! SIP and session descriptions: the one parser for detection, filters and calls.
pub mod address;
pub mod body;
pub mod framer;
pub mod header;
pub mod identity;
pub mod lines;
pub mod message;
pub mod method;
pub mod sdp;
