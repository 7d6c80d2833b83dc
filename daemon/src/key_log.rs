//! Key logs: secrets that clients or servers write down, one a line (`SSLKEYLOGFILE`, RFC 9850).
//!
//! `LABEL client_random secret`, parted by blanks, both numbers in hexadecimal digits of either case. Blank lines and those that begin with `#` say nothing, and labels that are not known are passed over.
//!
//! capd reads them ([`Lines`]) and writes each secret into the shared log `keys`, where the workers find it ([`Entry::kind`], [`Entry::parts`], [`Entry::read`]). Secrets are never shown, and their
//! memory is cleared when they are dropped.

use std::fmt;

use zeroize::Zeroize;

/// Longest line; longer ones are passed over.
const LONGEST_LINE: usize = 1024;

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// The master secret of TLS 1.2.
    ClientRandom,
    /// `CLIENT_HANDSHAKE_TRAFFIC_SECRET`
    ClientHandshake,
    /// `SERVER_HANDSHAKE_TRAFFIC_SECRET`
    ServerHandshake,
    /// `CLIENT_TRAFFIC_SECRET_0`
    ClientTraffic,
    /// `SERVER_TRAFFIC_SECRET_0`
    ServerTraffic,
    /// `EXPORTER_SECRET`
    Exporter,
    /// `EARLY_EXPORTER_SECRET`
    EarlyExporter,
    /// `CLIENT_EARLY_TRAFFIC_SECRET`
    ClientEarly,
}

impl Label {
    /// All of them, in the order of the fields of `TLSSessionKeys`.
    pub const ALL: [Self; 8] = [
        Self::ClientRandom,
        Self::ClientHandshake,
        Self::ServerHandshake,
        Self::ClientTraffic,
        Self::ServerTraffic,
        Self::Exporter,
        Self::EarlyExporter,
        Self::ClientEarly,
    ];

    /// As it stands in a key log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientRandom => "CLIENT_RANDOM",
            Self::ClientHandshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Self::ServerHandshake => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            Self::ClientTraffic => "CLIENT_TRAFFIC_SECRET_0",
            Self::ServerTraffic => "SERVER_TRAFFIC_SECRET_0",
            Self::Exporter => "EXPORTER_SECRET",
            Self::EarlyExporter => "EARLY_EXPORTER_SECRET",
            Self::ClientEarly => "CLIENT_EARLY_TRAFFIC_SECRET",
        }
    }

    fn allows(self, len: usize) -> bool {
        match self {
            Self::ClientRandom => len == 48,
            _ => len == 32 || len == 48,
        }
    }
}

/// A secret: 32 or 48 bytes. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: [u8; 48],
    len: u8,
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Secret {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// `None` if there are more than 48.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut room = [0; 48];
        room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self {
            bytes: room,
            len: bytes.len() as u8,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} secret bytes", self.len)
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the secret is for.
    pub label: Label,
    /// The random of the ClientHello of the session that it is for.
    pub client_random: [u8; 32],
    /// The secret.
    pub secret: Secret,
}

impl Entry {
    /// Kind of its record in the shared log.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.label as u16
    }

    /// Its record in the shared log: the client random, then the secret.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.client_random, self.secret.bytes()]
    }

    /// Reads a record of the shared log; `None` if it is none.
    #[must_use]
    pub fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let label = *Label::ALL.get(usize::from(kind))?;
        let (client_random, secret) = body.split_first_chunk()?;
        Some(Self {
            label,
            client_random: *client_random,
            secret: Secret::new(secret).filter(|_| label.allows(secret.len()))?,
        })
    }
}

/// Why a line says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not three fields.
    #[error("a line of a key log has three fields: label, client random, secret")]
    Format,
    /// A client random that is none.
    #[error("a client random is 64 hexadecimal digits")]
    ClientRandom,
    /// A secret that is none, or has not the length that its label demands.
    #[error("a secret is 96 hexadecimal digits, of TLS 1.3 also 64")]
    Secret,
    /// More bytes than any that says something.
    #[error("a line of a key log has at most {LONGEST_LINE} bytes")]
    TooLong,
}

