//! A connection of HTTP, whole and cut into chunks.

use lc_daemon::config::{self, HttpContent};
use lc_workerd::decode::Addr;
use lc_workerd::flows::Direction;
use lc_workerd::http::Http;
use lc_workerd::http::messages::is_in;
use lc_workerd::http::tracker::Session;
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::reassembly::{End, Event};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};

use crate::Input;

/// Most bytes of memory that a connection may hold: heads or blocks that are not whole, bodies, and what waits for its response.
const MOST: usize = 1 << 20;
/// Most bytes of a body that is looked into.
const BODY: usize = 500;

/// What happens in a direction.
struct Step<'a> {
    direction: Direction,
    /// Bytes that are missing before these; `None`: as many as nobody knows.
    gap: Option<Option<u64>>,
    bytes: &'a [u8],
}

/// Plays `first`, a start of the client's stream, and what `bytes` say: flags (1: there is a filter), length of chunks, and steps: flags (1: of the server, 2: behind a gap, 4: of unknown length) and
/// bytes. How the bytes are cut must make no difference, and memory has a bound.
pub fn check(first: &[u8], bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, size) = (input.u8(), usize::from(input.u8()).max(1));
    let mut steps = vec![Step {
        direction: Direction::Request,
        gap: None,
        bytes: first,
    }];
    while !input.is_empty() {
        let (flags, bytes) = (input.u8(), input.text());
        let len = u64::from(flags >> 3);
        steps.push(Step {
            direction: match flags & 1 {
                0 => Direction::Request,
                _ => Direction::Response,
            },
            gap: (flags & 2 != 0).then_some((flags & 4 == 0).then_some(len)),
            bytes,
        });
    }
    let has_filter = flags & 1 != 0;
    let whole = play(&steps, has_filter, usize::MAX);
    let cut = play(&steps, has_filter, size);
    // What has left is another protocol's. Who asks is seen by whole lines, and that a server speaks first, by its first frame.
    let is_plain = |step: &Step<'_>| {
        let (other, is_known) = match step.direction {
            Direction::Request => (Direction::Response, true),
            Direction::Response => (Direction::Request, step.bytes.starts_with(b"HTTP/")),
        };
        step.gap.is_none() && !is_in(step.bytes, other) && (is_known || !first.is_empty())
    };
    if steps.iter().all(is_plain) && !whole.has_left && !cut.has_left {
        assert_eq!(whole.told, cut.told, "chunks make a difference");
    }
}

fn play(steps: &[Step<'_>], has_filter: bool, size: usize) -> Listener {
    let content = match has_filter {
        true => HttpContent {
            hosts: vec!["*.example".into(), "a*".into()],
            statuses: vec![200..=299],
            keywords: vec!["needle".into()],
            ..HttpContent::default()
        },
        false => HttpContent::default(),
    };
    let mut http = Http::new(&config::Http {
        content,
        body: Some(BODY),
        ..config::Http::default()
    });
    let (mut session, mut listener) = (Session::default(), Listener::default());
    let mut offsets = [0; 2];
    for step in steps {
        let side = step.direction as usize;
        if let Some(len) = step.gap {
            let offset = offsets[side];
            offsets[side] += len.unwrap_or(0);
            let gap = Event::Gap { offset, len };
            listener.take(&mut http, &mut session, step.direction, gap);
        }
        for bytes in step.bytes.chunks(size) {
            let offset = offsets[side];
            offsets[side] += bytes.len() as u64;
            let data = Event::Data { offset, bytes };
            listener.take(&mut http, &mut session, step.direction, data);
            assert!(session.held() <= MOST, "{} bytes", session.held());
        }
    }
    for direction in [Direction::Request, Direction::Response] {
        let end = Event::End {
            offset: offsets[direction as usize],
            reason: End::Finished,
        };
        listener.take(&mut http, &mut session, direction, end);
    }
    if !listener.has_left {
        assert_eq!(
            listener.settled, listener.begun,
            "exchanges are not settled"
        );
    }
    listener
}

/// What was told, but for how claims are cut.
#[derive(Default)]
struct Listener {
    told: Vec<String>,
    claimed: u64,
    begun: u64,
    settled: u64,
    rest: [bool; 2],
    has_left: bool,
}

impl Listener {
    fn take(
        &mut self,
        http: &mut Http,
        session: &mut Session,
        direction: Direction,
        event: Event<'_>,
    ) {
        let end = (Addr::V4(0), 0);
        let at = At {
            direction,
            ends: Ends {
                client: end,
                server: end,
            },
            time_ns: 1_767_225_600_000_000_000,
        };
        if self.rest[direction as usize] {
            return;
        }
        match http.stream(&at, session, event, self) {
            Course::Follow | Course::Wait => {}
            Course::Rest(_) => self.rest[direction as usize] = true,
            Course::RestOfBoth(_) | Course::Becomes(..) | Course::Foreign => self.rest = [true; 2],
        }
        self.has_left = self.rest != [false; 2];
    }
}

impl Tell for Listener {
    fn begin(&mut self) -> Exchange {
        self.begun += 1;
        Exchange(self.begun)
    }

    fn belongs(&mut self, _: Option<Exchange>, end: u64) {
        self.claimed = self.claimed.max(end);
    }

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, exchange: Exchange, kind: Kind, text: &[u8]) {
        self.told
            .push(format!("{exchange:?} {kind:?} {}", text.escape_ascii()));
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        self.told.push(format!("{exchange:?} {content:?}"));
    }

    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        self.told.push(format!(
            "{exchange:?} at {offset}: {} {:?}",
            note.info, note.details
        ));
    }

    fn about(&mut self, _: Exchange, _: Note<'_>) {}

    fn settle(&mut self, exchange: Exchange) {
        self.settled += 1;
        self.told.push(format!("{exchange:?} settled"));
    }
}
