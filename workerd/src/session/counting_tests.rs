//! What each protocol counts of what it is told, the malformed included.

use lc_daemon::config;
use shm_layout::counters::WorkerCounter::{self as Counter, *};

use super::Protocol;
use super::script::Script;
use crate::dns::Dns;
use crate::email::{imap::Imap, pop3::Pop3, smtp::Smtp};
use crate::flows::Direction::{self, Request as C, Response as S};
use crate::http::Http;
use crate::tls::{Extent, Tls};

type Said<'a> = &'a [(Direction, &'a [u8])];

/// All that was counted, whatever came first.
fn counted(mut protocol: impl Protocol, said: Said<'_>) -> Vec<Counter> {
    let mut script = Script::new(&mut protocol, 12_345);
    for (direction, bytes) in said {
        script.bytes(*direction, bytes);
    }
    let mut counted = script.counted;
    counted.sort_by_key(|counter| *counter as usize);
    counted
}

#[test]
fn dns() {
    let query = b"\0\x17\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05named\0\0\x01\0\x01";
    let dns = || Dns::new(&config::Dns::default());
    let short = b"\0\x05short, and no message behind it";
    assert_eq!(counted(dns(), &[(C, query), (C, query)]), [DnsMessages; 2]);
    assert_eq!(
        counted(dns(), &[(C, query), (C, short)]),
        [DnsMessages, DnsMalformed]
    );
    let mut dns = dns();
    let mut script = Script::new(&mut dns, 53);
    script.datagram(C, b"neither").datagram(C, &query[2..]);
    script.datagram(C, b"nor").datagram(C, &query[2..]);
    assert_eq!(script.counted, [DnsMessages, DnsMalformed, DnsMessages]);
}

#[test]
fn http() {
    let http = || Http::new(&config::Http::default());
    let (get, ok) = (
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
    );
    assert_eq!(counted(http(), &[(C, get), (S, ok)]), [HttpMessages; 2]);
    let strange = &b"\0\x01neither a head nor a body\r\n\r\n"[..];
    assert_eq!(
        counted(http(), &[(C, get), (S, ok), (C, strange), (C, get)]),
        [HttpMessages, HttpMessages, HttpMessages, HttpMalformed]
    );
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..];
    // GET / of the static table; then an entry that there is not.
    let block = &b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84"[..];
    let no_block = &b"\0\0\x01\x01\x05\0\0\0\x03\xff"[..];
    assert_eq!(
        counted(http(), &[(C, preface), (C, block), (C, no_block)]),
        [HttpMessages, HttpMalformed]
    );
}

#[test]
fn tls() {
    let tls = || Tls::new(Extent::Full);
    let mut hello = b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x03".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\0\0\x02\x13\x01\x01\0");
    assert_eq!(counted(tls(), &[(C, &hello)]), [TlsHellos]);
    assert_eq!(
        counted(
            tls(),
            &[(C, &hello), (S, b"\x16\x03\x03\0\x06\x02\0\0\x02\x03\x03")]
        ),
        [TlsHellos, TlsMalformed]
    );
    assert_eq!(
        counted(tls(), &[(C, &hello), (C, b"no record at all")]),
        [TlsHellos, TlsMalformed]
    );
}

#[test]
fn mail() {
    let settings = config::Email::default();
    let said: Said<'_> = &[
        (S, b"220 a ESMTP\r\n"),
        (C, b"EHLO b\r\n"),
        (S, b"250 a\r\n"),
        (C, b"?!\r\n"),
    ];
    assert_eq!(
        counted(Smtp::new(&settings), said),
        [MailCommands, MailUnknown]
    );
    let said: Said<'_> = &[
        (S, b"* OK ready\r\n"),
        (C, b"a NOOP\r\n"),
        (C, b"b FROBNICATE\r\n"),
        (C, b"\r\n"),
    ];
    assert_eq!(
        counted(Imap::new(&settings), said),
        [MailCommands, MailUnknown, MailUnknown]
    );
    let said: Said<'_> = &[
        (S, b"+OK ready\r\n"),
        (C, b"CAPA\r\n"),
        (C, b"FROBNICATE\r\n"),
        (C, b"\0\r\n"),
    ];
    assert_eq!(
        counted(Pop3::new(&settings), said),
        [MailCommands, MailUnknown, MailUnknown]
    );
}
