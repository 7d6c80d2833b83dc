//! The reference's conformance rows of HTTP, by their numbers. Rows 43 and 44 are tested in lc-capd. Those that differ on purpose:
//!
//! | rows | here |
//! |---|---|
//! | 15 | HTTP/2 is decoded, by [`http2`](super::http2) |
//! | 18 | names of fields are tokens (RFC 9110 section 5.6.2) |
//! | 27, 28, 35, 38 | as their targets say |
//! | 39, 40 | ports don't decide; HTTP is what TCP carries |
//! | 41, 42 | continuations are of their exchange, and packets without payload of the latest one: forwarded if it is |

use lc_daemon::config::{self, HttpContent};

use super::body::Body;
use super::content::ContentFilter;
use super::framing::content_length;
use super::head::{Head, Start, split_query, usual_reason};
use super::tracker::Http;
use crate::flows::Direction::{Request, Response};
use crate::session::script::{Script, Told};
use crate::session::{Content, Course};

/// What a head says, under the names of the rows: `key=value`, each one once.
fn parsed(text: &str) -> Option<Vec<String>> {
    let head = Head::parse(text.as_bytes())?;
    let mut said = vec![];
    let mut say = |key: &str, value: &[u8]| {
        if !value.is_empty() {
            said.push(format!("{key}={}", String::from_utf8_lossy(value)));
        }
    };
    match head.start {
        Start::Request {
            method,
            target,
            version,
        } => {
            let (path, query) = split_query(target);
            say("type", b"request");
            say("method", method);
            say("path", path);
            say("query_string", query);
            say("version", version);
            say("host", head.get(b"host").unwrap_or_default());
            say("user_agent", head.get(b"user-agent").unwrap_or_default());
        }
        Start::Response {
            version,
            status,
            reason,
        } => {
            let reason = match reason {
                [] => usual_reason(status).as_bytes(),
                reason => reason,
            };
            say("type", b"response");
            say("version", version);
            say("status_code", status.to_string().as_bytes());
            say("status_reason", reason);
            say("server", head.get(b"server").unwrap_or_default());
        }
    }
    say(
        "content_type",
        head.get(b"content-type").unwrap_or_default(),
    );
    if let Some(length) = content_length(&head) {
        say("content_length", length.to_string().as_bytes());
    }
    if head.get(b"authorization").is_some() {
        say("has_auth", b"true");
    }
    let mut headers = std::collections::BTreeMap::new();
    for (name, value) in head.fields() {
        headers.insert(
            String::from_utf8_lossy(name).to_lowercase(),
            String::from_utf8_lossy(value).into_owned(),
        );
    }
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    say("headers", headers.join("; ").as_bytes());
    Some(said)
}

