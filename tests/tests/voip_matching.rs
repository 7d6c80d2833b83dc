//! Of many calls exactly those that match arrive, however they match: each packet once, signalling and media, with the ids of the filters.
//!
//! Of 500 calls, 37 match. The caller of every other one stands only in the second leg, which another worker sees than the first one and the media.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use lc_tests::calls::{Call, Calls, Course, Plan};
use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::processor;
use tempfile::tempdir;

const PLAN: Plan = Plan {
    calls: 500,
    apart_ms: 20,
    media: 5,
    every_ms: 40,
};
const WANTED: usize = 37;

/// How a call matches: by a filter of its own, or by one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    User,
    Suffix,
    Uri,
    CallId,
    Imsi,
    Codec,
    Address,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::User,
        Self::Suffix,
        Self::Uri,
        Self::CallId,
        Self::Imsi,
        Self::Codec,
        Self::Address,
    ];

    /// Type, pattern and id of the filter.
    fn filter(self, number: usize, call: &Call) -> (&'static str, String, String) {
        let own = format!("call-{number}");
        match self {
            Self::User => ("sip_user", call.caller.clone(), own),
            Self::Suffix => ("phone_number", "*0815".into(), "suffix".into()),
            Self::Uri => ("sip_uri", format!("{}@{}", call.caller, call.domain), own),
            Self::CallId => ("call_id", call.id.clone(), own),
            Self::Imsi => ("imsi", call.imsi.clone().unwrap(), own),
            Self::Codec => ("codec", "G729".into(), "codec".into()),
            Self::Address => ("ip_address", call.hosts[1].to_string(), own),
        }
    }

    /// What makes a call match.
    fn adapt(self, call: &mut Call) {
        match self {
            Self::Suffix => call.callee.replace_range(call.callee.len() - 4.., "0815"),
            Self::Codec => call.codec = (18, "G729"),
            _ => {}
        }
    }
}

/// Whether a call is one of those that match.
fn is_wanted(number: usize) -> bool {
    number % 13 == 5 && number / 13 < WANTED
}

/// A capture in which wanted calls match in the ways that `way` says.
fn make(folder: &Path, way: impl Fn(usize) -> Way) -> Calls {
    Calls::make(folder, PLAN, |number, call| {
        call.imsi = Some(format!("26201{number:010}"));
        call.is_anonymous = number % 2 == 1;
        call.course = match number % 16 {
            3 => Course::Refused,
            7 => Course::Message,
            _ => Course::Answered,
        };
        if is_wanted(number) {
            let way = way(number);
            if way == Way::Codec {
                call.course = Course::Answered;
            }
            way.adapt(call);
        }
    })
    .unwrap()
}

/// Runs a node over the calls, and tells what differs from what is wanted.
fn run(made: &Calls, way: impl Fn(usize) -> Way, workers: &str) -> Result<(), String> {
    let folder = tempdir().unwrap();
    let wanted = (0..PLAN.calls).filter(|number| is_wanted(*number));
    let filters: BTreeMap<usize, _> = wanted
        .map(|number| (number, way(number).filter(number, &made.calls[number])))
        .collect();
    let path = folder.path().join("filters.toml");
    fs::write(&path, text(filters.values())).unwrap();
    let sink = folder.path().join("sink");
    let node = Node::follow_calls(&made.path, &path, &sink, workers, &[]).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    if outcome.code() != 0 {
        return Err(outcome.stderr);
    }
    let expected = made.packets_of(is_wanted);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let difference = Difference::between(&expected, &arrived);
    if !difference.is_none() {
        return Err(difference.to_string());
    }
    if workers == "1" && !is_in_order_of_calls(made, &arrived) {
        return Err("packets of a call are not in the order of capture".into());
    }
    let times = made.packets.iter().map(|packet| packet.time_ns);
    let owners: HashMap<i64, usize> = times.zip(made.owners.iter().copied()).collect();
    for told in processor::told(&sink).unwrap() {
        let owner = owners[&told.timestamp_ns];
        let (_, _, id) = &filters[&owner];
        let call_id = &made.calls[owner].id;
        let sip = told
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.sip.as_ref());
        if sip.is_none_or(|sip| sip.call_id != *call_id) || told.matched_filter_ids != [id.as_str()]
        {
            return Err(format!("not of {call_id} by {id}: {told:?}"));
        }
    }
    Ok(())
}

fn text<'a>(filters: impl Iterator<Item = &'a (&'static str, String, String)>) -> String {
    let by_id: BTreeMap<_, _> = filters.map(|filter| (&filter.2, filter)).collect();
    let mut text = String::new();
    for (kind, pattern, id) in by_id.into_values() {
        text += &processor::filter(id, kind, pattern);
    }
    text
}

fn is_in_order_of_calls(made: &Calls, arrived: &[Packet]) -> bool {
    let times = made.packets.iter().map(|packet| packet.time_ns);
    let owners: HashMap<i64, usize> = times.zip(made.owners.iter().copied()).collect();
    let mut latest: HashMap<usize, i64> = HashMap::new();
    arrived.iter().all(|packet| {
        let before = latest.insert(owners[&packet.time_ns], packet.time_ns);
        before.is_none_or(|before| before < packet.time_ns)
    })
}

#[test]
fn of_500_calls_exactly_the_37_that_match_arrive_in_whatever_way_they_do() {
    let queue = Mutex::new(Way::ALL.into_iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(way) = { queue.lock().unwrap().next() } {
                    let folder = tempdir().unwrap();
                    let made = make(folder.path(), |_| way);
                    let wanted = (0..PLAN.calls).filter(|number| is_wanted(*number)).count();
                    assert_eq!(wanted, WANTED);
                    if let Err(what) = run(&made, |_| way, "4") {
                        wrong.lock().unwrap().push(format!("{way:?}: {what}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_number_of_workers_makes_no_difference() {
    let folder = tempdir().unwrap();
    let way = |number: usize| Way::ALL[number % Way::ALL.len()];
    let made = make(folder.path(), way);
    let wrong: Vec<_> = ["1", "2", "4", "8"]
        .into_iter()
        .filter_map(|workers| Some((workers, run(&made, way, workers).err()?)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
