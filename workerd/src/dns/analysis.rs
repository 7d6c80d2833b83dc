//! What a message means beside what it says: whose response it is, and how much it looks like a tunnel.

use lc_daemon::config;

use super::message::{Message, Question};
use super::queries::{Asked, Queries, Response};
use super::services::Services;
use super::tunnels::{Score, Signs, Tunnels};
use crate::flows::Direction;
use crate::matcher::lower::lower;
use crate::session::At;

/// What was found out about a message.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Findings {
    /// Of a response whose query was seen.
    pub response: Option<Response>,
    /// How often the message has come before.
    pub repeats: u16,
    /// All zeros if tunnels are not looked for.
    pub score: Score,
}

/// Remembers what is needed of all messages of a worker.
#[derive(Debug)]
pub struct Analysis {
    queries: Queries,
    tunnels: Option<Tunnels>,
    services: Services,
    /// The name of the question in lower case.
    name: Vec<u8>,
}

impl Analysis {
    /// Nothing was seen.
    #[must_use]
    pub fn new(settings: &config::Dns) -> Self {
        Self {
            queries: Queries::new(),
            tunnels: settings.detect_tunneling.then(Tunnels::new),
            services: Services::new(settings.allow_known_services, &settings.allowed_domains),
            name: Vec::new(),
        }
    }

    /// Takes in a message.
    pub fn take(&mut self, at: &At, is_stream: bool, message: &Message<'_>) -> Findings {
        let question = message.question();
        self.take_name(question.as_ref());
        let kind = question.map_or(0, |question| question.kind);
        let is_response = message.header.is_response();
        let (sender, receiver) = match at.direction {
            Direction::Request => (at.ends.client, at.ends.server),
            Direction::Response => (at.ends.server, at.ends.client),
        };
        let (asker, answerer) = match is_response {
            true => (receiver, sender),
            false => (sender, receiver),
        };
        let asked = Asked {
            asker,
            answerer,
            is_stream,
            id: message.header.id,
            name: &self.name,
            kind,
        };
        // The table is fetched from while the name is scored.
        let key = self.queries.key(&asked);
        let score = self.score(is_response, kind, at.time_ns);
        let (response, repeats) = match is_response {
            true => {
                let response = self.queries.response(key, at.time_ns);
                (response, response.map_or(0, |response| response.repeats))
            }
            false => (None, self.queries.query(key, at.time_ns)),
        };
        Findings {
            response,
            repeats,
            score,
        }
    }

    fn take_name(&mut self, question: Option<&Question<'_>>) {
        self.name.clear();
        if let Some(question) = question {
            question.name.push_text(&mut self.name);
        }
        match self.name.is_ascii() {
            true => self.name.make_ascii_lowercase(),
            false => self.name = lower(&self.name),
        }
    }

    fn score(&mut self, is_response: bool, kind: u16, time_ns: u64) -> Score {
        let name = &self.name[..];
        let Some(tunnels) = self.tunnels.as_mut().filter(|_| !name.is_empty()) else {
            return Score::default();
        };
        let score = match is_response {
            true => tunnels.response(name, time_ns),
            false => tunnels.query(name, kind, time_ns),
        };
        if score.tunneling > 0.0 && self.services.have(name) {
            return Score {
                tunneling: 0.0,
                signs: Signs::default(),
                ..score
            };
        }
        score
    }
}
