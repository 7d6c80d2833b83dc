//! Packets on their way to a processor: order, acknowledgement, release, and what happens when something breaks.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lc_proto::data::{FlowControl, PacketBatch};
use lc_proto::management::HunterStatus;
use node::{Node, Running, encoded, number, until};
use processor::{PacketStream, Processor};
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::Connection;
use shm_layout::session::QueueState;
use tonic::Status;

const INSECURE: &str = "insecure = true\nbatch_size = 4\nbatch_timeout_ms = 20";

fn numbers(batch: &PacketBatch) -> Vec<u32> {
    batch.packets.iter().map(number).collect()
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as i64
}

/// Takes batches, acknowledging each, until there are `count` packets.
fn take(processor: &Processor, stream: &mut PacketStream, count: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = processor.batch(stream);
        all.extend(numbers(&batch));
        stream.ack(batch.sequence);
    }
    all
}

#[test]
fn packets_arrive_in_order_and_once_and_the_rings_are_released() {
    let mut node = Node::new(2);
    let mut processor = Processor::start();
    let running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let [first, second] = &mut node.workers[..] else {
        unreachable!()
    };
    let mut arrived = Vec::new();
    let mut stream = processor.stream();
    std::thread::scope(|scope| {
        // More than the rings hold: without release the writers would never end.
        scope.spawn(|| (0..300).for_each(|n| first.emit(n * 10..(n + 1) * 10)));
        scope.spawn(|| (500..800).for_each(|n| second.emit(n * 10..(n + 1) * 10)));
        arrived = take(&processor, &mut stream, 6000);
    });
    let of = |range: std::ops::Range<u32>| -> Vec<u32> {
        arrived
            .iter()
            .copied()
            .filter(|n| range.contains(n))
            .collect()
    };
    assert_eq!(of(0..5000), (0..3000).collect::<Vec<_>>());
    assert_eq!(of(5000..9000), (5000..8000).collect::<Vec<_>>());
    until("everything released", || {
        node.workers.iter().all(|worker| worker.ring.used() == 0)
    });
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::Acked), 6000);
    assert_eq!(commit.get(ForwardCounter::Dropped), 0);
    assert_eq!((commit.tx_done(0), commit.tx_done(1)), (3000, 3000));
    assert_eq!(running.stop().unacked_packets, 0);
    processor.end(&mut stream);
}

#[test]
fn a_batch_has_a_new_number_the_time_of_sending_and_the_senders_name() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    let before = now_ns();
    node.workers[0].emit(0..6);
    let batches = [processor.batch(&mut stream), processor.batch(&mut stream)];
    assert_eq!(numbers(&batches[0]), [0, 1, 2, 3]);
    assert_eq!(numbers(&batches[1]), [4, 5]);
    assert_eq!(batches.each_ref().map(|batch| batch.sequence), [1, 2]);
    for batch in &batches {
        assert_eq!(batch.hunter_id, "edge-1");
        assert!((before..=now_ns()).contains(&batch.timestamp_ns));
        assert!(batch.stats.is_some());
        assert_eq!(batch.packets[0].interface_name, "eth0");
    }
    let registration = processor.shared().registrations.lock().unwrap()[0].clone();
    assert_eq!(registration.hunter_id, "edge-1");
    assert_eq!(registration.interfaces, ["sample.pcap"]);
    let capabilities = registration.capabilities.unwrap();
    let types = "bpf ip_address sip_user phone_number call_id codec sip_uri imsi imei dns_domain email_address email_subject \
                 http_host http_url tls_sni tls_ja3 tls_ja3s tls_ja4";
    assert_eq!(capabilities.filter_types.join(" "), types);
    assert!(capabilities.max_buffer_size > 0);
    let peer = format!("test-processor at {}", processor.address);
    assert_eq!(node.observer.forwarder.peer(), peer);
    assert_eq!(node.observer.forwarder.connection(), Connection::Streaming);
    let endpoints = node.observer.forwarder.endpoints().unwrap();
    assert_eq!(endpoints.addresses, [processor.address]);
}

#[test]
fn nothing_is_released_before_its_batch_is_acknowledged() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..8);
    let (first, second) = (processor.batch(&mut stream), processor.batch(&mut stream));
    assert_eq!((first.sequence, second.sequence), (1, 2));
    let all = node.workers[0].ring.used();
    assert!(all > 0);
    // Both are with the processor and neither is acknowledged.
    assert_eq!(
        processor.batch_within(&mut stream, Duration::from_millis(50)),
        None
    );
    assert_eq!(node.workers[0].ring.used(), all);
    assert_eq!(node.committed().get(ForwardCounter::Acked), 0);
    stream.ack(1);
    until("half released", || node.workers[0].ring.used() == all / 2);
    assert_eq!(node.committed().tx_done(0), 4);
    stream.ack(2);
    until("all released", || node.workers[0].ring.used() == 0);
}

