//! Ranges of versions, and the conditions that code asks of a version.

/// Versions from `min` to `max`; none when `max` is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) min: i16,
    pub(super) max: i16,
}

impl Versions {
    /// No version at all.
    pub(super) const NONE: Self = Self { min: 0, max: -1 };

    /// Kafka's notation: `none`, `3`, `3-5`, `3+`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<i16>()
                .map_err(|_| format!("versions {text:?}"))
        };
        if text == "none" {
            return Ok(Self::NONE);
        }
        if let Some(min) = text.strip_suffix('+') {
            return Ok(Self {
                min: number(min)?,
                max: i16::MAX,
            });
        }
        match text.split_once('-') {
            Some((min, max)) => Ok(Self {
                min: number(min)?,
                max: number(max)?,
            }),
            None => Ok(Self {
                min: number(text)?,
                max: number(text)?,
            }),
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.max < self.min
    }

    pub(super) fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// The condition that a version is one of these, when it is known to be one of `known`.
    pub(super) fn condition(self, known: Self) -> String {
        let here = self.and(known);
        if here.is_empty() {
            return String::from("false");
        }
        match (here.min > known.min, here.max < known.max) {
            (false, false) => String::from("true"),
            _ if here.min == here.max => format!("version.number == {}", here.min),
            (true, false) => format!("version.number >= {}", here.min),
            (false, true) => format!("version.number <= {}", here.max),
            (true, true) => format!("({}..={}).contains(&version.number)", here.min, here.max),
        }
    }

    /// The condition that a version is none of these, when it is known to be one of `known`.
    pub(super) fn lacking(self, known: Self) -> String {
        let here = self.and(known);
        match (here.min > known.min, here.max < known.max) {
            (false, false) => String::from("false"),
            (true, false) => format!("version.number < {}", here.min),
            (false, true) => format!("version.number > {}", here.max),
            (true, true) => format!("!({}..={}).contains(&version.number)", here.min, here.max),
        }
    }

    /// For people: `3 to 5`.
    pub(super) fn words(self) -> String {
        if self.min == self.max {
            self.min.to_string()
        } else {
            format!("{} to {}", self.min, self.max)
        }
    }
}
