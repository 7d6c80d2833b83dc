//! One DNS message, and everything that is told of it.

use std::cell::RefCell;

use lc_daemon::config;
use lc_proto::data::PacketMetadata;
use lc_workerd::decode::Addr;
use lc_workerd::dns::Dns;
use lc_workerd::dns::message::Message;
use lc_workerd::dns::name::{LONGEST, Name};
use lc_workerd::dns::tracker::State;
use lc_workerd::flows::Direction;
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use prost::Message as _;

thread_local! {
    /// Its tables are kept from input to input, as a worker does.
    static DNS: RefCell<Dns> = RefCell::new(Dns::new(&config::Dns {
        match_targets: true,
        ..config::Dns::default()
    }));
}

/// `bytes`: the message.
pub fn check(bytes: &[u8]) {
    let at = At {
        direction: Direction::Request,
        ends: Ends {
            client: (Addr::V4(1), 40_000),
            server: (Addr::V6(2), 53),
        },
        time_ns: 1_767_225_600_000_000_000,
    };
    let mut teller = Teller::default();
    let course =
        DNS.with_borrow_mut(|dns| dns.datagram(&at, &mut State::default(), bytes, &mut teller));
    let Some(message) = Message::parse(bytes) else {
        assert_eq!(course, Course::Foreign);
        return;
    };
    assert_eq!(course, Course::Follow);
    assert_eq!((teller.begun, teller.settled), (1, 1));
    let dns = teller.dns.expect("a message is told of");
    assert!(dns.answers.len() <= usize::from(message.header.answers));
    assert!((0.0..=1.0).contains(&dns.tunneling_score) && dns.entropy_score >= 0.0);
    let mut walk = message.walk();
    while let Some(question) = walk.question() {
        look(question.name);
    }
    let (mut records, mut text) = (0, Vec::new());
    for record in walk {
        look(record.name);
        record.target().into_iter().for_each(look);
        text.clear();
        record.push_data(&mut text);
        assert!(std::str::from_utf8(&text).is_ok());
        // The largest text is that of a byte that is quoted, or is no UTF-8; names stand in at most two places.
        assert!(text.len() <= 16 * record.data.len() + 6 * LONGEST + 64);
        records += 1;
    }
    assert!(records * 11 <= bytes.len(), "records overlap");
}

fn look(name: Name<'_>) {
    let mut text = Vec::new();
    name.push(&mut text);
    assert!(text.len() <= LONGEST);
    text.clear();
    name.push_text(&mut text);
    assert!(std::str::from_utf8(&text).is_ok());
    if let Some(number) = name.e164() {
        assert!(number.as_bytes().len() >= 2);
    }
}

#[derive(Default)]
struct Teller {
    begun: u64,
    settled: u64,
    dns: Option<lc_proto::data::DnsMetadata>,
}

impl Tell for Teller {
    fn begin(&mut self) -> Exchange {
        self.begun += 1;
        Exchange(self.begun)
    }

    fn belongs(&mut self, _: Option<Exchange>, _: u64) {}

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, _: Exchange, _: Kind, text: &[u8]) {
        assert!(!text.is_empty());
    }

    fn content(&mut self, _: Exchange, _: Content) {}

    fn note(&mut self, _: Exchange, _: u64, note: Note<'_>) {
        let metadata = [note.details, note.blocks].concat();
        let metadata = PacketMetadata::decode(&metadata[..]).expect("what is told can be read");
        self.dns = metadata.dns;
    }

    fn about(&mut self, _: Exchange, _: Note<'_>) {}

    fn settle(&mut self, _: Exchange) {
        self.settled += 1;
    }
}