#[test]
fn rows_1_to_23_heads() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(8200));
    let rows: [(u32, &str, Option<&[&str]>); 23] = [
        (
            1,
            "GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/index.html",
                "version=HTTP/1.1",
                "host=example.com",
                "headers=host: example.com",
            ]),
        ),
        (
            2,
            "POST /api/users HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n\r\n{\"name\":\"test\"}",
            Some(&[
                "type=request",
                "method=POST",
                "path=/api/users",
                "version=HTTP/1.1",
                "host=api.example.com",
                "content_type=application/json",
                "headers=content-type: application/json; host: api.example.com",
            ]),
        ),
        (3, "GET /", None),
        (4, "INVITE sip:user@example.com SIP/2.0\r\n", None),
        (
            5,
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\n\r\n<html></html>",
            Some(&[
                "type=response",
                "version=HTTP/1.1",
                "status_code=200",
                "status_reason=OK",
                "server=nginx",
                "content_type=text/html",
                "headers=content-type: text/html; server: nginx",
            ]),
        ),
        (
            6,
            "GET /search?q=a%20b&x=1 HTTP/1.1\r\nHost: s.example\r\nUser-Agent: curl/8.0\r\nAuthorization: Basic dTpw\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/search",
                "query_string=q=a%20b&x=1",
                "version=HTTP/1.1",
                "host=s.example",
                "user_agent=curl/8.0",
                "has_auth=true",
                "headers=authorization: Basic dTpw; host: s.example; user-agent: curl/8.0",
            ]),
        ),
        (
            7,
            "HTTP/1.1 404\r\nServer: x\r\n\r\n",
            Some(&[
                "type=response",
                "version=HTTP/1.1",
                "status_code=404",
                "status_reason=Not Found",
                "server=x",
                "headers=server: x",
            ]),
        ),
        (
            8,
            "HTTP/1.1 418\r\n\r\n",
            Some(&["type=response", "version=HTTP/1.1", "status_code=418"]),
        ),
        (9, "HTTP/1.1 600 Nope\r\n\r\n", None),
        (10, "HTTP/1.1 099 Nope\r\n\r\n", None),
        (11, "BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (
            12,
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
            Some(&[
                "type=request",
                "method=CONNECT",
                "path=example.com:443",
                "version=HTTP/1.1",
                "host=example.com:443",
                "headers=host: example.com:443",
            ]),
        ),
        (
            13,
            "GET http://proxy.example/x?y=1 HTTP/1.1\r\nHost: proxy.example\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=http://proxy.example/x",
                "query_string=y=1",
                "version=HTTP/1.1",
                "host=proxy.example",
                "headers=host: proxy.example",
            ]),
        ),
        (14, "HTTP/2 200 OK\r\nx: y\r\n\r\n", None),
        (15, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        (
            16,
            "GET / HTTP/1.1\nHost: lf.example\n\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/",
                "version=HTTP/1.1",
                "host=lf.example",
                "headers=host: lf.example",
            ]),
        ),
        (
            17,
            "GET / HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\nHOST: dup.example\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/",
                "version=HTTP/1.1",
                "host=dup.example",
                "headers=host: dup.example; x-a: 2",
            ]),
        ),
        (
            18,
            "GET / HTTP/1.1\r\nBad_Name: 1\r\nHost: u.example\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/",
                "version=HTTP/1.1",
                "host=u.example",
                "headers=bad_name: 1; host: u.example",
            ]),
        ),
        (
            19,
            "GET / HTTP/1.1\r\nX-L: a\r\n b\r\nHost: f.example\r\n\r\n",
            Some(&[
                "type=request",
                "method=GET",
                "path=/",
                "version=HTTP/1.1",
                "host=f.example",
                "headers=host: f.example; x-l: a",
            ]),
        ),
        (
            20,
            "GET / HTTP/1.1\r\nHost: cut.example\r\nUser-Agent: par",
            Some(&[
                "type=request",
                "method=GET",
                "path=/",
                "version=HTTP/1.1",
                "host=cut.example",
                "headers=host: cut.example",
            ]),
        ),
        (
            21,
            "POST / HTTP/1.1\r\nHost: c.example\r\nContent-Length: abc\r\n\r\n",
            Some(&[
                "type=request",
                "method=POST",
                "path=/",
                "version=HTTP/1.1",
                "host=c.example",
                "headers=content-length: abc; host: c.example",
            ]),
        ),
        (22, "GET / HTTP/1.1 Host: x", None),
        (23, &long, None),
    ];
    for (number, text, expected) in rows {
        let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(parsed(text), expected, "row {number}");
    }
}

