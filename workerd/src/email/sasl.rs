//! Who authenticates by SASL (RFC 4422), as far as it can be seen. Secrets are looked at for nothing but that, and kept nowhere.
//!
//! | mechanism | the user stands in |
//! |---|---|
//! | PLAIN (RFC 4616) | the initial response |
//! | LOGIN | the first response |
//! | XOAUTH2, OAUTHBEARER (RFC 7628) | the initial response |
//! | SCRAM-* (RFC 5802) | the initial response |
//! | CRAM-MD5 (RFC 2195) | the response |
//! | DIGEST-MD5 (RFC 2831) | the first response |
//! | EXTERNAL (RFC 4422 appendix A) | the initial response |

use mail_parser::decoders::base64::base64_decode;
use memchr::{memchr, memmem};

/// Longest name of a mechanism (RFC 4422 section 3.1).
pub const MOST_NAME: usize = 20;
/// Bytes of a user's name that are kept.
const MOST_USER: usize = 256;

/// Whether `word` is the name of a mechanism.
#[must_use]
pub fn is_mechanism(word: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MOST_NAME).contains(&word.len()) && word.iter().all(is_letter)
}

/// The user that a client's first response names; `mechanism` in upper case, `response` in base64.
#[must_use]
pub fn user(mechanism: &str, response: &[u8]) -> Option<String> {
    let text = base64_decode(response.trim_ascii())?;
    let user = match mechanism {
        "PLAIN" => {
            let mut fields = text.split(|byte| *byte == 0);
            let authorizes = fields.next()?;
            let authenticates = fields.next()?;
            // The password has to follow, or else this is something else.
            fields.next()?;
            if authenticates.is_empty() {
                authorizes
            } else {
                authenticates
            }
        }
        "LOGIN" | "EXTERNAL" => &text,
        "XOAUTH2" => until(behind(&text, b"user=")?, 1),
        "OAUTHBEARER" => until(behind(&text, b"a=")?, b','),
        "CRAM-MD5" => &text[..text.iter().rposition(|byte| *byte == b' ')?],
        "DIGEST-MD5" => until(behind(&text, b"username=\"")?, b'"'),
        _ if mechanism.starts_with("SCRAM-") => until(behind(&text, b"n=")?, b','),
        _ => return None,
    };
    let is_name = !user.is_empty() && user.len() <= MOST_USER;
    let user = std::str::from_utf8(user).ok().filter(|_| is_name)?;
    (!user.chars().any(char::is_control)).then(|| user.to_owned())
}

/// What follows `name`, which begins the text or a field of it.
fn behind<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find_iter(text, name).find(|at| {
        let before = at.checked_sub(1).map(|before| text[before]);
        before.is_none_or(|before| matches!(before, b',' | b' ' | 1))
    })?;
    Some(&text[at + name.len()..])
}

fn until(text: &[u8], end: u8) -> &[u8] {
    &text[..memchr(end, text).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_found_where_their_mechanism_has_them() {
        for (mechanism, response, expected) in [
            ("PLAIN", "AGFsaWNlAHNlY3JldA==", Some("alice")),
            ("PLAIN", "Ym9iAGFsaWNlAHNlY3JldA==", Some("alice")),
            // Nothing is told of a password alone.
            ("PLAIN", "c2VjcmV0", None),
            ("LOGIN", "YWxpY2U=", Some("alice")),
            (
                "XOAUTH2",
                "dXNlcj1hQGIuYwFhdXRoPUJlYXJlciB4AQE=",
                Some("a@b.c"),
            ),
            (
                "OAUTHBEARER",
                "bixhPWFAYi5jLAFhdXRoPUJlYXJlciB4AQE=",
                Some("a@b.c"),
            ),
            ("SCRAM-SHA-256", "biwsbj1hbGljZSxyPTEyMw==", Some("alice")),
            ("CRAM-MD5", "YWxpY2UgOTBhYg==", Some("alice")),
            (
                "DIGEST-MD5",
                "Y2hhcnNldD11dGYtOCx1c2VybmFtZT0iYWxpY2UiLHJlYWxtPSJ4Ig==",
                Some("alice"),
            ),
            ("NTLM", "TlRMTVNTUAAB", None),
            ("PLAIN", "*", None),
            ("LOGIN", "=", None),
        ] {
            let found = user(mechanism, response.as_bytes());
            assert_eq!(found.as_deref(), expected, "{mechanism} {response}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(
            mechanism in "PLAIN|LOGIN|XOAUTH2|OAUTHBEARER|SCRAM-SHA-1|CRAM-MD5|DIGEST-MD5|EXTERNAL",
            response in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = user(&mechanism, &response);
        }
    }
}
