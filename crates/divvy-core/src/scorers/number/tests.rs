//! Numbers in every writing, and which of several a text states.

use proptest::prelude::*;

use super::*;

fn check(text: &str, expect: &str) {
    assert_eq!(stated(text).map(|n| n.to_string()).as_deref(), Some(expect), "{text:?}");
}

#[test]
fn as_people_write_them() {
    for (text, expect) in [
        ("18", "18"),
        ("$29.00.", "29"),
        (".50", "0.5"),
        ("18 eggs...", "18"),
        ("so 18, which is 2 more than 16", "18"),
        ("1,234,567.80 dollars", "1234567.8"),
        ("10,20", "10"),
        ("1000,000", "1000"),
        ("25%", "25"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("5-7", "5"),
        ("10 - 3", "10"),
        ("007", "7"),
        ("-0.0", "0"),
        ("1e3", "1000"),
        ("2e", "2"),
        ("B12 has 3", "3"),
        ("2 + 16 = 18", "18"),
        ("x = $18 a day", "18"),
        ("3/4", "3/4"),
        ("3 1/2 cups", "7/2"),
        ("\\frac{3}{4}", "3/4"),
        ("1{,}000", "1000"),
        ("\\$18", "18"),
        ("1/0", "1"),
        ("100000000000000000000000000000000000000001", "100000000000000000000000000000000000000001"),
        ("0.000001", "0.000001"),
        ("18 = 20 - 2", "18"),
        ("x = 18 = 25 - 5 - 2", "18"),
        ("9 \\times 2 = 18", "18"),
        ("9 * 2 = 20 - 2", "20"),
        ("Step 3: x = 20 - 2", "20"),
        ("\\frac12", "1/2"),
        ("\\frac{1}2 cup", "1/2"),
        ("-\\frac{1}{2}", "-1/2"),
        ("½", "1/2"),
        ("2½ hours", "5/2"),
        ("1 000", "1000"),
        ("1\u{2009}234\u{202f}567", "1234"),
        ("1\u{202f}234\u{202f}567,5", "1234567"),
        ("12 300.50 dollars", "12300.5"),
        ("3 1000", "3"),
        ("2024 100", "2024"),
        ("1.2 million", "1200000"),
        ("3/4 Million people", "3000000/4"),
        ("0 million", "0"),
        ("5 millionaires", "5"),
        ("USD18", "18"),
        ("XUSD18 of 3", "3"),
    ] {
        check(text, expect);
    }
    assert_eq!(stated("none at all").map(|n| n.to_string()), None);
    for (text, expect) in [
        ("first 3, then 10 - 4", "4"),
        ("Janet sells 9 eggs a day for $2 each, so she makes $18 every day.", "18"),
        ("She makes $18 (9 eggs at $2) a day.", "18"),
        ("(18)", "18"),
        ("She makes \\(18\\) dollars", "18"),
        ("18 = 20 - 2", "18"),
        ("She has 16 - 7 = 9 eggs and makes 18 dollars", "18"),
        ("18 = 20 - 2, and 3 more are 21", "21"),
    ] {
        assert_eq!(last(text).map(|n| n.to_string()).as_deref(), Some(expect), "{text:?}");
    }
    assert_eq!(stated("1.2 million").map(|n| n.without_scale().to_string()).as_deref(), Some("1.2"));
}

#[test]
fn a_minus_behind_a_word_is_a_sign() {
    for (text, expect) in [
        ("So the final temperature is -5 degrees.", "-5"),
        ("a loss of -$5", "-5"),
        ("a loss of $-5", "-5"),
        ("It's −5 °C", "-5"),
        ("it is –5 degrees", "-5"),
        ("–5", "-5"),
        ("x = –5", "-5"),
        ("(–5)", "-5"),
        ("–½", "-1/2"),
        ("USD -1,200.50", "-1200.5"),
        ("from minus two to -3 1/2", "-7/2"),
        ("is -.5", "-0.5"),
    ] {
        check(text, expect);
    }
    for (text, expect) in [
        ("between 3 -5", "5"),
        ("pages 10-12", "12"),
        ("pages 10–12", "12"),
        ("pages 10 – 12", "12"),
        ("20°–30°", "30"),
        ("9 a.m.–5 p.m.", "5"),
        ("a Covid-19", "19"),
        ("x -5", "5"),
        ("2 \\pi -5", "5"),
        ("3km -5", "5"),
        ("(3 + x) -5", "5"),
        ("20% -5", "5"),
        ("5 - -3", "-3"),
    ] {
        assert_eq!(last(text).map(|n| n.to_string()).as_deref(), Some(expect), "{text:?}");
    }
}

#[test]
fn a_dash_before_a_number_is_no_sign() {
    for text in
        ["the answer is - 5", "total -- 5", "total --5", "it is—5", "the total — 5", "the total —5", "total - $5"]
    {
        check(text, "5");
    }
}

#[test]
fn a_blank_before_what_is_measured_by_itself_joins_nothing() {
    for (text, expect) in [
        ("12 100-gram bars", "12"),
        ("1 500ml", "1500"),
        ("12 345km", "12345"),
        ("12 100 gram", "12100"),
        ("12 000-litre tanks", "12000"),
        ("12 050km", "12050"),
        ("12 100-12 200 people", "12100"),
        ("12 345-5", "12345"),
        ("1 234 567kg", "1234567"),
        ("12\u{202f}100km", "12100"),
        ("12,100-gram", "12100"),
    ] {
        check(text, expect);
    }
}

#[test]
fn equality_is_exact() {
    let equal = |a, b| stated(a) == stated(b);
    assert!(equal("0.5", "1/2") && equal(".50", "0.5000") && equal("2/4", "1/2") && equal("3 1/2", "3.5"));
    assert!(equal("-1/2", "-0.5") && equal("1e2", "100") && equal("-3 1/2", "-3.5"));
    assert!(!equal("0.33", "1/3") && !equal("-5", "5") && !equal("3.75", "3"));
    assert!(!equal("10000000000000000000000000000001", "10000000000000000000000000000002"));
    assert!(!equal("1/30000000000000000000000", "0.5"));
}

proptest! {
    #[test]
    fn integers_round_trip(value in any::<i64>()) {
        prop_assert_eq!(stated(&value.to_string()).unwrap().to_string(), value.to_string());
    }

    #[test]
    fn no_text_panics(text in "(\\\\frac\\{|\\}\\{|[-0-9.,/eE$% =(){}é½*]| million|USD){0,40}") {
        if let Some(number) = stated(&text) {
            let _ = (number.to_string(), number == number.clone(), last(&text));
        }
    }
}
