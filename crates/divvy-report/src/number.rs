//! One way to write each kind of number, shared by terminal and page. A figure that does not exist (no rows, no price,
//! not a number) is a dash, never a zero.

/// Stands for "there is no such figure".
pub(crate) const DASH: &str = "–";

/// Share in 0..=1 as a percentage with one decimal and no sign: `48.1`.
pub(crate) fn percent(share: f64) -> String {
    decimal(share * 100.0, 1)
}

/// Difference of two shares in percentage points, signed: `+18.0`, `−3.2`, `0.0`.
pub(crate) fn points(difference: f64) -> String {
    let text = decimal(difference * 100.0, 1);
    if difference > 0.0 && text != "0.0" && text != DASH { format!("+{text}") } else { text }
}

/// Interval of a share: `42.6–53.7`.
pub(crate) fn percent_interval((low, high): (f64, f64)) -> String {
    if low.is_finite() && high.is_finite() { format!("{}–{}", percent(low), percent(high)) } else { DASH.to_owned() }
}

/// Interval of a signed difference: `+12.1 to +23.9`; a dash between signs would be read as a minus.
pub(crate) fn points_interval((low, high): (f64, f64)) -> String {
    if low.is_finite() && high.is_finite() { format!("{} to {}", points(low), points(high)) } else { DASH.to_owned() }
}

/// Whole number with thousands separated: `12,345`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Mean of a total over `n` questions: one decimal below ten, whole above.
pub(crate) fn mean(total: u64, n: u64) -> String {
    match ratio(total, n) {
        None => DASH.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) if value < 9.95 => format!("{value:.1}"),
        Some(value) => count(value.round() as u64),
    }
}

/// `total / n`, or nothing when there are no rows.
pub(crate) fn ratio(total: u64, n: u64) -> Option<f64> {
    (n > 0).then(|| total as f64 / n as f64)
}

/// Plain decimal with `digits` places.
pub(crate) fn decimal(value: f64, digits: usize) -> String {
    if value.is_finite() { unsigned_zero(format!("{value:.digits$}")).replace('-', "−") } else { DASH.to_owned() }
}

/// Small magnitudes keep their leading digits: `2.0e-4`.
pub(crate) fn scientific(value: f64) -> String {
    if value.is_finite() { format!("{value:.1e}").replace('-', "−") } else { DASH.to_owned() }
}

/// P value with three decimals: `0.012`, `< 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => DASH.to_owned(),
        p if p < 0.0005 => "< 0.001".to_owned(),
        p => format!("{p:.3}"),
    }
}

/// P value inside a sentence: `p = 0.012`, `p < 0.001`.
pub(crate) fn p_phrase(p: f64) -> String {
    let text = p_value(p);
    if text.starts_with('<') { format!("p {text}") } else { format!("p = {text}") }
}

