//! SIP: what one message costs, from its first byte to what calls need of it; and framing a stream.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_workerd::sip::framer::{Framer, Limits};
use lc_workerd::sip::message::Message;
use lc_workerd::sip::sdp::Session;

const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 96 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 opus/48000/2\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

fn message(line: &str, cseq: &str, body: &str) -> Vec<u8> {
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds;rport\r\nMax-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\nTo: Bob <sip:bob@biloxi.example>\r\n\
         Call-ID: a84b4c76e66710@pc33.atlanta.example\r\nCSeq: 314159 {cseq}\r\nContact: <sip:alice@192.0.2.10:5060>\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\nSupported: replaces, timer\r\n\
         User-Agent: bench\r\n{}Content-Length: {}\r\n\r\n{body}",
        if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" },
        body.len(),
    )
    .into_bytes()
}

fn messages() -> [(&'static str, Vec<u8>); 3] {
    [
        (
            "INVITE",
            message("INVITE sip:bob@biloxi.example SIP/2.0", "INVITE", SDP),
        ),
        ("200 with SDP", message("SIP/2.0 200 OK", "INVITE", SDP)),
        (
            "REGISTER",
            message("REGISTER sip:biloxi.example SIP/2.0", "REGISTER", ""),
        ),
    ]
}

/// What calls ask of a message. Returns how many endpoints it announces.
fn read(bytes: &[u8]) -> usize {
    let message = Message::parse(bytes).expect("a message");
    black_box((
        message.method_token(),
        message.status(),
        message.cseq_method(),
    ));
    black_box((message.call_id().ok(), message.from(), message.to()));
    Session::of(&message).map_or(0, |session| session.endpoints().count())
}

fn sip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sip");
    for (name, bytes) in &messages() {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("parse", name), |bencher| {
            bencher.iter(|| Message::parse(black_box(bytes)));
        });
        group.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| read(black_box(bytes)));
        });
    }
    let stream: Vec<u8> = messages()
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let stream = stream.repeat(8);
    for segment in [1460, usize::MAX] {
        group.throughput(Throughput::Bytes(stream.len() as u64));
        let name = if segment == usize::MAX {
            "one chunk".to_owned()
        } else {
            format!("chunks of {segment}")
        };
        group.bench_function(BenchmarkId::new("frame", name), |bencher| {
            bencher.iter(|| {
                let mut framer = Framer::new(Limits::default(), 0);
                let mut messages = 0;
                for mut chunk in stream.chunks(segment) {
                    while framer.next(&mut chunk).is_some() {
                        messages += 1;
                    }
                }
                assert_eq!(messages, 24);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sip);
criterion_main!(benches);
