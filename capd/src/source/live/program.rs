//! Programs of classic BPF as the kernel gets them: compiled by libpcap, with what has to stand before them.

use pcap::BpfProgram;
use socket2::SockFilter;

use crate::source::file::MAX_PACKET;

/// Fields that the kernel gives a program beside the packet (linux/filter.h).
const ANCILLARY: u32 = 0xffff_f000;
const PROTOCOL: u32 = ANCILLARY;
const PACKET_TYPE: u32 = ANCILLARY + 4;
const INTERFACE_INDEX: u32 = ANCILLARY + 8;
/// Type of a packet that this host sends (linux/if_packet.h).
const PACKET_OUTGOING: u32 = 4;

/// BPF_RET|BPF_K: the number of bytes to accept.
const RETURN: u16 = 0x06;

pub(super) const REJECT_ALL: Instruction = Instruction {
    code: RETURN,
    jt: 0,
    jf: 0,
    k: 0,
};
pub(super) const ACCEPT_ALL: Instruction = Instruction {
    k: MAX_PACKET as u32,
    ..REJECT_ALL
};

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

/// The instructions of a compiled program; `None` if crate `pcap` prints them otherwise than known.
pub(super) fn instructions(program: &BpfProgram) -> Option<Vec<Instruction>> {
    program
        .get_instructions()
        .iter()
        .map(|instruction| Instruction::parse(&instruction.to_string()))
        .collect()
}

/// As the kernel wants it: behind what lets a packet over loopback interface `loopback` count once, and accepting `most` bytes.
pub(super) fn for_kernel(
    program: &[Instruction],
    loopback: Option<u32>,
    most: u32,
) -> Vec<SockFilter> {
    let prelude = loopback.map(without_sent_on);
    let program = program.iter().map(|instruction| match *instruction {
        Instruction {
            code: RETURN, k, ..
        } if k > 0 => Instruction {
            k: most,
            ..*instruction
        },
        other => other,
    });
    prelude
        .into_iter()
        .flatten()
        .chain(program)
        .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
        .collect()
}

/// What stands before a program so that a packet over loopback interface `index` counts once: the kernel shows it as sent
/// and as received, and libpcap throws the first away after it was counted.
fn without_sent_on(index: u32) -> [Instruction; 5] {
    let load = |k| Instruction {
        code: 0x20,
        jt: 0,
        jf: 0,
        k,
    };
    let unless = |k, jf| Instruction {
        code: 0x15,
        jt: 0,
        jf,
        k,
    };
    [
        load(PACKET_TYPE),
        unless(PACKET_OUTGOING, 3),
        load(INTERFACE_INDEX),
        unless(index, 1),
        REJECT_ALL,
    ]
}

impl Instruction {
    /// Reads the four numbers as crate `pcap` prints them: it shows an instruction in no other way.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Self {
            code: next()?.try_into().ok()?,
            jt: next()?.try_into().ok()?,
            jf: next()?.try_into().ok()?,
            k: next()?,
        })
    }

    /// The same for a cooked socket, whose packets begin behind the cooked header that libpcap puts in front afterwards. Two fields of that
    /// header can be had from the kernel by other means (linux/filter.h); `None` for the others.
    pub(super) fn without_cooked_header(self) -> Option<Self> {
        const HEADER: u32 = 16;
        let (class, mode) = (self.code & 0x07, self.code & 0xe0);
        let loads_packet = matches!((class, mode), (0 | 1, 0x20 | 0x40 | 0xa0));
        let k = match self.k {
            k if !loads_packet || k >= ANCILLARY => k,
            k if k >= HEADER => k - HEADER,
            14 => PROTOCOL,
            0 => PACKET_TYPE,
            _ => return None,
        };
        Some(Self { k, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::compile_offline;

    #[test]
    fn instructions_parse() {
        let program = compile_offline("tcp port 80", 1).unwrap();
        assert!(
            program
                .get_instructions()
                .iter()
                .all(|i| Instruction::parse(&i.to_string()).is_some())
        );
        assert_eq!(
            Instruction::parse("40 1 2 4294967295"),
            Some(Instruction {
                code: 40,
                jt: 1,
                jf: 2,
                k: u32::MAX
            })
        );
        assert_eq!(Instruction::parse("40 256 2 1"), None);
        assert_eq!(Instruction::parse("40 1"), None);
    }

    #[test]
    fn cooked_programs_move_to_the_network_header() {
        let load = |code, k| Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        };
        assert_eq!(
            load(0x28, 14).without_cooked_header(),
            Some(load(0x28, 0xffff_f000))
        );
        assert_eq!(
            load(0x28, 0).without_cooked_header(),
            Some(load(0x28, 0xffff_f004))
        );
        assert_eq!(load(0x30, 25).without_cooked_header(), Some(load(0x30, 9)));
        assert_eq!(load(0xb1, 16).without_cooked_header(), Some(load(0xb1, 0)));
        assert_eq!(load(0x15, 6).without_cooked_header(), Some(load(0x15, 6)));
        assert_eq!(load(0x28, 6).without_cooked_header(), None);
    }
}
