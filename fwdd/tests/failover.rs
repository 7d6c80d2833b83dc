//! Several processors: which one is used, what happens when it fails, and the way back.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use lc_proto::data::PacketBatch;
use node::{Node, Running, number, until};
use processor::{PacketStream, Processor};
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Breaker, Connection, ProcessorState};
use tokio::net::TcpSocket;

const INSECURE: &str = "insecure = true\nbatch_size = 4\nbatch_timeout_ms = 20";

fn numbers(batch: &PacketBatch) -> Vec<u32> {
    batch.packets.iter().map(number).collect()
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

/// An address where nobody listens, and where a processor can listen later; nobody else gets it while this lives.
struct Away {
    address: SocketAddr,
    _held: TcpSocket,
}

fn away() -> Away {
    let held = TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    Away {
        address,
        _held: held,
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(",")
}

/// `None` before the forwarder is up.
fn breaker(node: &Node, index: usize) -> Option<Breaker> {
    let processors = node.observer.forwarder.processors();
    Some(processors.get(index)?.breaker)
}

fn in_use(node: &Node) -> Option<usize> {
    let processors = node.observer.forwarder.processors();
    processors.iter().position(|state| state.in_use)
}

#[test]
fn the_next_processor_takes_over_and_the_first_one_again_when_it_is_back() {
    let mut node = Node::new(1);
    let first = away();
    let mut second = Processor::start();
    let addresses = [first.address, second.address];
    let running = Running::start(node.config(&list(&addresses), INSECURE));
    let mut stream = second.stream();
    node.workers[0].emit(0..8);
    let mut arrived = take(&second, &mut stream, 8);
    assert_eq!(in_use(&node), Some(1));
    let peer = node.observer.forwarder.peer();
    assert!(peer.ends_with(&second.address.to_string()), "{peer}");
    // Both are kept out of the capture, whichever is in use.
    let mut excluded = node.observer.forwarder.endpoints().unwrap().addresses;
    excluded.sort();
    let mut both = addresses.to_vec();
    both.sort();
    assert_eq!(excluded, both);

    // A batch that is under way when the first one is back.
    node.workers[0].emit(8..12);
    let batch = second.batch(&mut stream);
    arrived.extend(numbers(&batch));
    let mut first = Processor::listen(first.address);
    second.end(&mut stream);
    stream.ack(batch.sequence);
    let mut stream = first.stream();
    node.workers[0].emit(12..20);
    arrived.extend(take(&first, &mut stream, 8));
    assert_eq!(arrived, (0..20).collect::<Vec<_>>());
    assert_eq!(in_use(&node), Some(0));
    until("settled", || node.committed().tx_done(0) == 20);
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::ResentBatches), 0);
    assert_eq!(commit.get(ForwardCounter::ProcessorChanges), 1);
    assert!(commit.get(ForwardCounter::ConnectionAttempts) >= 3);
    assert_eq!(running.stop().unacked_packets, 0);
}

#[test]
fn what_is_not_acknowledged_goes_to_the_next_one_under_its_number() {
    let mut node = Node::new(1);
    let (mut first, mut second) = (Processor::start(), Processor::start());
    let addresses = list(&[first.address, second.address]);
    let _running = Running::start(node.config(&addresses, INSECURE));
    let mut stream = first.stream();
    node.workers[0].emit(0..12);
    let sent = [1, 2, 3].map(|_| first.batch(&mut stream));
    stream.ack(sent[0].sequence);
    until("one is settled", || node.committed().tx_done(0) == 4);
    first.kill();
    let mut stream = second.stream();
    for old in &sent[1..] {
        let again = second.batch(&mut stream);
        assert_eq!(
            (again.sequence, numbers(&again)),
            (old.sequence, numbers(old))
        );
        stream.ack(again.sequence);
    }
    node.workers[0].emit(12..16);
    assert_eq!(take(&second, &mut stream, 4), [12, 13, 14, 15]);
    assert_eq!(node.committed().get(ForwardCounter::ResentBatches), 2);
}

#[test]
fn answers_that_do_not_come_are_not_waited_for_for_ever_on_the_way_back() {
    let mut node = Node::new(1);
    let first = away();
    let mut second = Processor::start();
    let addresses = list(&[first.address, second.address]);
    let _running = Running::start(node.config(&addresses, INSECURE));
    let mut stream = second.stream();
    node.workers[0].emit(0..8);
    let sent = [1, 2].map(|_| second.batch(&mut stream));
    stream.ack(sent[0].sequence);
    // The second batch stays without an answer.
    let mut first = Processor::listen(first.address);
    let mut stream = first.stream();
    let again = first.batch(&mut stream);
    assert_eq!(
        (again.sequence, numbers(&again)),
        (sent[1].sequence, numbers(&sent[1]))
    );
    stream.ack(again.sequence);
    until("settled", || node.committed().tx_done(0) == 8);
    assert_eq!(node.committed().get(ForwardCounter::ResentBatches), 1);
}

