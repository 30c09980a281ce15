//! Measurements as values: samples, their median and spread, and how they are
//! written.

use std::fmt;

/// What a measurement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Billions of bits a second.
    GbitPerSecond,
    /// Packets a second.
    Packets,
    /// Packets, not a second but in all.
    Count,
    /// Requests, each over a connection of its own or not, a second.
    Requests,
    /// Instructions of a CPU.
    Instructions,
    /// Nanoseconds.
    Nanoseconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Millions of bytes.
    Megabytes,
    /// Hundredths of a CPU.
    Percent,
}

impl Unit {
    /// Its name behind a number.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::GbitPerSecond => "Gbit/s",
            Self::Packets => "packets/s",
            Self::Count => "packets",
            Self::Requests => "requests/s",
            Self::Instructions => "instructions",
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Megabytes => "MB",
            Self::Percent => "%",
        }
    }

    /// A value with as many digits as mean something.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::GbitPerSecond => format!("{value:.2}"),
            Self::Packets | Self::Count | Self::Requests | Self::Instructions => grouped(value),
            Self::Milliseconds if value >= 1000.0 => grouped(value),
            Self::Milliseconds if value < 10.0 => format!("{value:.2}"),
            Self::Nanoseconds
            | Self::Milliseconds
            | Self::Bytes
            | Self::Megabytes
            | Self::Percent => format!("{value:.1}"),
        }
    }
}

/// A whole number with commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count as a number to calculate with. Exact below 2^53, which nothing here reaches.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of seconds or bytes are far below 2^53"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Samples of one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds one; a value that is not a number is none.
    pub(crate) fn push(&mut self, value: f64) {
        if value.is_finite() {
            self.0.push(value);
        }
    }

    /// The middle one, or the mean of the two in the middle; nothing without any.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        if sorted.len() % 2 == 1 {
            return Some(upper);
        }
        Some(f64::midpoint(sorted[middle - 1], upper))
    }

    /// Smallest and largest.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let least = self.0.iter().copied().min_by(f64::total_cmp)?;
        let most = self.0.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    /// What was measured.
    pub(crate) what: String,
    /// On what: Evenkeel, or what it stands beside.
    pub(crate) subject: String,
    /// What the samples count.
    pub(crate) unit: Unit,
    /// The samples.
    pub(crate) samples: Samples,
    /// Its share of plain forwarding's, where that makes sense.
    pub(crate) of_forwarding: Option<f64>,
    /// Its share of nftables', where that makes sense.
    pub(crate) of_nft: Option<f64>,
    /// Anything else, a few words.
    pub(crate) notes: String,
}

impl Measurement {
    /// A line without ratios and notes.
    pub(crate) fn new(what: &str, subject: &str, unit: Unit, samples: Samples) -> Self {
        Self {
            what: what.into(),
            subject: subject.into(),
            unit,
            samples,
            of_forwarding: None,
            of_nft: None,
            notes: String::new(),
        }
    }
}

/// What is aimed at, and what came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aim {
    /// What is aimed at, without the value.
    pub(crate) what: String,
    /// The value that came out; nothing where it was not measured.
    pub(crate) value: Option<f64>,
    /// The bound.
    pub(crate) bound: Bound,
    /// What stands behind both numbers; may be empty.
    pub(crate) unit: &'static str,
}

/// On which side of a number an aim is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Aim {
    /// Whether it is met; nothing where it was not measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(match (self.value?, self.bound) {
            (value, Bound::AtLeast(bound)) => value >= bound,
            (value, Bound::AtMost(bound)) => value <= bound,
        })
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        let number = |value: f64| {
            if value >= 10.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.2}")
            }
        };
        let unit = if self.unit.is_empty() {
            String::new()
        } else {
            format!(" {}", self.unit)
        };
        let bound_text = format!("{words} {}{unit}", number(bound));
        let (Some(value), Some(is_met)) = (self.value, self.is_met()) else {
            return write!(f, "not measured: {} (aim: {bound_text})", self.what);
        };
        let seen = format!("{}{unit}", number(value));
        if is_met {
            return write!(f, "met: {} {seen} (aim: {bound_text})", self.what);
        }
        let by = ((value - bound) / bound * 100.0).abs();
        write!(
            f,
            "missed by {by:.0} %: {} {seen} (aim: {bound_text})",
            self.what
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let median = |values: &[f64]| values.iter().copied().collect::<Samples>().median();
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[1.0, f64::NAN]), Some(1.0));
    }

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        assert_eq!(Unit::Packets.write(1_234_567.8), "1,234,568");
        assert_eq!(Unit::Packets.write(12.0), "12");
        assert_eq!(Unit::GbitPerSecond.write(17.349), "17.35");
        assert_eq!(Unit::Milliseconds.write(28_412.3), "28,412");
        assert_eq!(Unit::Milliseconds.write(231.44), "231.4");
    }

    #[test]
    fn aims_say_what_came_out() {
        let mut aim = Aim {
            what: "flood, of forwarding".into(),
            value: Some(1.31),
            bound: Bound::AtLeast(1.25),
            unit: "",
        };
        assert_eq!(
            aim.to_string(),
            "met: flood, of forwarding 1.31 (aim: at least 1.25)"
        );
        aim.value = Some(1.0);
        assert_eq!(
            aim.to_string(),
            "missed by 20 %: flood, of forwarding 1.00 (aim: at least 1.25)"
        );
        aim = Aim {
            value: None,
            bound: Bound::AtMost(250.0),
            unit: "ms",
            ..aim
        };
        assert_eq!(
            aim.to_string(),
            "not measured: flood, of forwarding (aim: at most 250 ms)"
        );
    }
}
