//! Months, days of a common year, and the two ways of writing a date that a passage question accepts.

const MONTHS: [(&str, i64); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

pub(super) fn month_name(month: i64) -> Option<&'static str> {
    Some(MONTHS.get(usize::try_from(month - 1).ok()?)?.0)
}

/// 1 for the first of January; `None` for a day that a common year lacks.
pub(super) fn day_of_year(day: i64, month: i64) -> Option<i64> {
    let before = usize::try_from(month - 1).ok()?;
    let (_, length) = MONTHS.get(before)?;
    let earlier: i64 = MONTHS[..before].iter().map(|(_, days)| days).sum();
    (1..=*length).contains(&day).then_some(earlier + day)
}

/// `4 July 1901|July 4, 1901`: either is right.
pub(super) fn date_names(day: i64, month: i64, year: i64) -> Option<String> {
    day_of_year(day, month)?;
    let name = month_name(month)?;
    Some(format!("{day} {name} {year}|{name} {day}, {year}"))
}
