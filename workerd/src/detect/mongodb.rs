//! MongoDB's wire protocol (MongoDB manual, "MongoDB Wire Protocol").
//!
//! TCP port 27017 to 27019; a header with a length of 16 to 48 MiB and a known opcode.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::le32;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct MongoDb;

const PORTS: &[u16] = &[27017, 27018, 27019];
const LENGTHS: std::ops::RangeInclusive<u32> = 16..=50_331_648;

struct Header {
    length: u32,
    request: i32,
    response_to: i32,
    opcode: u32,
    name: &'static str,
}

impl Header {
    fn of(context: &Context<'_>) -> Option<Self> {
        let payload = context.payload;
        let opcode = le32(payload, 12)?;
        let header = Self {
            length: le32(payload, 0)?,
            request: le32(payload, 4)? as i32,
            response_to: le32(payload, 8)? as i32,
            opcode,
            name: name(opcode)?,
        };
        (context.on(PORTS) && LENGTHS.contains(&header.length)).then_some(header)
    }
}

fn name(opcode: u32) -> Option<&'static str> {
    Some(match opcode {
        1 => "OP_REPLY",
        1000 => "OP_MSG (legacy)",
        2001 => "OP_UPDATE",
        2002 => "OP_INSERT",
        2004 => "OP_QUERY",
        2005 => "OP_GET_MORE",
        2006 => "OP_DELETE",
        2007 => "OP_KILL_CURSORS",
        2010 => "OP_COMMAND",
        2011 => "OP_COMMANDREPLY",
        2012 => "OP_COMPRESSED",
        2013 => "OP_MSG",
        _ => return None,
    })
}

impl Signature for MongoDb {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::MongoDb]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        layer == Layer::Tcp
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let message = matches!(Header::of(context)?.opcode, 2013 | 1000);
        verdict(Protocol::MongoDb, Confidence::by_port(message, 1000, 975))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(header) = Header::of(context) else {
            return;
        };
        let request = header.response_to == 0;
        details.put("message_length", header.length);
        details.put("request_id", header.request);
        details.put("response_to", header.response_to);
        details.put("op_code", header.opcode);
        details.put("op_name", header.name);
        details.put("type", if request { "request" } else { "response" });
    }
}
