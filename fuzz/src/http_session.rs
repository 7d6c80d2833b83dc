//! A connection of HTTP, whole and cut into chunks.

use lc_daemon::config::{self, HttpContent};
use lc_workerd::flows::Direction;
use lc_workerd::http::Http;
use lc_workerd::http::messages::is_in;
use lc_workerd::reassembly::End;
use lc_workerd::session::Course;
use lc_workerd::session::script::{Script, Told};

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

fn play(steps: &[Step<'_>], has_filter: bool, size: usize) -> Heard {
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
    let (mut script, mut heard) = (Script::new(&mut http, 80), Heard::default());
    for step in steps {
        if let Some(len) = step.gap {
            heard.listen(&mut script, step.direction, |script| {
                script.gap(step.direction, len);
            });
        }
        for bytes in step.bytes.chunks(size) {
            heard.listen(&mut script, step.direction, |script| {
                script.bytes(step.direction, bytes);
            });
            let held = script.state().held();
            assert!(held <= MOST, "{held} bytes");
        }
    }
    for direction in [Direction::Request, Direction::Response] {
        heard.listen(&mut script, direction, |script| {
            script.end(direction, End::Finished);
        });
    }
    if !heard.has_left {
        assert_eq!(heard.settled, heard.begun, "exchanges are not settled");
    }
    heard
}

/// What was told, but for how claims are cut.
#[derive(Default)]
struct Heard {
    told: Vec<String>,
    begun: u64,
    settled: u64,
    rest: [bool; 2],
    has_left: bool,
}

impl Heard {
    /// Has something happen in a direction, unless nothing more is to be learnt there.
    fn listen<'p>(
        &mut self,
        script: &mut Script<'p, Http>,
        direction: Direction,
        play: impl FnOnce(&mut Script<'p, Http>),
    ) {
        if self.rest[direction as usize] {
            return;
        }
        play(script);
        for told in std::mem::take(&mut script.told) {
            self.take(told);
        }
        self.has_left = self.rest != [false; 2];
    }

    fn take(&mut self, told: Told) {
        let told = match told {
            Told::Begin(_) => {
                self.begun += 1;
                return;
            }
            Told::Course(direction, Course::Rest(_)) => {
                self.rest[direction as usize] = true;
                return;
            }
            Told::Course(..) => {
                self.rest = [true; 2];
                return;
            }
            Told::Belongs(..) | Told::About { .. } => return,
            Told::Compare(exchange, kind, text) => format!("{exchange:?} {kind:?} {text}"),
            Told::Content(exchange, content) => format!("{exchange:?} {content:?}"),
            Told::Note {
                exchange,
                offset,
                info,
                details,
                ..
            } => format!("{exchange:?} at {offset}: {info} {details:?}"),
            Told::Settle(exchange) => {
                self.settled += 1;
                format!("{exchange:?} settled")
            }
        };
        self.told.push(told);
    }
}
