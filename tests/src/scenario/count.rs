//! How many: `2`, `"1+"`, `"1..3"`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, bail};
use serde::{Deserialize, Deserializer, de};

/// A range of numbers, open at the top when `most` is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// At least.
    pub(crate) least: usize,
    /// At most.
    pub(crate) most: Option<usize>,
}

impl Count {
    /// Whether `number` is in the range.
    pub(crate) fn holds(self, number: usize) -> bool {
        number >= self.least && self.most.is_none_or(|most| number <= most)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most {
            None => write!(f, "at least {}", self.least),
            Some(most) if most == self.least => write!(f, "exactly {most}"),
            Some(most) => write!(f, "{} to {most}", self.least),
        }
    }
}

impl FromStr for Count {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| text.parse::<usize>().with_context(|| format!("`{text}` is no number"));
        let count = if let Some(least) = text.strip_suffix('+') {
            Self { least: number(least)?, most: None }
        } else if let Some((least, most)) = text.split_once("..") {
            Self { least: number(least)?, most: Some(number(most)?) }
        } else {
            Self { least: number(text)?, most: Some(number(text)?) }
        };
        if count.most.is_some_and(|most| most < count.least) {
            bail!("`{text}` is an empty range");
        }
        Ok(count)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(usize),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(number) => Ok(Self { least: number, most: Some(number) }),
            Raw::Text(text) => text.parse().map_err(|error| de::Error::custom(format!("{error:#}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, number: usize) -> bool {
        text.parse::<Count>().expect("a count").holds(number)
    }

    #[test]
    fn exact_open_and_closed_ranges() {
        assert!(holds("2", 2) && !holds("2", 1) && !holds("2", 3));
        assert!(holds("1+", 1) && holds("1+", 99) && !holds("1+", 0));
        assert!(holds("1..3", 1) && holds("1..3", 3) && !holds("1..3", 0) && !holds("1..3", 4));
        assert!(holds("0", 0) && !holds("0", 1));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "+", "a", "3..1", "-1", "1.."] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }
}
