//! Sessions of mail, whole and in pieces, with gaps; and mails.

use lc_daemon::config::{Email, EmailContent};
use lc_workerd::decode::Addr;
use lc_workerd::email::imap::Imap;
use lc_workerd::email::mime;
use lc_workerd::email::pop3::Pop3;
use lc_workerd::email::smtp::Smtp;
use lc_workerd::flows::Direction;
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::reassembly::{End, Event};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};

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

fn play(protocol: &mut impl Protocol, is_joined: bool, mut input: Input<'_>, size: usize) -> Told {
    let (mut told, mut state, mut offsets) = (Told::default(), Default::default(), [0; 2]);
    if is_joined {
        for direction in [Direction::Request, Direction::Response] {
            told.direction = direction;
            let gap = Event::Gap {
                offset: 0,
                len: None,
            };
            let _ = protocol.stream(&at(direction), &mut state, gap, &mut told);
        }
    }
    while !input.is_empty() {
        let (flags, text) = (input.u8(), input.text());
        let direction = if flags & 1 == 0 {
            Direction::Request
        } else {
            Direction::Response
        };
        told.direction = direction;
        let offset = &mut offsets[direction as usize];
        if flags & 2 != 0 {
            let gap = Event::Gap {
                offset: *offset,
                len: Some(flags.into()),
            };
            *offset += u64::from(flags);
            let _ = protocol.stream(&at(direction), &mut state, gap, &mut told);
        }
        for bytes in text.chunks(size) {
            let data = Event::Data {
                offset: *offset,
                bytes,
            };
            *offset += bytes.len() as u64;
            told.end = *offset;
            let course = protocol.stream(&at(direction), &mut state, data, &mut told);
            if course != Course::Follow {
                told.course = Some((direction, course));
                return told;
            }
        }
    }
    for direction in [Direction::Request, Direction::Response] {
        let offset = offsets[direction as usize];
        (told.direction, told.end) = (direction, offset);
        let end = Event::End {
            offset,
            reason: End::Finished,
        };
        let _ = protocol.stream(&at(direction), &mut state, end, &mut told);
    }
    told
}

fn at(direction: Direction) -> At {
    let ends = Ends {
        client: (Addr::V4(1), 40_000),
        server: (Addr::V4(2), 25),
    };
    At {
        direction,
        ends,
        time_ns: 1,
    }
}

/// What was told, but for how it is cut up.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    direction: Direction,
    /// Behind what has come of it.
    end: u64,
    begun: u64,
    owners: [Vec<(u64, u64)>; 2],
    compared: Vec<(u64, Kind, Vec<u8>)>,
    contents: Vec<(u64, Content)>,
    settled: Vec<u64>,
    course: Option<(Direction, Course)>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            direction: Direction::Request,
            end: 0,
            begun: 0,
            owners: Default::default(),
            compared: vec![],
            contents: vec![],
            settled: vec![],
            course: None,
        }
    }
}

impl Tell for Told {
    fn begin(&mut self) -> Exchange {
        self.begun += 1;
        Exchange(self.begun - 1)
    }

    fn belongs(&mut self, exchange: Option<Exchange>, end: u64) {
        assert!(end <= self.end, "bytes that have not come");
        let owner = exchange.map_or(u64::MAX, |exchange| exchange.0);
        let owners = &mut self.owners[self.direction as usize];
        match owners.last_mut() {
            Some(last) if last.0 == owner => last.1 = last.1.max(end),
            _ => owners.push((owner, end)),
        }
    }

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, exchange: Exchange, kind: Kind, text: &[u8]) {
        assert!(!self.settled.contains(&exchange.0), "settled too early");
        self.compared.push((exchange.0, kind, text.to_vec()));
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        self.contents.push((exchange.0, content));
    }

    fn note(&mut self, _: Exchange, offset: u64, _: Note<'_>) {
        assert!(offset < self.end.max(1), "of bytes that have not come");
    }

    fn about(&mut self, _: Exchange, note: Note<'_>) {
        assert!(note.details.len() + note.blocks.len() < 200_000);
    }

    fn settle(&mut self, exchange: Exchange) {
        assert!(!self.settled.contains(&exchange.0), "settled twice");
        self.settled.push(exchange.0);
    }
}