/// Reads a line, without its end. `None` if it says nothing, or has a label that is not known.
///
/// # Errors
/// [`LineError`]
pub fn read_line(line: &[u8]) -> Result<Option<Entry>, LineError> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let mut fields = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let mut field = || fields.next().ok_or(LineError::Format);
    let (label, random, secret) = (field()?, field()?, field()?);
    if fields.next().is_some() {
        return Err(LineError::Format);
    }
    let is_label = |one: &Label| one.name().as_bytes() == label;
    let Some(label) = Label::ALL.into_iter().find(is_label) else {
        return Ok(None);
    };
    let mut client_random = [0; 32];
    if random.len() != 64 || unhex(random, &mut client_random).is_none() {
        return Err(LineError::ClientRandom);
    }
    let len = secret.len() / 2;
    if secret.len() % 2 != 0 || !label.allows(len) {
        return Err(LineError::Secret);
    }
    let mut entry = Entry {
        label,
        client_random,
        secret: Secret {
            bytes: [0; 48],
            len: len as u8,
        },
    };
    unhex(secret, &mut entry.secret.bytes[..len]).ok_or(LineError::Secret)?;
    Ok(Some(entry))
}

fn unhex(digits: &[u8], out: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (pair, byte) in digits.chunks_exact(2).zip(out) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(())
}

/// Lines out of a file or pipe that is being written. A line counts when its end has come.
#[derive(Default)]
pub struct Lines {
    unfinished: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes in the next bytes, and gives what each line says, or why it says nothing.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Result<Entry, LineError>)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.unfinished.len() + piece.len() > LONGEST_LINE {
                self.unfinished.zeroize();
                self.is_too_long = true;
            } else if !self.is_too_long {
                self.unfinished.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                match read_line(&self.unfinished) {
                    _ if self.is_too_long => each(Err(LineError::TooLong)),
                    Ok(Some(entry)) => each(Ok(entry)),
                    Ok(None) => {}
                    Err(error) => each(Err(error)),
                }
                self.restart();
            }
        }
    }

    /// The log begins anew: what is unfinished has no end.
    pub fn restart(&mut self) {
        self.unfinished.zeroize();
        self.is_too_long = false;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.unfinished.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(label: Label, random: u8, secret: &[u8]) -> String {
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        format!("{} {} {}\n", label.name(), hex(&[random; 32]), hex(secret))
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_says_the_same(
            lines in prop::collection::vec(prop_oneof![
                (0..8usize, any::<u8>()).prop_map(|(label, random)| line(Label::ALL[label], random, &[random; 48])),
                "[ -~]{0,200}\n".prop_map(|text| text),
                "[A-Z_]{0,10} [0-9a-f]{60,70} [0-9a-f]{60,100}\n".prop_map(|text| text),
                "x{1000,1100}\n".prop_map(|text| text),
            ], 0..20),
            size in 1..300usize,
        ) {
            let text = lines.concat();
            let read = |size: usize| {
                let (mut reader, mut said) = (Lines::default(), Vec::new());
                text.as_bytes().chunks(size).for_each(|piece| reader.take(piece, |one| said.push(one)));
                said
            };
            prop_assert_eq!(read(size), read(text.len().max(1)));
        }

        #[test]
        fn records_of_the_log_are_read_or_refused(kind in 0..10u16, body in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(entry) = Entry::read(kind, &body) {
                prop_assert_eq!(entry.kind(), kind);
                prop_assert_eq!(entry.parts().concat(), body);
            }
        }
    }

    #[test]
    fn an_entry_comes_back_out_of_its_record_and_shows_no_secret() {
        let entry = read_line(line(Label::ClientTraffic, 7, &[0xab; 32]).as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(
            Entry::read(entry.kind(), &entry.parts().concat()),
            Some(entry.clone())
        );
        assert!(!format!("{entry:?}").contains("171"), "{entry:?}");
    }
}
