//! NFS (RFC 1813, RFC 7530) over ONC RPC (RFC 5531 section 9).
//!
//! A call of RPC version 2 to program 100003, version 2 to 4; over TCP behind a record mark (section 11).
//! A reply names no program, so a flow is known by its calls.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::be32;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Nfs;

const PROGRAM: u32 = 100_003;
const CALL: u32 = 0;
const LAST_FRAGMENT: u32 = 1 << 31;

/// Version and procedure of a call.
fn call(context: &Context<'_>) -> Option<(u32, u32)> {
    let message = if context.tcp() {
        let mark = be32(context.payload, 0)?;
        (mark & !LAST_FRAGMENT >= 40).then(|| context.payload.get(4..))??
    } else {
        context.payload
    };
    let (kind, rpc) = (be32(message, 4)?, be32(message, 8)?);
    let (program, version) = (be32(message, 12)?, be32(message, 16)?);
    let call = kind == CALL && rpc == 2 && program == PROGRAM && (2..=4).contains(&version);
    call.then_some((version, be32(message, 20)?))
}

impl Signature for Nfs {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Nfs]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp || layer == Layer::Tcp && first == 0x80
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        call(context)?;
        verdict(Protocol::Nfs, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((version, procedure)) = call(context) else {
            return;
        };
        details.put("type", "call");
        details.put("version", version);
        details.put("procedure", procedure);
        details.set_info(format_args!("NFSv{version}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_call_names_the_program() {
        let words = [7_u32, CALL, 2, PROGRAM, 3, 1, 0, 0, 0, 0];
        let call: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let (name, details) = probe(Layer::Udp, (800, 2050), &call).unwrap();
        assert_eq!((name, details.info()), ("NFS", "NFSv3"));
        let framed = [&(LAST_FRAGMENT | 40).to_be_bytes()[..], &call].concat();
        assert_eq!(probe(Layer::Tcp, (800, 2050), &framed).unwrap().0, "NFS");
        assert!(probe(Layer::Tcp, (800, 2049), &call).is_none());
        let mut other = call.clone();
        other[15] ^= 1;
        assert!(probe(Layer::Udp, (800, 2049), &other).is_none());
    }
}
