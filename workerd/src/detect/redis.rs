//! Redis (RESP version 2, Redis documentation, "Redis serialization protocol specification").
//!
//! TCP port 6379; a type byte, and CRLF within the first 100 bytes.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::head;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memmem;

/// See the module.
pub struct Redis;

const PORTS: &[u16] = &[6379];
const WINDOW: usize = 100;
const TYPES: [(u8, &str); 5] = [
    (b'+', "Simple String"),
    (b'-', "Error"),
    (b':', "Integer"),
    (b'$', "Bulk String"),
    (b'*', "Array"),
];
const COMMANDS: &str = " GET SET DEL EXISTS INCR DECR LPUSH RPUSH LPOP RPOP SADD SREM ZADD ZREM \
    HGET HSET PING ECHO AUTH SELECT KEYS SCAN FLUSHDB FLUSHALL PUBLISH SUBSCRIBE UNSUBSCRIBE MULTI \
    EXEC DISCARD WATCH UNWATCH EXPIRE TTL PERSIST RENAME RENAMENX TYPE APPEND STRLEN GETRANGE \
    SETRANGE GETBIT SETBIT BITCOUNT LLEN LRANGE LINDEX LSET SMEMBERS SCARD SISMEMBER ZRANGE ZCARD \
    ZSCORE HGETALL HKEYS HVALS HDEL INFO CONFIG SAVE BGSAVE SHUTDOWN CLIENT CLUSTER DBSIZE ";

/// The name of the first element's type, and the first line behind the type byte.
fn element<'a>(context: &Context<'a>) -> Option<(u8, &'static str, &'a [u8])> {
    let (first, rest) = context.payload.split_first()?;
    let (kind, name) = TYPES.iter().find(|(kind, _)| kind == first)?;
    let end = memmem::find(head(rest, WINDOW - 1), b"\r\n")?;
    (context.on(PORTS) && context.payload.len() >= 3).then(|| (*kind, *name, &rest[..end]))
}

/// The known command that is an array's first string.
fn command(payload: &[u8]) -> Option<&[u8]> {
    let mut lines = memmem::find_iter(head(payload, 200), b"\r\n");
    let (second, third) = (lines.nth(1)?, lines.next()?);
    let word = payload.get(second + 2..third)?;
    let known = |command: &str| command.as_bytes().eq_ignore_ascii_case(word);
    (payload[0] == b'*' && COMMANDS.split_whitespace().any(known)).then_some(word)
}

impl Signature for Redis {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Redis]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && TYPES.iter().any(|(kind, _)| *kind == first)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        element(context)?;
        let known = command(context.payload).is_some();
        verdict(Protocol::Redis, Confidence::by_port(known, 1000, 975))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((kind, name, line)) = element(context) else {
            return;
        };
        details.put("resp_type", name);
        match kind {
            b'*' => {
                if let Some(command) = command(context.payload) {
                    details.put("command", Upper(command));
                }
            }
            b'+' | b'-' => {
                details.text("message", line);
                details.flag("error", kind == b'-');
            }
            b':' => {
                let value = std::str::from_utf8(line).ok();
                if let Some(value) = value.and_then(|text| text.parse::<i64>().ok()) {
                    details.put("value", value);
                }
            }
            _ => {}
        }
    }
}
