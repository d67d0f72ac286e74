//! Figures, times and the detector's own terms in words that anyone can read.

use jiff::Timestamp;
use stillwatch_exchange::findings::CampaignKind;
use stillwatch_exchange::time::{DAY_US, HOUR_US, SECOND_US, Time};

/// `12,345`
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12,345` up to a million, then `1.43 million`, `28.8 million`, `3.1 billion`.
pub(crate) fn amount(n: u64) -> String {
    let scaled = |unit: f64, name: &str| format!("{}\u{a0}{name}", significant(n as f64 / unit));
    match n {
        // Just below each step three digits would round up to the next unit.
        0..=999_999 => count(n),
        1_000_000..=999_499_999 => scaled(1e6, "million"),
        999_500_000..=999_499_999_999 => scaled(1e9, "billion"),
        _ => scaled(1e12, "trillion"),
    }
}

/// `1 account`, `12,345 accounts`.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{}\u{a0}{}", amount(n), if n == 1 { one } else { many })
}

/// Three significant digits without an exponent where that is readable; `–` for what
/// is not a number.
pub(crate) fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    if size >= 100.0 {
        let rounded = count(size.round() as u64);
        return if value < 0.0 { format!("−{rounded}") } else { rounded };
    }
    let decimals = match size {
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s if s >= 0.1 => 3,
        s if s > 0.0 => (2.0 - s.log10().floor()) as usize,
        _ => 0,
    };
    let mut text = format!("{size:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if value < 0.0 { format!("−{text}") } else { text }
}

/// A share of 0 to 1 as `5.9 %`; what lies outside is cut off there.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "–".to_owned();
    }
    let hundredths = share.clamp(0.0, 1.0) * 100.0;
    match hundredths {
        0.0 => "0\u{a0}%".to_owned(),
        p if p < 0.01 => "under 0.01\u{a0}%".to_owned(),
        p if p < 1.0 => format!("{}\u{a0}%", significant((p * 100.0).round() / 100.0)),
        p if p < 99.95 => format!("{}\u{a0}%", significant((p * 10.0).round() / 10.0)),
        p if p < 100.0 => "over 99.9\u{a0}%".to_owned(),
        _ => "100\u{a0}%".to_owned(),
    }
}

/// `part` of `whole` as a share of 0 to 1; none of nothing is 0.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

/// `$12,345`, with cents below a hundred dollars; `None` where nothing was billed,
/// which in logs means that the cost is not in them.
pub(crate) fn dollars(cost_usd: f64) -> Option<String> {
    if !cost_usd.is_finite() || cost_usd <= 0.0 {
        None
    } else if cost_usd < 0.01 {
        Some("under $0.01".to_owned())
    } else if cost_usd < 99.995 {
        Some(format!("${cost_usd:.2}"))
    } else {
        Some(format!("${}", amount(cost_usd.round() as u64)))
    }
}

/// `3 March 2026`
pub(crate) fn day(time: Time) -> String {
    formatted(time, "%-d %B %Y")
}

/// `3 March 2026, 04:05 UTC`
pub(crate) fn moment(time: Time) -> String {
    formatted(time, "%-d %B %Y, %H:%M UTC")
}

fn formatted(time: Time, format: &str) -> String {
    match Timestamp::from_microsecond(time.0) {
        Ok(timestamp) => timestamp.strftime(format).to_string(),
        Err(_) => time.to_string(),
    }
}

/// `2026-03-03 04:05:06`, as chart axes read it; `None` before 1970 and after 9999.
pub(crate) fn stamp(time_us: i64) -> Option<String> {
    let timestamp = Timestamp::from_microsecond(time_us).ok()?;
    (time_us >= 0).then(|| timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// `45 days`, `13 hours`, `5 minutes`.
pub(crate) fn duration(us: i64) -> String {
    let us = us.max(0);
    let rounded = |unit: i64| (us.saturating_add(unit / 2) / unit) as u64;
    if us >= 2 * DAY_US {
        counted(rounded(DAY_US), "day", "days")
    } else if us >= 2 * HOUR_US {
        counted(rounded(HOUR_US), "hour", "hours")
    } else {
        counted(rounded(60 * SECOND_US), "minute", "minutes")
    }
}

/// The width of a bin as `hour`, `6 hours`, `day`: what counts are «per».
pub(crate) fn bin_width(us: i64) -> String {
    for (unit, one, many) in [
        (DAY_US, "day", "days"),
        (HOUR_US, "hour", "hours"),
        (60 * SECOND_US, "minute", "minutes"),
        (SECOND_US, "second", "seconds"),
    ] {
        if us >= unit && us % unit == 0 {
            let n = us / unit;
            return if n == 1 { one.to_owned() } else { format!("{n}\u{a0}{many}") };
        }
    }
    format!("{}\u{a0}hours", significant(us as f64 / HOUR_US as f64))
}

/// The text with its first letter in upper case.
pub(crate) fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The kind's title and what it means.
pub(crate) fn kind(kind: CampaignKind) -> (&'static str, &'static str) {
    match kind {
        CampaignKind::Distillation => (
            "Distillation",
            "answers gathered at scale by accounts that hide that they belong together",
        ),
        CampaignKind::LogitExtraction => (
            "Logit extraction",
            "token probabilities gathered, from which parts of a model can be computed",
        ),
        CampaignKind::RewardGrading => {
            ("Reward grading", "the model used as the grader of another model's answers")
        }
        CampaignKind::OpenHarvest => (
            "Open harvest",
            "one account or one verified organisation gathering answers in the open; not hidden",
        ),
    }
}

/// What a channel does in the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelRole {
    /// Links accounts; its strength is a surprise in nats.
    Link,
    /// Confirms a group; its strength is in robust standard deviations.
    Confirm,
    /// Not a channel that the report knows by name.
    Other,
}

/// A channel's role and what it sees.
pub(crate) fn channel(name: &str) -> (ChannelRole, &'static str) {
    use ChannelRole::{Confirm, Link, Other};
    match name {
        "script" => (Link, "the same rare wording of prompts"),
        "payment" => (Link, "the same means of payment"),
        "birth" => (Link, "accounts opened alike"),
        "network" => (Link, "the same network, or the same changing of networks"),
        "client" => (Link, "the same rare client program and settings"),
        "habit" => (Link, "the same rare habits together"),
        "pool" => (Link, "one set of tasks, divided"),
        "conversation" => (Link, "conversations that go on from another account"),
        "timing" => (Confirm, "active at the same moments"),
        "balance" => (Confirm, "volumes too equal to be chance"),
        "sharding" => (Confirm, "a pool of prompts divided without overlap"),
        "independence" => (Confirm, "no question follows from the one before"),
        "coverage" => (Confirm, "a task space covered evenly"),
        "pivot" => (Confirm, "moving to a new model together"),
        "succession" => (Confirm, "closed accounts replaced by new ones"),
        "hop" => (Confirm, "going on from another account after a refusal"),
        "demand" => (Confirm, "what is asked for: reasoning, lengths, probabilities"),
        _ => (Other, ""),
    }
}

/// A strength with its unit, as the channel's role has it.
pub(crate) fn strength(role: ChannelRole, value: f64) -> String {
    let value = significant(value);
    match role {
        ChannelRole::Link => format!("{value} nats of surprise"),
        ChannelRole::Confirm => format!("{value} robust standard deviations from ordinary groups"),
        ChannelRole::Other => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(amount(999_999), "999,999");
        assert_eq!(amount(1_000_000), "1\u{a0}million");
        assert_eq!(amount(28_812_345), "28.8\u{a0}million");
        assert_eq!(amount(999_600_000), "1\u{a0}billion");
        assert_eq!(amount(u64::MAX), "18,446,744\u{a0}trillion");
        assert_eq!(counted(1, "account", "accounts"), "1\u{a0}account");
        assert_eq!(counted(0, "account", "accounts"), "0\u{a0}accounts");
    }

    #[test]
    fn three_digits_are_enough() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (1.2345, "1.23"),
            (12.345, "12.3"),
            (123.45, "123"),
            (12_345.6, "12,346"),
            (-0.5, "−0.5"),
            (-1234.0, "−1,234"),
            (0.012_345, "0.0123"),
            (0.000_012, "1.20e-5"),
            (1e300, "1.00e300"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn shares_never_round_to_all_or_nothing() {
        for (value, text) in [
            (0.0, "0\u{a0}%"),
            (0.000_05, "under 0.01\u{a0}%"),
            (0.0042, "0.42\u{a0}%"),
            (0.059, "5.9\u{a0}%"),
            (0.5, "50\u{a0}%"),
            (0.9999, "over 99.9\u{a0}%"),
            (1.0, "100\u{a0}%"),
            (1.7, "100\u{a0}%"),
            (-3.0, "0\u{a0}%"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(percent(value), text, "{value}");
        }
        assert_eq!(share(3, 0), 0.0);
        assert_eq!(share(3, 2), 1.0);
    }

    #[test]
    fn money_that_is_not_in_the_logs_is_not_a_price() {
        assert_eq!(dollars(0.0), None);
        assert_eq!(dollars(f64::NAN), None);
        assert_eq!(dollars(0.001).unwrap(), "under $0.01");
        assert_eq!(dollars(1.5).unwrap(), "$1.50");
        assert_eq!(dollars(12_345.67).unwrap(), "$12,346");
        assert_eq!(dollars(4.2e6).unwrap(), "$4.2\u{a0}million");
    }

    #[test]
    fn times_are_said_and_never_refused() {
        let time = Time::parse("2026-03-03T04:05:06Z").unwrap();
        assert_eq!(day(time), "3 March 2026");
        assert_eq!(moment(time), "3 March 2026, 04:05 UTC");
        assert_eq!(stamp(time.0).unwrap(), "2026-03-03 04:05:06");
        assert_eq!(day(Time(i64::MAX)), "9223372036854775807 µs since 1970");
        assert_eq!(stamp(i64::MAX), None);
        assert_eq!(stamp(-1), None);
    }

    #[test]
    fn durations_take_the_unit_that_fits() {
        assert_eq!(duration(45 * DAY_US), "45\u{a0}days");
        assert_eq!(duration(13 * HOUR_US), "13\u{a0}hours");
        assert_eq!(duration(90 * SECOND_US), "2\u{a0}minutes");
        assert_eq!(duration(-5), "0\u{a0}minutes");
        assert_eq!(
            duration(i64::MAX),
            "106,751,991\u{a0}days".replace("106,751,991", "107\u{a0}million")
        );
        assert_eq!(bin_width(HOUR_US), "hour");
        assert_eq!(bin_width(6 * HOUR_US), "6\u{a0}hours");
        assert_eq!(bin_width(DAY_US), "day");
        assert_eq!(bin_width(1), "2.78e-10\u{a0}hours");
    }
}
