use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(value: &Value) -> String {
    String::from_utf8(to_vec(value).unwrap()).unwrap()
}

#[test]
fn the_examples_of_the_rfc() {
    let numbers = json!([333_333_333.333_333_3, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, -0.0, -7, u64::MAX]);
    assert_eq!(text(&numbers), "[333333333.3333333,1e+30,4.5,0.002,1e-27,0,-7,18446744073709552000]");
    let strings = json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/");
    assert_eq!(text(&strings), r#""€$\u000f\nA'B\"\\\\\"/""#);
    // UTF-16: a surrogate pair comes before U+FB33.
    let members = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
    assert_eq!(text(&members), "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Serialize)]
enum Kind {
    Bare,
    One(u64),
    Two(i8, f32),
    #[serde(rename = "named")]
    Named {
        z: Option<char>,
        a: [u8; 2],
    },
}

#[derive(Serialize)]
struct Record<'a> {
    kinds: Vec<Kind>,
    by_number: std::collections::BTreeMap<u32, &'a str>,
    after: (),
    pair: (i64, bool),
}

#[test]
fn records_of_every_shape_are_what_they_always_were() {
    let named = Kind::Named { z: Some('\u{1f600}'), a: [1, 2] };
    let record = Record {
        kinds: vec![Kind::Bare, Kind::One(u64::MAX), Kind::Two(-1, 0.1), named],
        by_number: [(10, "ten"), (9, "nine")].into(),
        after: (),
        pair: (-(1 << 60), true),
    };
    assert_eq!(to_vec(&record).unwrap(), serde_json_canonicalizer::to_vec(&record).unwrap());
    assert!(to_vec(&f64::NAN).is_err());
}

proptest! {
    /// Digests in stores that exist were taken over what this library writes.
    #[test]
    fn it_is_what_it_always_was(value in values()) {
        prop_assert_eq!(to_vec(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
    }
}
