//! Lengths of time as people type them: `90s`, `15m`, `6h`, `7d`.

use stillwatch_exchange::time::{DAY_US, HOUR_US, SECOND_US};

/// Reads a length of time, in microseconds.
pub fn parse(text: &str) -> Result<i64, String> {
    let wanted = || "no length of time like 90s, 15m, 6h or 7d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wanted)?;
    let unit_us = match unit {
        's' => SECOND_US,
        'm' => 60 * SECOND_US,
        'h' => HOUR_US,
        'd' => DAY_US,
        _ => return Err(wanted()),
    };
    let number: i64 = text[..text.len() - 1].parse().map_err(|_| wanted())?;
    number
        .checked_mul(unit_us)
        .filter(|length| *length >= 0)
        .ok_or_else(|| "too long, or negative".to_owned())
}

/// A length of time as it is typed.
#[cfg(test)]
fn shown(us: i64) -> String {
    for (unit_us, unit) in [(DAY_US, 'd'), (HOUR_US, 'h'), (60 * SECOND_US, 'm')] {
        if us % unit_us == 0 && us > 0 {
            return format!("{}{unit}", us / unit_us);
        }
    }
    format!("{}s", us / SECOND_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_shown() {
        for text in ["90s", "15m", "6h", "7d"] {
            assert_eq!(shown(parse(text).unwrap()), text);
        }
        for text in ["", "7", "d", "-1d", "1w", "1.5h", "999999999999999d", "7é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