#[test]
fn a_lost_connection_costs_nothing_and_numbers_stay() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let address = processor.address;
    let _running = Running::start(node.config(&address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..12);
    let sent = [1, 2, 3].map(|_| processor.batch(&mut stream));
    stream.ack(1);
    until("the first is settled", || node.committed().tx_done(0) == 4);
    processor.kill();
    until("the loss is noticed", || {
        node.observer.forwarder.connection() == Connection::Waiting
    });
    assert!(!node.observer.forwarder.error().is_empty());

    let mut processor = Processor::listen(address);
    node.workers[0].emit(12..16);
    let mut stream = processor.stream();
    for old in &sent[1..] {
        let again = processor.batch(&mut stream);
        assert_eq!(
            (again.sequence, numbers(&again)),
            (old.sequence, numbers(old))
        );
        assert!(again.timestamp_ns > old.timestamp_ns);
        stream.ack(again.sequence);
    }
    let new = processor.batch(&mut stream);
    assert_eq!((new.sequence, numbers(&new)), (4, vec![12, 13, 14, 15]));
    stream.ack(4);
    until("everything is settled", || {
        node.committed().tx_done(0) == 16
    });
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::ResentBatches), 2);
    assert_eq!(commit.get(ForwardCounter::ResentPackets), 8);
    assert_eq!(commit.get(ForwardCounter::Acked), 16);
}

#[test]
fn a_processor_that_stops_in_good_order_gets_nothing_twice() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let address = processor.address;
    let _running = Running::start(node.config(&address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    let batch = processor.batch(&mut stream);
    processor.go_away();
    stream.ack(batch.sequence);
    until("the answer counted", || node.committed().tx_done(0) == 4);
    drop(stream);
    processor.kill();
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    node.workers[0].emit(4..8);
    assert_eq!(take(&processor, &mut stream, 4), [4, 5, 6, 7]);
    assert_eq!(node.committed().get(ForwardCounter::ResentBatches), 0);
}

#[test]
fn a_pause_is_probed_and_ends_with_any_other_signal() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    let batch = processor.batch(&mut stream);
    stream.ack_with(batch.sequence, FlowControl::FlowPause);
    until("paused", || {
        node.observer.forwarder.connection() == Connection::Paused
    });
    node.workers[0].emit(4..8);
    let probe = processor.batch(&mut stream);
    assert_eq!((probe.packets.len(), probe.sequence), (0, 2));
    stream.ack_with(probe.sequence, FlowControl::FlowPause);
    let probe = processor.batch(&mut stream);
    assert!(probe.packets.is_empty());
    stream.ack_with(probe.sequence, FlowControl::FlowSlow);
    assert_eq!(take(&processor, &mut stream, 4), [4, 5, 6, 7]);
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::Probes), 2);
    assert_eq!(commit.get(ForwardCounter::Pauses), 2);
    assert_eq!(commit.get(ForwardCounter::Slowdowns), 1);
}

#[test]
fn an_answer_that_nobody_asked_for_resets_the_stream() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..8);
    let first = processor.batch(&mut stream);
    stream.ack(first.sequence + 1);
    let mut stream = processor.stream();
    assert_eq!(take(&processor, &mut stream, 8), (0..8).collect::<Vec<_>>());
    until("settled", || {
        node.committed().get(ForwardCounter::Acked) == 8
    });
    assert_eq!(node.committed().get(ForwardCounter::UnexpectedAcks), 1);
}

#[test]
fn a_batch_that_the_processor_cannot_decode_does_not_hold_up_the_rest_for_ever() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    // A field of the right kind and length, but no packet inside.
    node.workers[0].emit_bytes(&[0x22, 2, 0xff, 0xff]);
    node.workers[0].emit(1..4);
    let mut stream = processor.stream();
    for _ in 1..5 {
        stream = processor.stream();
    }
    drop(stream);
    node.workers[0].emit(4..8);
    let mut stream = processor.stream();
    assert_eq!(take(&processor, &mut stream, 4), [4, 5, 6, 7]);
    until("settled", || node.committed().tx_done(0) == 8);
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::Dropped), 4);
    assert_eq!(commit.get(ForwardCounter::Acked), 4);
}

