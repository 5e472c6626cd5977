//! What matches, what does not parse, and that nothing panics.

use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn matches(selector: &str, pairs: &[(&str, &str)]) -> bool {
    match selector.parse::<Selector>() {
        Ok(selector) => selector.matches(&labels(pairs)),
        Err(error) => panic!("{selector}: {error}"),
    }
}

#[test]
fn each_operator() {
    let node = [
        ("rack", "a1"),
        ("kubernetes.io/hostname", "node-1"),
        ("empty", ""),
    ];
    for (selector, expected) in [
        ("", true),
        ("  ", true),
        ("all()", true),
        ("all( )", true),
        ("global()", true),
        ("has(rack)", true),
        ("has( empty )", true),
        ("has(zone)", false),
        ("!has(zone)", true),
        ("! has(rack)", false),
        ("!!has(rack)", true),
        ("rack == 'a1'", true),
        ("rack==\"a1\"", true),
        ("rack == 'a'", false),
        ("kubernetes.io/hostname == 'node-1'", true),
        ("empty == ''", true),
        ("zone == ''", false),
        ("rack != 'a1'", false),
        ("rack != 'b'", true),
        ("zone != 'b'", true),
        ("rack in {'a1', 'b1'}", true),
        ("rack in {}", false),
        ("zone in {'a1'}", false),
        ("rack not in {'a1'}", false),
        ("rack not  in {'b1'}", true),
        ("zone not in {'b1'}", true),
        ("rack contains 'a'", true),
        ("rack contains 'b'", false),
        ("rack starts with 'a'", true),
        ("rack starts with '1'", false),
        ("rack ends with '1'", true),
        ("zone ends with ''", false),
    ] {
        assert_eq!(matches(selector, &node), expected, "{selector}");
    }
}

#[test]
fn precedence_and_grouping() {
    let a = [("a", "1")];
    assert!(matches("has(a) || has(b) && has(c)", &a));
    assert!(!matches("(has(a) || has(b)) && has(c)", &a));
    assert!(!matches("!has(a) || has(b)", &a));
    assert!(!matches("!(has(a) || has(b))", &a));
    assert!(matches("has(a)&&(b!='1'||has(b))", &a));
}

#[test]
fn words_of_the_language_are_labels_too() {
    assert!(matches(
        "all == 'x' && has == 'y' && in in {'z'}",
        &[("all", "x"), ("has", "y"), ("in", "z")]
    ));
    assert!(matches("not not in {'q'}", &[("not", "z")]));
}

#[test]
fn global_is_what_is_in_no_namespace() {
    assert!(!matches(
        "global()",
        &[("projectcalico.org/namespace", "default")]
    ));
}

#[test]
fn errors_name_the_place_and_what_would_be_right() {
    for (selector, expected) in [
        (
            "rack = 'a'",
            "at character 6: expected ==, !=, in, not in, contains, starts with or ends with, found \"= 'a'\"",
        ),
        (
            "rack",
            "at character 5: expected ==, !=, in, not in, contains, starts with or ends with, found the end",
        ),
        (
            "rack is 'a'",
            "at character 6: expected ==, !=, in, not in, contains, starts with or ends with, found \"is 'a'\"",
        ),
        (
            "rack == a",
            "at character 9: expected a string in single or double quotes, found \"a\"",
        ),
        (
            "rack == 'a",
            "at character 9: expected a closing quote, found \"'a\"",
        ),
        (
            "é == 'a'",
            "at character 1: expected a label, has(label), all(), global(), ! or (, found \"é == 'a'\"",
        ),
        (
            "rack == 'é' has(b)",
            "at character 13: expected &&, || or the end, found \"has(b)\"",
        ),
        ("(has(a)", "at character 8: expected &&, || or ), found the end"),
        (
            "a in {'x' 'y'}",
            "at character 11: expected , or }, found \"'y'}\"",
        ),
        (
            "a in 'x'",
            "at character 6: expected { and a list of quoted strings, found \"'x'\"",
        ),
    ] {
        let error = selector.parse::<Selector>().expect_err(selector);
        assert_eq!(error.to_string(), expected, "{selector}");
    }
}

#[test]
fn nesting_is_bounded_and_chains_are_not() {
    let nested = format!("{}all(){}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(nested.parse::<Selector>().is_err());
    assert!(
        format!("{}all()", "!".repeat(10_000))
            .parse::<Selector>()
            .is_err()
    );
    assert!(
        format!("{}all(){}", "(".repeat(40), ")".repeat(40))
            .parse::<Selector>()
            .is_ok()
    );
    let chain = vec!["has(a)"; 10_000].join(" && ");
    assert!(matches(&chain, &[("a", "")]));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = text.parse::<Selector>();
    }

    #[test]
    fn no_shuffle_of_tokens_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "a", "'x'", "\"", "'", "==", "!=", "=", "!", "in", "not", "{", "}", ",", "(", ")", "&&", "||", "has(", "all()",
        "starts with", "contains", " ", "é",
    ]), 0..40)) {
        if let Ok(selector) = tokens.concat().parse::<Selector>() {
            selector.matches(&BTreeMap::new());
        }
    }
}
