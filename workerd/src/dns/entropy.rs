//! Shannon's entropy of a text, in bits per character.

/// Counts characters and adds up; keeps its tables from text to text.
#[derive(Debug)]
pub struct Entropy {
    /// log2 n.
    logarithms: [f64; 256],
    characters: Vec<char>,
}

impl Entropy {
    /// Tables.
    #[must_use]
    pub fn new() -> Self {
        Self {
            logarithms: std::array::from_fn(|n| (n as f64).log2()),
            characters: Vec::new(),
        }
    }

    /// The entropy of `text`, which is UTF-8 in lower case, without its dots. 0 if there is nothing else.
    #[must_use]
    pub fn of(&mut self, text: &[u8]) -> f64 {
        let (sum, total) = match text.is_ascii() {
            true if text.len() < self.logarithms.len() => self.of_short(text),
            true => of_ascii(text),
            false => self.of_characters(std::str::from_utf8(text).unwrap_or_default()),
        };
        // -sum of p log2 p, with p = n / total.
        match total {
            0 => 0.0,
            // Where it is 0, rounding may leave a little less.
            _ => (self.logarithm(total) - sum / total as f64).max(0.0),
        }
    }

    /// The sum of n log2 n, and how many characters there are.
    fn of_short(&self, text: &[u8]) -> (f64, usize) {
        const LANES: usize = 4;
        let mut counts = [0_u8; 128];
        for byte in text {
            counts[usize::from(byte & 127)] += 1;
        }
        // The logarithm of 1 adds nothing.
        let dots = std::mem::replace(&mut counts[usize::from(b'.')], 1);
        let part = |byte: u8| self.logarithms[usize::from(counts[usize::from(byte & 127)])];
        // Several sums, since an addition waits for the one before.
        let mut sums = [0.0; LANES];
        let (fours, rest) = text.as_chunks::<LANES>();
        for four in fours {
            for (sum, byte) in sums.iter_mut().zip(four) {
                *sum += part(*byte);
            }
        }
        let rest = rest.iter().map(|byte| part(*byte)).sum::<f64>();
        (
            sums.iter().sum::<f64>() + rest,
            text.len() - usize::from(dots),
        )
    }

    fn of_characters(&mut self, text: &str) -> (f64, usize) {
        self.characters.clear();
        let characters = text.chars().filter(|character| *character != '.');
        self.characters.extend(characters);
        self.characters.sort_unstable();
        let same = self.characters.chunk_by(|one, other| one == other);
        let sum = same.map(|same| part(same.len())).sum();
        (sum, self.characters.len())
    }

    fn logarithm(&self, number: usize) -> f64 {
        let known = self.logarithms.get(number).copied();
        known.unwrap_or_else(|| (number as f64).log2())
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

fn of_ascii(text: &[u8]) -> (f64, usize) {
    let mut counts = [0; 128];
    for byte in text {
        counts[usize::from(byte & 127)] += 1;
    }
    let dots = std::mem::take(&mut counts[usize::from(b'.')]);
    (counts.into_iter().map(part).sum(), text.len() - dots)
}

fn part(count: usize) -> f64 {
    match count {
        0 => 0.0,
        _ => count as f64 * (count as f64).log2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By its definition.
    fn defined(text: &str) -> f64 {
        let characters: Vec<char> = text.chars().filter(|one| *one != '.').collect();
        let share = |one: &char| {
            let same = characters.iter().filter(|other| *other == one).count();
            same as f64 / characters.len() as f64
        };
        let distinct: std::collections::BTreeSet<_> = characters.iter().copied().collect();
        -distinct
            .iter()
            .map(|one| share(one) * share(one).log2())
            .sum::<f64>()
    }

    proptest! {
        #[test]
        fn it_is_as_defined(text in "[a-c.]{0,40}|.{0,60}") {
            let of = Entropy::new().of(text.as_bytes());
            prop_assert!((of - defined(&text).max(0.0)).abs() < 1e-9, "{of}");
        }
    }

    #[test]
    fn it_is_never_negative() {
        for count in 1..1000 {
            let of = Entropy::new().of("a".repeat(count).as_bytes());
            assert!((0.0..1e-9).contains(&of), "{count} times: {of}");
        }
    }

    #[test]
    fn long_repetitions_are_counted_too() {
        assert!(Entropy::new().of("a".repeat(1000).as_bytes()).abs() < 1e-9);
        assert!((Entropy::new().of("ab".repeat(1000).as_bytes()) - 1.0).abs() < 1e-9);
    }
}