/// Wall time: `340 ms`, `4.2 s`, `3 min 05 s`, `1 h 12 min`.
pub(crate) fn duration(milliseconds: i64) -> String {
    let ms = milliseconds.max(0);
    let seconds = (ms + 500) / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..9_950 => format!("{:.1} s", ms as f64 / 1000.0),
        9_950..59_500 => format!("{seconds} s"),
        59_500..3_599_500 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Dollars that `n` questions cost in total, scaled to a thousand questions, without the sign: `0.52`.
pub(crate) fn dollars_per_thousand(nanos: Option<i64>, n: u64) -> String {
    match nanos {
        Some(nanos) if n > 0 => {
            let dollars = nanos as f64 / 1e9 * 1000.0 / n as f64;
            if dollars != 0.0 && dollars.abs() < 0.01 { format!("{dollars:.4}") } else { format!("{dollars:.2}") }
        }
        _ => DASH.to_owned(),
    }
}

/// Nano-dollars, two decimals from a dollar on and three leading digits below: `$1.20`, `$0.0021`.
pub(crate) fn dollars(nanos: i64) -> String {
    let dollars = nanos.unsigned_abs() as f64 / 1e9;
    let decimals =
        if dollars >= 1.0 || nanos == 0 { 2 } else { (2.0 - dollars.log10().floor()).clamp(2.0, 9.0) as usize };
    let text = format!("{dollars:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    format!("{}${whole}.{fraction:0<2}", if nanos < 0 { "−" } else { "" })
}

/// Microseconds of a machine's work: `0.4 ms`, `1.4 s`, `3 min 05 s`.
pub(crate) fn machine_time(microseconds: i64) -> String {
    let sign = if microseconds < 0 { "−" } else { "" };
    match microseconds.unsigned_abs() {
        0 => "0 s".to_owned(),
        few @ 1..10_000 => format!("{sign}{:.1} ms", few as f64 / 1000.0),
        many => format!("{sign}{}", duration(i64::try_from(many / 1000).unwrap_or(i64::MAX))),
    }
}

/// `-0.0` is a rounding artefact, not a direction.
fn unsigned_zero(text: String) -> String {
    if text.starts_with('-') && text.chars().all(|c| matches!(c, '-' | '0' | '.')) {
        text[1..].to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_one_decimal_and_no_negative_zero() {
        assert_eq!(percent(0.4812), "48.1");
        assert_eq!(percent(1.0), "100.0");
        assert_eq!(percent(f64::NAN), DASH);
        assert_eq!(points(0.18), "+18.0");
        assert_eq!(points(-0.032), "−3.2");
        assert_eq!(points(-0.0001), "0.0");
        assert_eq!(points_interval((-0.01, 0.05)), "−1.0 to +5.0");
    }

    #[test]
    fn counts_are_grouped_and_means_need_rows() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(mean(10, 0), DASH);
        assert_eq!(mean(25, 10), "2.5");
        assert_eq!(mean(123_400, 100), "1,234");
    }

    #[test]
    fn p_values_never_read_as_zero() {
        assert_eq!(p_value(0.0), "< 0.001");
        assert_eq!(p_value(0.0123), "0.012");
        assert_eq!(p_value(1.0), "1.000");
        assert_eq!(p_phrase(0.0), "p < 0.001");
    }

    #[test]
    fn durations_carry_into_the_next_unit() {
        assert_eq!(duration(340), "340 ms");
        assert_eq!(duration(4_249), "4.2 s");
        assert_eq!(duration(59_600), "1 min 00 s");
        assert_eq!(duration(185_000), "3 min 05 s");
        assert_eq!(duration(4_320_000), "1 h 12 min");
        assert_eq!(duration(-5), "0 ms");
    }

    #[test]
    fn money_keeps_three_digits_and_time_its_unit() {
        let cases = [
            (0, "$0.00"),
            (1_200_000_000, "$1.20"),
            (2_100_000, "$0.0021"),
            (1, "$0.000000001"),
            (-5_000_000, "−$0.005"),
        ];
        for (nanos, text) in cases {
            assert_eq!(dollars(nanos), text);
        }
        for (micros, text) in [(0, "0 s"), (400, "0.4 ms"), (1_400_000, "1.4 s"), (-185_000_000, "−3 min 05 s")] {
            assert_eq!(machine_time(micros), text);
        }
        assert!(machine_time(i64::MIN).starts_with('−') && dollars(i64::MIN).starts_with('−'));
    }

    #[test]
    fn unknown_prices_are_a_dash_and_small_ones_keep_digits() {
        assert_eq!(dollars_per_thousand(None, 10), DASH);
        assert_eq!(dollars_per_thousand(Some(5), 0), DASH);
        assert_eq!(dollars_per_thousand(Some(300_000_000), 300), "1.00");
        assert_eq!(dollars_per_thousand(Some(300_000), 300), "0.0010");
        assert_eq!(dollars_per_thousand(Some(0), 300), "0.00");
    }
}
