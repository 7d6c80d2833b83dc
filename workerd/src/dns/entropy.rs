//! Shannon's entropy of a text, in bits per character.

/// Counts characters and adds up; keeps its tables from text to text.
#[derive(Debug)]
pub struct Entropy {
    /// What a character adds to the sum of n log2 n when it comes for the n-th time.
    steps: Vec<f64>,
    characters: Vec<char>,
}

/// Repetitions whose share is looked up.
const STEPS: usize = 256;

impl Entropy {
    /// Tables.
    #[must_use]
    pub fn new() -> Self {
        Self {
            steps: (0..STEPS).map(step).collect(),
            characters: Vec::new(),
        }
    }

    /// The entropy of `text`, which is in lower case, without its dots. 0 if there is nothing else.
    #[must_use]
    pub fn of(&mut self, text: &str) -> f64 {
        let (sum, total) = match text.is_ascii() {
            true => self.of_ascii(text.as_bytes()),
            false => self.of_characters(text),
        };
        // -sum of p log2 p, with p = n / total.
        match total {
            0 => 0.0,
            // Where it is 0, rounding may leave a little less.
            _ => ((total as f64).log2() - sum / total as f64).max(0.0),
        }
    }

    /// The sum of n log2 n, and how many characters there are.
    fn of_ascii(&self, text: &[u8]) -> (f64, usize) {
        let mut counts = [0_u32; 128];
        let (mut sum, mut total) = (0.0, 0);
        for byte in text.iter().filter(|byte| **byte != b'.') {
            let count = &mut counts[usize::from(byte & 127)];
            sum += self.step(*count as usize);
            *count += 1;
            total += 1;
        }
        (sum, total)
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

    fn step(&self, before: usize) -> f64 {
        let known = self.steps.get(before).copied();
        known.unwrap_or_else(|| step(before))
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

fn step(before: usize) -> f64 {
    part(before + 1) - part(before)
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
            let of = Entropy::new().of(&text);
            prop_assert!((of - defined(&text).max(0.0)).abs() < 1e-9, "{of}");
        }
    }

    #[test]
    fn it_is_never_negative() {
        for count in 1..1000 {
            let of = Entropy::new().of(&"a".repeat(count));
            assert!((0.0..1e-9).contains(&of), "{count} times: {of}");
        }
    }

    #[test]
    fn long_repetitions_are_counted_too() {
        assert!(Entropy::new().of(&"a".repeat(1000)).abs() < 1e-9);
        assert!((Entropy::new().of(&"ab".repeat(1000)) - 1.0).abs() < 1e-9);
    }
}
