//! OpenVPN (its wire protocol, draft-openvpn-wire-protocol).
//!
//! The upper five bits of the first byte are an opcode, the lower three a key id; over TCP two bytes
//! of length stand in front. On port 1194 the opcode is enough; elsewhere, over UDP, only control
//! opcodes with a random session id and a small packet id count. Ports of TLS and of services whose headers look alike (NTP,
//! VXLAN) are left out.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use super::tls::MID_STREAM_PORTS;

/// See the module.
pub struct OpenVpn;

const PORTS: &[u16] = &[1194];
/// NTP, NetBIOS, SNMP, IKE, syslog, H.225, VXLAN.
const OTHERS: &[u16] = &[123, 137, 138, 161, 162, 500, 514, 1719, 4500, 4789, 8472];
const MOST_PACKET_ID: u32 = 1_000_000;
const SHORTEST: usize = 14;

/// The packet without TCP's length, and its opcode.
fn packet<'a>(context: &Context<'a>) -> Option<(&'a [u8], u8)> {
    let standard = context.on(PORTS);
    let packet = match context.layer {
        Layer::Udp => context.payload,
        Layer::Tcp if standard => {
            let packet = context.payload.get(2..)?;
            (usize::from(be16(context.payload, 0)?) <= packet.len()).then_some(packet)?
        }
        _ => return None,
    };
    if packet.len() < SHORTEST || context.on(MID_STREAM_PORTS) || context.on(OTHERS) {
        return None;
    }
    let first = byte(packet, 0)?;
    let opcode = first >> 3;
    if (0x14..=0x18).contains(&first) || !(1..=11).contains(&opcode) {
        return None;
    }
    let fresh = matches!(opcode, 1 | 2 | 7 | 8) && packet[1..9] == [0; 8];
    // A session id is random: of a million, 400 have two bytes 0.
    let random = packet[1..9].iter().filter(|byte| **byte == 0).count() <= 1;
    let control =
        matches!(opcode, 1..=5 | 7 | 8) && (fresh || random && be32(packet, 9)? <= MOST_PACKET_ID);
    (standard || control).then_some((packet, opcode))
}

impl Signature for OpenVpn {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::OpenVpn]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp || layer == Layer::Udp && (1..=11).contains(&(first >> 3))
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let (_, opcode) = packet(context)?;
        let (on, off) = match opcode {
            1 | 2 | 7 | 8 | 10 => (1000, 672),
            _ => (975, 650),
        };
        verdict(
            Protocol::OpenVpn,
            Confidence::by_port(context.on(PORTS), on, off),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((packet, opcode)) = packet(context) else {
            return;
        };
        details.put("opcode", opcode);
        details.put("key_id", packet[0] & 7);
        let name = match opcode {
            1 => "P_CONTROL_HARD_RESET_CLIENT_V1",
            2 => "P_CONTROL_HARD_RESET_SERVER_V1",
            3 => "P_CONTROL_SOFT_RESET_V1",
            4 => "P_CONTROL_V1",
            5 => "P_ACK_V1",
            6 => "P_DATA_V1",
            7 => "P_CONTROL_HARD_RESET_CLIENT_V2",
            8 => "P_CONTROL_HARD_RESET_SERVER_V2",
            9 => "P_DATA_V2",
            10 => "P_CONTROL_HARD_RESET_CLIENT_V3",
            _ => "P_CONTROL_WKC_V1",
        };
        details.put("opcode_name", name);
        let kind = match opcode {
            5 => "ack",
            6 | 9 => "data",
            _ => "control",
        };
        details.put("packet_type", kind);
        let control = match opcode {
            1 | 7 | 10 => "hard_reset_client",
            2 | 8 => "hard_reset_server",
            3 => "soft_reset",
            _ => "",
        };
        details.text_if_any("control_type", control.as_bytes());
        let initial = matches!(opcode, 1 | 7) && packet[1..9] == [0; 8];
        details.flag("initial_handshake", initial);
    }
}
