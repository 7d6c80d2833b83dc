//! One DNS message, and everything that is told of it.

use std::cell::RefCell;

use lc_daemon::config;
use lc_proto::data::PacketMetadata;
use lc_workerd::dns::Dns;
use lc_workerd::dns::message::Message;
use lc_workerd::dns::name::{LONGEST, Name};
use lc_workerd::flows::Direction;
use lc_workerd::session::Course;
use lc_workerd::session::script::{Script, Told};
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
    let told = DNS.with_borrow_mut(|dns| {
        let mut script = Script::new(dns, 53);
        script.datagram(Direction::Request, bytes);
        script.told
    });
    let Some(message) = Message::parse(bytes) else {
        let foreign = Told::Course(Direction::Request, Course::Foreign);
        assert!(told.contains(&foreign));
        return;
    };
    let (mut begun, mut settled, mut dns) = (0, 0, None);
    for told in told {
        match told {
            Told::Begin(_) => begun += 1,
            Told::Settle(_) => settled += 1,
            Told::Compare(_, _, text) => assert!(!text.is_empty()),
            Told::Note {
                details, blocks, ..
            } => {
                let metadata = [details, blocks].concat();
                let metadata =
                    PacketMetadata::decode(&metadata[..]).expect("what is told can be read");
                dns = metadata.dns;
            }
            Told::Course(..) => panic!("a message is of DNS"),
            _ => {}
        }
    }
    assert_eq!((begun, settled), (1, 1));
    let dns = dns.expect("a message is told of");
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
