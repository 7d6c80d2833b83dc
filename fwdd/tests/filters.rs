//! The processor's filters become snapshots that other processes can fetch.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use lc_proto::management::{Filter, FilterType, FilterUpdate, FilterUpdateType};
use node::{Node, Running, until};
use processor::Processor;
use shm_layout::counters::ForwardCounter;

const INSECURE: &str = "insecure = true";

fn filter(id: &str, pattern: &str) -> Filter {
    Filter {
        id: id.into(),
        r#type: FilterType::FilterIpAddress.into(),
        pattern: pattern.into(),
        enabled: true,
        ..Default::default()
    }
}

fn update(kind: FilterUpdateType, filter: Filter) -> FilterUpdate {
    FilterUpdate {
        update_type: kind.into(),
        filter: Some(filter),
    }
}

/// Ids and patterns of the current generation, once it is `generation`.
#[track_caller]
fn patterns(node: &Node, generation: u64) -> Vec<String> {
    until("the generation is current", || {
        node.observer.forwarder.filter_generation() >= generation
    });
    assert_eq!(node.observer.forwarder.filter_generation(), generation);
    let snapshot = node.snapshot().unwrap();
    assert_eq!(snapshot.generation, generation);
    let text = |filter: shm_layout::filters::Filter| format!("{}={}", filter.id, filter.pattern);
    snapshot.filters.into_iter().map(text).collect()
}

fn subscribed(processor: &Processor, times: usize) {
    until("filters are subscribed to", || {
        *processor.shared().subscriptions.lock().unwrap() >= times
    });
}

#[test]
fn updates_become_generations() {
    use FilterUpdateType::{UpdateAdd, UpdateDelete, UpdateModify};
    let node = Node::new(1);
    let mut processor = Processor::start();
    let mut disabled = filter("off", "10.9.9.9");
    disabled.enabled = false;
    *processor.shared().filters.lock().unwrap() = vec![filter("b", "10.0.0.2"), disabled];
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let _stream = processor.stream();
    assert_eq!(patterns(&node, 1), ["b=10.0.0.2", "off=10.9.9.9"]);
    assert_eq!(node.observer.forwarder.filter_count(), 1);
    subscribed(&processor, 1);
    // What is known already makes no generation; the next change does.
    processor.push(update(UpdateAdd, filter("b", "10.0.0.2")));
    processor.push(update(UpdateModify, filter("a", "10.0.0.1")));
    assert_eq!(
        patterns(&node, 2),
        ["a=10.0.0.1", "b=10.0.0.2", "off=10.9.9.9"]
    );
    processor.push(update(UpdateDelete, filter("off", "whatever")));
    assert_eq!(patterns(&node, 3), ["a=10.0.0.1", "b=10.0.0.2"]);
    processor.push(update(UpdateAdd, filter("a", "10.0.0.3")));
    assert_eq!(patterns(&node, 4), ["a=10.0.0.3", "b=10.0.0.2"]);
    assert_eq!(node.committed().get(ForwardCounter::FilterUpdates), 4);
}

#[test]
fn no_filters_are_a_generation_too() {
    let node = Node::new(1);
    let processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    assert_eq!(patterns(&node, 1), [] as [&str; 0]);
}

#[test]
fn a_registration_replaces_the_set_and_generations_go_on_after_a_restart() {
    let node = Node::new(1);
    let mut processor = Processor::start();
    let set = |filters| *processor.shared().filters.lock().unwrap() = filters;
    let config = node.config(&processor.address.to_string(), INSECURE);
    set(vec![filter("a", "10.0.0.1"), filter("b", "10.0.0.2")]);
    let running = Running::start(config.clone());
    assert_eq!(patterns(&node, 1), ["a=10.0.0.1", "b=10.0.0.2"]);
    running.stop();
    // The same set again: workers need not take anything over.
    let running = Running::start(config.clone());
    subscribed(&processor, 2);
    running.stop();
    assert_eq!(patterns(&node, 1), ["a=10.0.0.1", "b=10.0.0.2"]);
    let set = |filters| *processor.shared().filters.lock().unwrap() = filters;
    set(vec![filter("b", "10.0.0.2")]);
    let _running = Running::start(config);
    assert_eq!(patterns(&node, 2), ["b=10.0.0.2"]);
    let _ = processor.stream();
}

#[test]
fn the_end_of_the_subscription_alone_ends_nothing() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let more = "insecure = true\nbatch_size = 1";
    let _running = Running::start(node.config(&processor.address.to_string(), more));
    let mut stream = processor.stream();
    subscribed(&processor, 1);
    processor.end_subscription();
    subscribed(&processor, 2);
    processor.push(update(FilterUpdateType::UpdateAdd, filter("a", "::1")));
    assert_eq!(patterns(&node, 2), ["a=::1"]);
    // The packet stream is still the first one.
    node.workers[0].emit([1]);
    assert_eq!(processor.batch(&mut stream).packets.len(), 1);
    assert_eq!(node.committed().get(ForwardCounter::Connections), 1);
}

#[test]
fn a_burst_is_taken_in_without_a_generation_for_each_update() {
    let node = Node::new(1);
    let mut processor = Processor::start();
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    let _stream = processor.stream();
    subscribed(&processor, 1);
    for n in 0..500 {
        let one = filter(&format!("f{n:03}"), "192.0.2.0/24");
        processor.push(update(FilterUpdateType::UpdateAdd, one));
    }
    until("all are there", || {
        node.snapshot()
            .is_some_and(|snapshot| snapshot.filters.len() == 500)
    });
    assert!(node.observer.forwarder.filter_generation() < 250);
}

#[test]
fn what_capd_refuses_is_offered_again() {
    let node = Node::new(1);
    let processor = Processor::start();
    *processor.shared().filters.lock().unwrap() = vec![filter("a", "10.0.0.1")];
    node.refusals.store(1, std::sync::atomic::Ordering::Release);
    let _running = Running::start(node.config(&processor.address.to_string(), INSECURE));
    assert_eq!(patterns(&node, 1), ["a=10.0.0.1"]);
    assert_eq!(node.refusals.load(std::sync::atomic::Ordering::Acquire), 0);
}
