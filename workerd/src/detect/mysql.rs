//! MySQL's client/server protocol (MySQL Internals, "Client/Server Protocol").
//!
//! TCP port 3306; a packet header, and behind it a server's greeting, a client's login, a command, or an
//! error.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{byte, head, le24, le32, split};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct MySql;

const PORTS: &[u16] = &[3306];
const COMMANDS: [&str; 32] = [
    "COM_SLEEP",
    "COM_QUIT",
    "COM_INIT_DB",
    "COM_QUERY",
    "COM_FIELD_LIST",
    "COM_CREATE_DB",
    "COM_DROP_DB",
    "COM_REFRESH",
    "COM_SHUTDOWN",
    "COM_STATISTICS",
    "COM_PROCESS_INFO",
    "COM_CONNECT",
    "COM_PROCESS_KILL",
    "COM_DEBUG",
    "COM_PING",
    "COM_TIME",
    "COM_DELAYED_INSERT",
    "COM_CHANGE_USER",
    "COM_BINLOG_DUMP",
    "COM_TABLE_DUMP",
    "COM_CONNECT_OUT",
    "COM_REGISTER_SLAVE",
    "COM_STMT_PREPARE",
    "COM_STMT_EXECUTE",
    "COM_STMT_SEND_LONG_DATA",
    "COM_STMT_CLOSE",
    "COM_STMT_RESET",
    "COM_SET_OPTION",
    "COM_STMT_FETCH",
    "COM_DAEMON",
    "COM_BINLOG_DUMP_GTID",
    "COM_RESET_CONNECTION",
];

enum Packet<'a> {
    Greeting { version: &'a [u8] },
    Login { capabilities: u32 },
    Command { code: u8 },
    Error { code: u16 },
}

/// The sequence number, and what the packet is.
fn packet<'a>(context: &Context<'a>) -> Option<(u8, Packet<'a>)> {
    let payload = context.payload;
    let (len, sequence, first) = (le24(payload, 0)?, byte(payload, 3)?, byte(payload, 4)?);
    let large_enough = len <= 65536 || payload.len() >= 4 + len.min(1024) as usize;
    if !context.on(PORTS) || len == 0 || !large_enough {
        return None;
    }
    let packet = if first == 10 && payload.len() >= 10 {
        let rest = &payload[5..];
        let version = split(rest, 0).map_or(rest, |(version, _)| version);
        Packet::Greeting {
            version: (version.len() < rest.len()).then(|| head(version, 50))?,
        }
    } else if first == 255 && payload.len() == len as usize + 4 {
        Packet::Error {
            code: u16::from_le_bytes([byte(payload, 5)?, byte(payload, 6)?]),
        }
    } else if sequence == 1 && payload.len() >= 32 {
        Packet::Login {
            capabilities: le32(payload, 4)?,
        }
    } else if sequence == 0 && usize::from(first) < COMMANDS.len() && !statement_of_tls(payload) {
        Packet::Command { code: first }
    } else {
        return None;
    };
    Some((sequence, packet))
}

/// Records of TLS have types 0x14 to 0x17 first, and version 3 behind; a command never does.
fn statement_of_tls(payload: &[u8]) -> bool {
    matches!(payload, [0x14..=0x18, 3, 0..=4, ..])
}

impl Signature for MySql {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::MySql]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        layer == Layer::Tcp
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let (_, packet) = packet(context)?;
        let greeting = matches!(packet, Packet::Greeting { .. });
        verdict(Protocol::MySql, Confidence::by_port(greeting, 984, 840))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        match packet(context) {
            Some((sequence, Packet::Greeting { version })) => {
                details.put("type", "handshake");
                details.put("protocol_version", 10);
                details.text("server_version", version);
                details.put("sequence_id", sequence);
            }
            Some((sequence, Packet::Login { capabilities })) => {
                details.put("type", "auth");
                details.put("sequence_id", sequence);
                details.put("capabilities", capabilities);
            }
            Some((_, Packet::Command { code })) => {
                details.put("type", "command");
                details.put("command_code", code);
                details.put("command_name", COMMANDS[usize::from(code)]);
            }
            Some((sequence, Packet::Error { code })) => {
                details.put("type", "error");
                details.put("sequence_id", sequence);
                details.put("error_code", code);
            }
            None => {}
        }
    }

    /// An SSL request in the login (capability CLIENT_SSL).
    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