#[test]
fn malformed_records_are_counted_and_passed_over() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    let worker = &mut node.workers[0];
    worker.emit([0]);
    worker.emit_bytes(b"");
    worker.emit_bytes(&[0x22]);
    worker.emit_bytes(&[0x1a, 1, 0]);
    let mut short = encoded(&[0; 40]);
    short.pop();
    worker.emit_bytes(&short);
    // A record of a kind that there is not.
    worker.ring.reserve(64).unwrap().commit(77, 0, 0);
    worker.emit([1]);
    assert_eq!(take(&processor, &mut stream, 2), [0, 1]);
    until("settled", || node.workers[0].ring.used() == 0);
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::CorruptRecords), 5);
    assert_eq!(commit.get(ForwardCounter::Acked), 2);
    // The ordinals tell how many were packets once.
    assert_eq!(commit.get(ForwardCounter::Dropped), 4);
}

#[test]
fn a_ring_of_garbage_harms_nobody_and_is_given_back() {
    let mut node = Node::new(2);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    // A cursor that is no end of a record: everything behind it is garbage.
    for round in 1..50 {
        let head = node.workers[0].ring.head();
        node.workers[0].ring.resume(head + 8 * round);
        node.workers[1].emit([round as u32]);
        assert_eq!(take(&processor, &mut stream, 1), [round as u32]);
    }
    until("the garbage is released", || {
        node.workers[0].ring.used() == 0
    });
    assert!(node.committed().get(ForwardCounter::CorruptRecords) > 0);
    // Impossible heads: far ahead, and back.
    let head = node.workers[0].ring.head();
    for odd in [head + (1 << 40), 0, head + 1] {
        node.workers[0].ring.resume(odd);
        node.workers[1].emit([odd as u32]);
        assert_eq!(take(&processor, &mut stream, 1), [odd as u32]);
    }
    node.workers[0].ring.resume(head);
    node.workers[0].emit([7]);
    assert_eq!(take(&processor, &mut stream, 1), [7]);
}

#[test]
fn a_successor_sends_the_batches_of_its_predecessor_again_and_goes_on() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let config = node.config(
        &processor.address.to_string(),
        &INSECURE.replace("insecure", "shutdown_timeout = \"1ms\"\ninsecure"),
    );
    let running = Running::start(config.clone());
    let mut stream = processor.stream();
    node.workers[0].emit(0..12);
    let sent = [1, 2, 3].map(|_| processor.batch(&mut stream));
    stream.ack(sent[0].sequence);
    until("one is settled", || node.committed().tx_done(0) == 4);
    // No time to wait for answers: as good as killed.
    let left = running.stop();
    assert_eq!((left.unacked_batches, left.unacked_packets), (2, 8));
    node.workers[0].emit(12..14);

    let _running = Running::start(config);
    let mut stream = processor.stream();
    // What was sent comes again, the very same batches.
    for before in &sent[1..] {
        let again = processor.batch(&mut stream);
        assert_eq!(again.sequence, before.sequence);
        assert_eq!(again.packets, before.packets);
        stream.ack(again.sequence);
    }
    let next = processor.batch(&mut stream);
    assert_eq!(next.sequence, sent[2].sequence + 1);
    assert_eq!(numbers(&next), [12, 13]);
    stream.ack(next.sequence);
    until("everything is settled", || {
        node.committed().tx_done(0) == 14
    });
    assert_eq!(node.committed().get(ForwardCounter::Acked), 14);
    until("everything is released", || {
        node.workers[0].ring.used() == 0
    });
}

#[test]
fn the_end_delivers_what_is_there_and_says_goodbye() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let config = node.config(
        &processor.address.to_string(),
        "insecure = true\nbatch_size = 64\nbatch_timeout_ms = 60000",
    );
    let running = Running::start(config);
    let mut stream = processor.stream();
    node.workers[0].emit(0..5);
    let stopping = std::thread::spawn(|| running.stop());
    // The batch is neither full nor old.
    assert_eq!(take(&processor, &mut stream, 5), [0, 1, 2, 3, 4]);
    processor.end(&mut stream);
    let left = stopping.join().unwrap();
    assert_eq!((left.unacked_batches, left.unacked_packets), (0, 0));
    let beats = processor.shared().heartbeats.lock().unwrap();
    let last = beats.last().unwrap();
    assert_eq!(last.status(), HunterStatus::StatusStopping);
    assert_eq!(last.stats.unwrap().packets_forwarded, 5);
    assert_eq!(node.workers[0].ring.used(), 0);
}

#[test]
fn the_end_is_bounded_when_the_processor_is_gone_or_silent() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let more = "shutdown_timeout = \"300ms\"\ninsecure = true\nbatch_size = 4";
    let config = node.config(&processor.address.to_string(), more);
    let running = Running::start(config.clone());
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    processor.batch(&mut stream);
    assert_eq!(running.stop().unacked_packets, 4);
    processor.kill();

    let running = Running::start(config);
    until("an attempt failed", || {
        node.committed().get(ForwardCounter::ConnectionFailures) > 0
    });
    assert_eq!(running.stop().unacked_packets, 4);
    assert_eq!(node.committed().tx_done(0), 0);
}