/// The values of one group.
type Group = (&'static str, &'static [&'static str]);

fn content(groups: &[Group]) -> HttpContent {
    let mut content = HttpContent::default();
    for (name, values) in groups {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        match *name {
            "host_patterns" => content.hosts = values,
            "path_patterns" => content.paths = values,
            "methods" => content.methods = values,
            "keywords" => content.keywords = values,
            "user_agents" => content.user_agents = values,
            "content_types" => content.content_types = values,
            other => panic!("{other}"),
        }
    }
    content
}

/// Whether a message by itself fits, with its body.
fn fits(content: &HttpContent, text: &str) -> bool {
    let mut filter = ContentFilter::new(content);
    let head = Head::parse(text.as_bytes()).unwrap();
    let is_request = matches!(head.start, Start::Request { .. });
    let mut judgement = filter.begin();
    filter.head(&mut judgement, &head);
    let mut body = Body::new(&head, 65_536);
    body.add(text.split_once("\r\n\r\n").unwrap().1.as_bytes());
    filter.text(&mut judgement, &body.text());
    ContentFilter::end(&mut judgement, is_request, !is_request);
    judgement.verdict() == Some(Content::Fits)
}

const INDEX: &str = "GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n";

#[test]
fn rows_24_to_38_filters() {
    let rows: [(u32, &str, &[Group], bool); 11] = [
        (24, INDEX, &[], true),
        (
            25,
            "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
            &[("host_patterns", &["*.example.com"])],
            true,
        ),
        (26, INDEX, &[("host_patterns", &["*.example.com"])], false),
        (
            27,
            "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
            &[("host_patterns", &["*.example"])],
            true,
        ),
        (
            28,
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
            &[("host_patterns", &["*"])],
            false,
        ),
        (
            29,
            "GET /api/v1?x=/admin HTTP/1.1\r\nHost: a\r\n\r\n",
            &[("path_patterns", &["/api/*"])],
            true,
        ),
        (
            30,
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            &[("methods", &["post", "put"])],
            true,
        ),
        (31, NOT_FOUND, &[("methods", &["POST"])], true),
        (
            36,
            "GET /Secret/file HTTP/1.1\r\nHost: a\r\n\r\n",
            &[("keywords", &["SECRET"])],
            true,
        ),
        (
            37,
            "GET /?token=PassWord1 HTTP/1.1\r\nHost: a\r\n\r\n",
            &[("keywords", &["password"])],
            true,
        ),
        (
            38,
            "POST /u HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\npassword",
            &[("keywords", &["password"])],
            true,
        ),
    ];
    for (number, text, groups, expected) in rows {
        assert_eq!(fits(&content(groups), text), expected, "row {number}");
    }
    let with_statuses = |statuses| HttpContent {
        statuses,
        ..HttpContent::default()
    };
    assert!(fits(&with_statuses(vec![400..=499]), NOT_FOUND), "row 32");
    assert!(!fits(&with_statuses(vec![400..=403]), NOT_FOUND), "row 33");
    assert!(fits(&with_statuses(vec![500..=500]), INDEX), "row 34");
}

/// Groups are joined by "and", values by "or"; what is between rows.
#[test]
fn groups_have_to_fit_together() {
    let both: &[Group] = &[
        ("host_patterns", &["*.org", "example.com"]),
        ("path_patterns", &["*.html"]),
    ];
    assert!(fits(&content(both), INDEX));
    let text = INDEX.replace(".html", ".txt");
    assert!(!fits(&content(both), &text));
    let text: &[Group] = &[("content_types", &["text/*"])];
    let image: &[Group] = &[("content_types", &["image/*"])];
    assert!(fits(&content(text), NOT_FOUND) && !fits(&content(image), NOT_FOUND));
    assert!(!fits(&content(text), INDEX), "a field that is missing");
    let agent: &[Group] = &[("user_agents", &["curl*"])];
    assert!(!fits(&content(agent), INDEX) && !fits(&content(agent), NOT_FOUND));
    assert!(fits(
        &content(agent),
        "GET / HTTP/1.0\r\nuser-agent: CURL/8\r\n\r\n"
    ));
    // Targets of proxies, by their path as well.
    let path: &[Group] = &[("path_patterns", &["/x"])];
    assert!(fits(&content(path), "GET http://a/x?y HTTP/1.1\r\n\r\n"));
    let host: &[Group] = &[("host_patterns", &["a"])];
    assert!(fits(
        &content(host),
        "GET http://u:p@A:80/x HTTP/1.1\r\nHost: b\r\n\r\n"
    ));
}

#[test]
fn rows_39_to_42_packets() {
    let settings = config::Http {
        content: content(&[("host_patterns", &["*.nomatch"])]),
        ..config::Http::default()
    };
    let mut http = Http::new(&settings);
    let mut script = Script::new(&mut http, 80);
    script.datagram(Request, b"x");
    assert_eq!(script.told, [Told::Course(Request, Course::Foreign)]);
    let mut script = Script::new(&mut http, 9090);
    script.bytes(Request, INDEX.as_bytes());
    let id = crate::session::Exchange(0);
    assert!(script.told.contains(&Told::Begin(id)), "on any port");
    assert!(script.told.contains(&Told::Content(id, Content::Fails)));
    let mut script = Script::new(&mut http, 80);
    script.gap(Response, None);
    script.bytes(Response, b"<html>continuation</html>");
    assert_eq!(script.told, [Told::Belongs(Response, None, 25)]);
}
