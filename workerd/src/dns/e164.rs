//! Telephone numbers in names (ENUM, RFC 6116 section 3.2): the digits as labels, the last one first, below `e164.arpa`.

use super::name::Name;

/// Most digits of a number (ITU-T E.164 has 15; some plans add prefixes).
const MOST_DIGITS: usize = 32;

/// A number with its plus sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    text: [u8; MOST_DIGITS + 1],
    /// Where the plus sign is.
    start: usize,
}

impl Number {
    /// The number that `name` stands for.
    #[must_use]
    pub fn of(name: Name<'_>) -> Option<Self> {
        let mut number = Self {
            text: [0; MOST_DIGITS + 1],
            start: MOST_DIGITS + 1,
        };
        let mut labels = name.labels();
        let behind = loop {
            match labels.next()? {
                [digit @ b'0'..=b'9'] if number.start > 1 => number.push(*digit),
                other => break other,
            }
        };
        let is_enum = behind.eq_ignore_ascii_case(b"e164")
            && labels.next()?.eq_ignore_ascii_case(b"arpa")
            && labels.next().is_none();
        if !is_enum || number.start > MOST_DIGITS {
            return None;
        }
        number.push(b'+');
        Some(number)
    }

    /// Its text, such as `+441632960083`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.text[self.start] = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> Option<String> {
        let mut message = Vec::new();
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        let number = Number::of(Name::read(&message, 0)?.0)?;
        Some(String::from_utf8(number.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn digits_are_turned_round() {
        assert_eq!(
            number("3.8.0.0.6.9.2.3.6.1.4.4.e164.arpa").as_deref(),
            Some("+441632960083")
        );
        assert_eq!(number("1.E164.ARPA").as_deref(), Some("+1"));
    }

    #[test]
    fn other_names_are_no_numbers() {
        let long = format!("{}e164.arpa", "1.".repeat(MOST_DIGITS + 1));
        for name in [
            "e164.arpa",
            "1.e164.org",
            "1.e164.arpa.example",
            "x.1.e164.arpa",
            "12.e164.arpa",
            "1.2.3",
            long.as_str(),
        ] {
            assert_eq!(number(name), None, "{name}");
        }
        assert!(number(&long[2..]).is_some());
    }
}