#[test]
fn the_end_knows_of_everything_that_waits() {
    let mut node = Node::new(1);
    // Nobody listens there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    drop(silent);
    let more = format!("shutdown_timeout = \"100ms\"\n{INSECURE}");
    let running = Running::start(node.config(&address, &more));
    // Many more batches than wait for the session at a time.
    node.workers[0].emit(0..400);
    until("an attempt failed", || {
        node.committed().get(ForwardCounter::ConnectionFailures) > 0
    });
    let left = running.stop();
    assert_eq!((left.unacked_batches, left.unacked_packets), (100, 400));
}

#[test]
fn the_end_is_quick_when_there_is_nothing_to_deliver() {
    let node = Node::new(1);
    // A port that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let more = "insecure = true\nshutdown_timeout = \"60s\"";
    let running = Running::start(node.config(&address, more));
    until("it is connecting", || {
        node.observer.forwarder.connection() == Connection::Connecting
    });
    let begin = std::time::Instant::now();
    assert_eq!(running.stop().unacked_packets, 0);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn heartbeats_tell_the_truth() {
    let mut node = Node::new(1);
    let status_with = |node: &Node, processor: &mut Processor| {
        processor.shared().heartbeats.lock().unwrap().clear();
        let more = format!("shutdown_timeout = \"10ms\"\n{INSECURE}");
        let running = Running::start(node.config(&processor.address.to_string(), &more));
        let _stream = processor.stream();
        until("a heartbeat", || {
            !processor.shared().heartbeats.lock().unwrap().is_empty()
        });
        let beat = processor.shared().heartbeats.lock().unwrap()[0].clone();
        running.stop();
        beat
    };
    let mut processor = Processor::start();
    let beat = status_with(&node, &mut processor);
    assert_eq!(beat.status(), HunterStatus::StatusHealthy);
    assert!((now_ns() - beat.timestamp_ns) < 20_000_000_000);
    let stats = beat.stats.unwrap();
    assert!(stats.memory_rss_bytes > 0);
    assert_eq!(stats.cpu_percent, -1.0);
    node.session.set_queue_state(0, QueueState::LinkDown, "");
    let beat = status_with(&node, &mut processor);
    assert_eq!(beat.status(), HunterStatus::StatusWarning);
    node.session
        .set_queue_state(0, QueueState::Retrying, "eth0 is gone");
    let beat = status_with(&node, &mut processor);
    assert_eq!(beat.status(), HunterStatus::StatusError);
    node.session.set_queue_state(0, QueueState::Finished, "");
    let beat = status_with(&node, &mut processor);
    assert_eq!(beat.status(), HunterStatus::StatusHealthy);
    // Nobody takes packets, and the ring fills up.
    while node.workers[0].ring.used() < node::TX_BYTES * 9 / 10 {
        node.workers[0].emit([1]);
    }
    let beat = status_with(&node, &mut processor);
    assert_eq!(beat.status(), HunterStatus::StatusWarning);
    assert!(beat.stats.unwrap().buffer_bytes > node::TX_BYTES * 8 / 10);
}

#[test]
fn full_memory_is_counted_once_per_episode() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    let full = node::TX_BYTES * 97 / 100;
    while node.workers[0].ring.used() < full {
        node.workers[0].emit([1]);
    }
    let count = || node.committed().get(ForwardCounter::MemoryFull);
    until("it is counted", || count() == 1);
    let waiting = node.workers[0].ring.used();
    assert!(waiting >= full);
    let bytes = encoded(&[0; 4]).len() as u64 + 24;
    let packets = node.workers[0].ring.used() / bytes.next_multiple_of(8);
    take(&processor, &mut stream, packets as usize);
    until("room again", || node.workers[0].ring.used() < full / 2);
    assert_eq!(count(), 1);
}

#[test]
fn a_processor_that_refuses_the_node_is_asked_again_and_the_reason_is_seen() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    *processor.shared().refuse.lock().unwrap() = Some("not you".into());
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    until("the reason is seen", || {
        node.observer.forwarder.error().contains("not you")
    });
    *processor.shared().refuse.lock().unwrap() = None;
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);
    assert!(node.committed().get(ForwardCounter::ConnectionFailures) > 0);
}

#[test]
fn a_stream_that_ends_with_an_error_is_opened_again() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    let batch = processor.batch(&mut stream);
    stream.fail(Status::unavailable("going down"));
    let mut stream = processor.stream();
    let again = processor.batch(&mut stream);
    assert_eq!(again.sequence, batch.sequence);
}
