//! Event time: microseconds since 1970-01-01T00:00:00Z, never read from a clock.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds in one second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in one hour.
pub const HOUR_US: i64 = 3_600 * SECOND_US;
/// Microseconds in one day.
pub const DAY_US: i64 = 24 * HOUR_US;

/// The earliest time a row may carry, 2000-01-01T00:00:00Z, in microseconds.
///
/// A timestamp outside [`TIME_MIN_US`]`..`[`TIME_MAX_US`] is a broken clock or a
/// wrong unit (seconds read as microseconds land in 1970), never an exchange with
/// a language model, and one such row would stretch the period under study.
pub const TIME_MIN_US: i64 = 946_684_800 * SECOND_US;
/// The first time that is too late for a row, 2100-01-01T00:00:00Z, in microseconds.
pub const TIME_MAX_US: i64 = 4_102_444_800 * SECOND_US;

/// A moment in event time, in microseconds since the Unix epoch, UTC.
///
/// Written and read as RFC 3339 wherever people or JSON are involved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// Reads an RFC 3339 timestamp; fractions finer than a microsecond are cut off.
    ///
    /// # Errors
    /// The text is not an RFC 3339 timestamp with an offset.
    pub fn parse(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(|t| Time(t.as_microsecond()))
    }

    /// Whether an exchange may carry this time; see [`TIME_MIN_US`].
    #[must_use]
    pub fn is_plausible(self) -> bool {
        (TIME_MIN_US..TIME_MAX_US).contains(&self.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            // jiff ends at the year 9999; what lies beyond is said as it is.
            Err(_) => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_goes_there_and_back() {
        let time = Time::parse("2026-03-01T04:05:06.789012+02:00").unwrap();
        assert_eq!(time.to_string(), "2026-03-01T02:05:06.789012Z");
        assert_eq!(Time::parse(&time.to_string()).unwrap(), time);
    }

    #[test]
    fn the_years_1_and_9999_are_not_plausible() {
        assert!(!Time::parse("0001-01-01T00:00:00Z").unwrap().is_plausible());
        assert!(!Time::parse("9999-12-30T00:00:00Z").unwrap().is_plausible());
        assert!(Time::parse("2026-01-01T00:00:00Z").unwrap().is_plausible());
    }
}
