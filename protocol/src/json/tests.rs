use super::*;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn written(json: &Json) -> String {
    let mut out = Vec::new();
    json.write(&mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn floats_as_python_writes_them() {
    let cases = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-5.0, "-5.0"),
        (0.1, "0.1"),
        (123.456, "123.456"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (0.00001, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1.25e16, "1.25e+16"),
        (123_456_789_012_345.6, "123456789012345.6"),
        (9_007_199_254_740_993.0, "9007199254740992.0"),
        (1e100, "1e+100"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (f64::NAN, "null"),
        (f64::NEG_INFINITY, "null"),
    ];
    for (value, text) in cases {
        assert_eq!(written(&Json::Float(value)), text);
    }
}

#[test]
fn integers_up_to_both_ends() {
    for value in [0, 1, -1, 10, 99, 100, i64::MAX, i64::MIN] {
        assert_eq!(written(&Json::Int(value)), value.to_string());
    }
    assert_eq!(written(&Json::from(u64::MAX)), u64::MAX.to_string());
    assert_eq!(Json::from(7u64), Json::Int(7));
    assert_eq!(
        Json::parse(b"18446744073709551615", 0),
        Ok(Json::Uint(u64::MAX))
    );
}

#[test]
fn texts_as_python_writes_them() {
    let text = "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}é漢😀~ ";
    assert_eq!(
        written(&Json::from(text)),
        r#""\"\\/\b\f\n\r\t\u0000\u001f\u007f\u00e9\u6f22\ud83d\ude00~ ""#
    );
}

#[test]
fn keys_keep_their_order_and_the_last_twin_wins() {
    let parsed = Json::parse(
        br#" {"b":1,"a":[ ],"b":{"x":null},"c":true,"a":2,"b":3}"#,
        4,
    );
    assert_eq!(
        parsed.map(|json| written(&json)).as_deref(),
        Ok(r#"{"b": 3, "a": 2, "c": true}"#)
    );
    let both = Json::parse_keeping_twins(br#"{"b":1,"b":2}"#, 1).expect("JSON");
    assert_eq!(both.as_object().map(<[_]>::len), Some(2));
}

#[test]
fn depth_is_bounded_at_every_level() {
    assert!(Json::parse(b"1", 0).is_ok());
    assert!(Json::parse(b"[]", 0).is_err());
    assert!(Json::parse(br#"[{"a":[]}]"#, 3).is_ok());
    let error = Json::parse(br#"[{"a":[]}]"#, 2).expect_err("three levels");
    assert!(
        error.to_string().starts_with("nested deeper than 2 levels"),
        "{error}"
    );
    let deep = "[".repeat(100_000);
    assert!(Json::parse(deep.as_bytes(), usize::MAX).is_err());
}

#[test]
fn the_number_of_values_is_bounded() {
    let mut many = "[".to_string();
    many.push_str(&"0,".repeat(1 << 20));
    many.push_str("0]");
    let error = Json::parse(many.as_bytes(), 1).expect_err("too many");
    assert!(
        error.to_string().starts_with("more than 1048576 values"),
        "{error}"
    );
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "NaN",
        "[Infinity]",
        "1e400",
        "+1",
        ".5",
        "0x1",
        "{'a': 1}",
        "[1,]",
        "{\"a\": 1,}",
        "1 2",
        "\u{feff}1",
        r#""\ud800""#,
        "\"\n\"",
        "True",
    ] {
        assert!(Json::parse(text.as_bytes(), 8).is_err(), "{text:?}");
    }
    assert!(Json::parse(b"\"\xff\"", 8).is_err());
}

#[test]
fn errors_quote_little() {
    let long = alloc::format!("\"{}", "x".repeat(1 << 16));
    let error = Json::parse(long.as_bytes(), 8).expect_err("no closing quote");
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn many_keys_do_not_cost_their_square() {
    let mut text = "{".to_string();
    for index in 0..200_000 {
        text.push_str(&alloc::format!("\"k{index}\":0,"));
    }
    text.push_str("\"k0\":1}");
    let parsed = Json::parse(text.as_bytes(), 1).expect("JSON");
    assert_eq!(parsed.as_object().map(<[_]>::len), Some(200_000));
    assert_eq!(parsed.get("k0"), Some(&Json::Int(1)));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        proptest::num::f64::NORMAL.prop_map(Json::from),
        proptest::num::f64::SUBNORMAL.prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(json in any_json()) {
        let text = written(&json);
        prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(Json::parse(text.as_bytes(), 8), Ok(json));
    }

    #[test]
    fn parsing_never_panics_and_is_stable(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(json) = Json::parse(&bytes, 8) {
            let text = written(&json);
            let again = Json::parse(text.as_bytes(), 8).expect("our own text");
            prop_assert_eq!(written(&again), text);
        }
    }

    #[test]
    fn twins_end_as_in_a_map(keys in prop::collection::vec("[a-d]{1,2}", 0..40)) {
        let text: Vec<String> = keys.iter().enumerate()
            .map(|(index, key)| alloc::format!("\"{key}\": {index}")).collect();
        let text = alloc::format!("{{{}}}", text.join(","));
        let parsed = Json::parse(text.as_bytes(), 1).expect("JSON");
        let mut expected: Vec<(String, Json)> = vec![];
        for (index, key) in keys.into_iter().enumerate() {
            let value = Json::Int(i64::try_from(index).expect("few"));
            match expected.iter_mut().find(|entry| entry.0 == key) {
                Some(entry) => entry.1 = value,
                None => expected.push((key, value)),
            }
        }
        prop_assert_eq!(parsed, Json::Object(expected));
    }
}
