//! Generates the message types, clients and servers of both proto files, and the JSON mapping of packet metadata.
//!
//! The files are parsed by protox, so that no `protoc` has to be installed.

use std::error::Error;

use prost::Message;

/// The messages that have a JSON form: packet metadata and everything below it.
const JSON_MESSAGES: [&str; 8] = [
    ".lippycat.data.PacketMetadata",
    ".lippycat.data.SIPMetadata",
    ".lippycat.data.AccessNetworkInfo",
    ".lippycat.data.RTPMetadata",
    ".lippycat.data.DNSMetadata",
    ".lippycat.data.DNSAnswer",
    ".lippycat.data.EmailMetadata",
    ".lippycat.data.TLSSessionKeys",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["data.proto", "management.proto"], ["proto"])?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .preserve_proto_field_names()
        .btree_map(["."])
        .build(&JSON_MESSAGES)?;
    tonic_prost_build::configure()
        .bytes(".lippycat")
        .btree_map(".")
        .generate_default_stubs(true)
        .compile_fds(descriptors)?;
    Ok(())
}
