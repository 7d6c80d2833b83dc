//! Key logs: secrets that clients or servers write down, one a line (`SSLKEYLOGFILE`, RFC 9850).
//!
//! `LABEL client_random secret`, parted by blanks, both numbers in hexadecimal digits of either case. Blank lines and those that begin with `#` say nothing, and labels that are not known are passed over.

use std::fmt;

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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    bytes: [u8; 48],
    len: u8,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What the secret is for.
    pub label: Label,
    /// The random of the ClientHello of the session that it is for.
    pub client_random: [u8; 32],
    /// The secret.
    pub secret: Secret,
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
    let mut bytes = [0; 48];
    let len = secret.len() / 2;
    if secret.len() % 2 != 0 || !label.allows(len) {
        return Err(LineError::Secret);
    }
    unhex(secret, &mut bytes[..len]).ok_or(LineError::Secret)?;
    let secret = Secret {
        bytes,
        len: len as u8,
    };
    Ok(Some(Entry {
        label,
        client_random,
        secret,
    }))
}

fn unhex(digits: &[u8], out: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (pair, byte) in digits.chunks_exact(2).zip(out) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(())
}

/// Lines out of a file or pipe that is being written. A line counts when its end has come.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
    is_too_long: bool,
    /// Lines that are wrong.
    pub refused: u64,
}

impl Lines {
    /// Takes in the next bytes, and gives each entry.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Entry)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.unfinished.len() + piece.len() > LONGEST_LINE {
                self.unfinished.clear();
                self.is_too_long = true;
            } else if !self.is_too_long {
                self.unfinished.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                match read_line(&self.unfinished) {
                    _ if self.is_too_long => self.refused += 1,
                    Ok(Some(entry)) => each(entry),
                    Ok(None) => {}
                    Err(_) => self.refused += 1,
                }
                self.restart();
            }
        }
    }

    /// The file begins anew: what is unfinished has no end.
    pub fn restart(&mut self) {
        self.unfinished.clear();
        self.is_too_long = false;
    }
}