#[test]
fn a_preferred_processor_that_refuses_the_node_does_not_disturb_the_session() {
    let mut node = Node::new(1);
    let (mut first, mut second) = (Processor::start(), Processor::start());
    *first.shared().refuse.lock().unwrap() = Some("not you".into());
    let addresses = list(&[first.address, second.address]);
    let _running = Running::start(node.config(&addresses, INSECURE));
    let mut stream = second.stream();
    let asked = || first.shared().registrations.lock().unwrap().len();
    let before = asked();
    until("it is asked beside the session", || asked() > before + 1);
    node.workers[0].emit(0..4);
    assert_eq!(take(&second, &mut stream, 4), [0, 1, 2, 3]);
    assert_eq!(second.shared().registrations.lock().unwrap().len(), 1);
    let error = node.observer.forwarder.error();
    assert!(error.contains("not you"), "{error}");
    *first.shared().refuse.lock().unwrap() = None;
    let mut stream = first.stream();
    node.workers[0].emit(4..8);
    assert_eq!(take(&first, &mut stream, 4), [4, 5, 6, 7]);
}

#[test]
fn a_processor_that_fails_too_often_is_left_alone_and_then_tried_once() {
    let mut node = Node::new(1);
    let away = away();
    let address = away.address;
    let more = format!(
        "{INSECURE}\ncircuit_breaker.failures = 2\ncircuit_breaker.open = \"2s\"\ncircuit_breaker.half_open = \"1h\""
    );
    let _running = Running::start(node.config(&address.to_string(), &more));
    until("it is left alone", || {
        breaker(&node, 0) == Some(Breaker::Open)
    });
    let opened = Instant::now();
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::ConnectionFailures), 2);
    assert_eq!(commit.get(ForwardCounter::BreakerOpened), 1);
    assert_eq!(node.observer.forwarder.connection(), Connection::Waiting);

    let mut processor = Processor::listen(address);
    let stream = processor.stream();
    // It was left alone for 1.5 s at least; the test may have seen the beginning late.
    assert!(opened.elapsed() > Duration::from_millis(500));
    // It takes the node, and has to show yet that it takes packets.
    let on_trial = ProcessorState {
        breaker: Breaker::HalfOpen,
        in_use: true,
    };
    assert_eq!(node.observer.forwarder.processors(), [on_trial]);
    // A stream that breaks at once is a failure like any other.
    drop(stream);
    processor.kill();
    until("left alone again", || {
        breaker(&node, 0) == Some(Breaker::Open)
    });
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);
    until("it is trusted again", || {
        breaker(&node, 0) == Some(Breaker::Closed)
    });
    assert_eq!(node.committed().get(ForwardCounter::BreakerOpened), 2);
}

#[test]
fn the_end_does_not_wait_for_a_breaker() {
    let mut node = Node::new(1);
    let away = away();
    let address = away.address;
    let more = format!(
        "{INSECURE}\ncircuit_breaker.failures = 1\ncircuit_breaker.open = \"1h\"\nshutdown_timeout = \"10s\""
    );
    let running = Running::start(node.config(&address.to_string(), &more));
    node.workers[0].emit(0..4);
    until("it is left alone", || {
        breaker(&node, 0) == Some(Breaker::Open)
    });
    let mut processor = Processor::listen(address);
    let stopping = std::thread::spawn(|| running.stop());
    let mut stream = processor.stream();
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);
    processor.end(&mut stream);
    assert_eq!(stopping.join().unwrap().unacked_packets, 0);
}

#[test]
fn the_end_leaves_time_for_the_next_processor_when_the_first_one_is_silent() {
    let mut node = Node::new(1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let second = away();
    let addresses = list(&[silent.local_addr().unwrap(), second.address]);
    let more = format!("{INSECURE}\nshutdown_timeout = \"6s\"");
    let running = Running::start(node.config(&addresses, &more));
    node.workers[0].emit(0..4);
    until("it is connecting", || {
        node.observer.forwarder.connection() == Connection::Connecting
    });
    let mut second = Processor::listen(second.address);
    let stopping = std::thread::spawn(|| running.stop());
    let mut stream = second.stream();
    assert_eq!(take(&second, &mut stream, 4), [0, 1, 2, 3]);
    assert_eq!(stopping.join().unwrap().unacked_packets, 0);
}

#[test]
fn the_end_is_bounded_when_all_are_left_alone() {
    let mut node = Node::new(1);
    let more = format!(
        "{INSECURE}\ncircuit_breaker.failures = 1\ncircuit_breaker.open = \"1h\"\nshutdown_timeout = \"300ms\""
    );
    let (first, second) = (away(), away());
    let addresses = list(&[first.address, second.address]);
    let running = Running::start(node.config(&addresses, &more));
    node.workers[0].emit(0..4);
    until("both are left alone", || {
        [0, 1].map(|index| breaker(&node, index)) == [Some(Breaker::Open); 2]
    });
    let begin = Instant::now();
    assert_eq!(running.stop().unacked_packets, 4);
    assert!(begin.elapsed() < Duration::from_secs(20));
}
