//! Sessions of mail, whole and in pieces, with gaps; and mails.

use lc_daemon::config::{Email, EmailContent};
use lc_workerd::email::imap::Imap;
use lc_workerd::email::mime;
use lc_workerd::email::pop3::Pop3;
use lc_workerd::email::smtp::Smtp;
use lc_workerd::flows::Direction;
use lc_workerd::matcher::Kind;
use lc_workerd::reassembly::End;
use lc_workerd::session::script::{Script, Told};
use lc_workerd::session::{Content, Course, Protocol};

use crate::Input;

/// Sessions of SMTP, as `session` describes them.
pub fn smtp(bytes: &[u8]) {
    sessions(Smtp::new, bytes);
}

/// Sessions of IMAP.
pub fn imap(bytes: &[u8]) {
    sessions(Imap::new, bytes);
}

/// Sessions of POP3.
pub fn pop3(bytes: &[u8]) {
    sessions(Pop3::new, bytes);
}

/// `bytes`: a mail. What is told of it is bounded by what it has.
pub fn mime(bytes: &[u8]) {
    let head = mime::head(bytes);
    assert!(head.subjects.len() <= bytes.len() / 8);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = bytes.split_at(end.map_or(0, |end| end + 4));
    let read = mime::body(head, body);
    assert!(read.texts.len() <= mime::MOST_PARTS);
    // No character set makes more than four bytes of one.
    let texts: usize = read.texts.iter().map(|text| text.text.len()).sum();
    assert!(texts <= 4 * bytes.len() + 4);
}

/// `bytes`: flags (1: picked up in the middle, 2: patterns), length of pieces, then what is said: flags (1: by the server, 2: behind a gap), text.
fn sessions<P: Protocol>(new: impl Fn(&Email) -> P, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, size) = (input.u8(), usize::from(input.u8()).max(1));
    let words = |is_given: u8, word: &str| {
        if is_given == 0 {
            vec![]
        } else {
            vec![word.to_owned()]
        }
    };
    let settings = Email {
        body: Some(200),
        content: EmailContent {
            senders: words(flags & 2, "a*"),
            keywords: words(flags & 2, "word"),
            ..EmailContent::default()
        },
        ..Email::default()
    };
    let whole = play(&mut new(&settings), flags & 1 != 0, input, usize::MAX);
    let pieces = play(&mut new(&settings), flags & 1 != 0, input, size);
    assert_eq!(pieces, whole, "pieces make a difference");
}

fn play(protocol: &mut impl Protocol, is_joined: bool, mut input: Input<'_>, size: usize) -> Gist {
    let (mut script, mut gist) = (Script::new(protocol, 25), Gist::default());
    let both = [Direction::Request, Direction::Response];
    if is_joined {
        both.iter().for_each(|direction| {
            script.gap(*direction, None);
        });
    }
    while !input.is_empty() {
        let (flags, text) = (input.u8(), input.text());
        let direction = both[usize::from(flags & 1)];
        if flags & 2 != 0 {
            script.gap(direction, Some(flags.into()));
        }
        for bytes in text.chunks(size) {
            script.bytes(direction, bytes);
            gist.take(&mut script);
            if gist.course.is_some() {
                return gist;
            }
        }
    }
    for direction in both {
        script.end(direction, End::Finished);
        gist.take(&mut script);
    }
    gist
}

/// What was told, but for how it is cut up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gist {
    owners: [Vec<(u64, u64)>; 2],
    compared: Vec<(u64, Kind, String)>,
    contents: Vec<(u64, Content)>,
    settled: Vec<u64>,
    course: Option<(Direction, Course)>,
}

impl Gist {
    /// Takes over what was told of what has come so far.
    fn take<P: Protocol>(&mut self, script: &mut Script<'_, P>) {
        for told in std::mem::take(&mut script.told) {
            match told {
                Told::Begin(_) => {}
                Told::Belongs(direction, exchange, end) => {
                    assert!(end <= script.come(direction), "bytes that have not come");
                    let owner = exchange.map_or(u64::MAX, |exchange| exchange.0);
                    let owners = &mut self.owners[direction as usize];
                    match owners.last_mut() {
                        Some(last) if last.0 == owner => last.1 = last.1.max(end),
                        _ => owners.push((owner, end)),
                    }
                }
                Told::Compare(exchange, kind, text) => {
                    assert!(!self.settled.contains(&exchange.0), "settled too early");
                    self.compared.push((exchange.0, kind, text));
                }
                Told::Content(exchange, content) => self.contents.push((exchange.0, content)),
                Told::Note {
                    direction, offset, ..
                } => {
                    let come = script.come(direction).max(1);
                    assert!(offset < come, "of bytes that have not come");
                }
                Told::About {
                    details, blocks, ..
                } => assert!(details.len() + blocks.len() < 200_000),
                Told::Settle(exchange) => {
                    assert!(!self.settled.contains(&exchange.0), "settled twice");
                    self.settled.push(exchange.0);
                }
                Told::Course(direction, course) => self.course = Some((direction, course)),
            }
        }
    }
}
