//! ISO 8601 durations as Kafka's configurations take them: `PnDTnHnMn.nS`, and nothing longer than days.

/// The duration in milliseconds; `None` for what is no such duration or negative.
pub(super) fn parse_ms(text: &str) -> Option<i64> {
    let text = text.strip_prefix(['P', 'p'])?;
    let (days, time) = match text.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = 0_i64;
    if !days.is_empty() {
        let days: i64 = days.strip_suffix(['D', 'd'])?.parse().ok()?;
        total = days.checked_mul(86_400_000)?;
    }
    let mut rest = time;
    // Each unit once, in this order.
    for (unit, factor) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((number, after)) = rest.split_once([unit, unit.to_ascii_lowercase()]) {
            let part = number.parse::<i64>().ok()?.checked_mul(factor)?;
            total = total.checked_add(part)?;
            rest = after;
        }
    }
    if !rest.is_empty() {
        total = total.checked_add(seconds_ms(rest.strip_suffix(['S', 's'])?)?)?;
    }
    (total >= 0).then_some(total)
}

fn seconds_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let whole = whole.parse::<i64>().ok()?.checked_mul(1_000)?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let millis = millis.parse::<i64>().ok()?;
    whole.checked_add(if text.starts_with('-') {
        -millis
    } else {
        millis
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        for (text, wanted) in [
            ("PT1H", Some(3_600_000)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("P2D", Some(172_800_000)),
            ("PT0S", Some(0)),
            ("PT0.001S", Some(1)),
            ("pt1m", Some(60_000)),
            ("PT-1H", None),
            ("-PT1H", None),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1H", None),
            ("PT1", None),
            ("PT1S1H", None),
            ("P999999999999999999D", None),
        ] {
            assert_eq!(parse_ms(text), wanted, "{text}");
        }
    }
}
