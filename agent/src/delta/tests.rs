//! The incremental bookkeeping agrees with a comparison of the two maps from scratch, whatever is done to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::Delta;

#[derive(Debug, Clone)]
enum Step {
    SetDesired(u8, u8),
    RemoveDesired(u8),
    SetActual(u8, u8),
    RemoveActual(u8),
    ReplaceDesired(BTreeMap<u8, u8>),
    ReplaceActual(BTreeMap<u8, u8>),
    /// What a dataplane does: one pending change is carried out.
    Apply,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12u8;
    let map = proptest::collection::btree_map(0..12u8, 0..3u8, 0..12);
    prop_oneof![
        (key.clone(), 0..3u8).prop_map(|(key, value)| Step::SetDesired(key, value)),
        key.clone().prop_map(Step::RemoveDesired),
        (key.clone(), 0..3u8).prop_map(|(key, value)| Step::SetActual(key, value)),
        key.prop_map(Step::RemoveActual),
        map.clone().prop_map(Step::ReplaceDesired),
        map.prop_map(Step::ReplaceActual),
        Just(Step::Apply),
    ]
}

/// Carries out one pending change; false where there is none.
fn apply_one(delta: &mut Delta<u8, u8>) -> bool {
    if let Some(key) = delta.updates().first().copied() {
        let value = delta.desired()[&key];
        delta.set_actual(key, value);
    } else if let Some(key) = delta.deletions().first().copied() {
        delta.remove_actual(&key);
    } else {
        return false;
    }
    true
}

fn changed(old: &BTreeMap<u8, u8>, new: &BTreeMap<u8, u8>) -> Vec<u8> {
    (0..=u8::MAX).filter(|key| old.get(key) != new.get(key)).collect()
}

proptest! {
    #[test]
    fn bookkeeping_equals_a_comparison_from_scratch(steps in proptest::collection::vec(step(), 1..60)) {
        let mut delta = Delta::<u8, u8>::new();
        let (mut desired, mut actual) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::SetDesired(key, value) => { delta.set_desired(key, value); desired.insert(key, value); }
                Step::RemoveDesired(key) => prop_assert_eq!(delta.remove_desired(&key), desired.remove(&key)),
                Step::SetActual(key, value) => { delta.set_actual(key, value); actual.insert(key, value); }
                Step::RemoveActual(key) => prop_assert_eq!(delta.remove_actual(&key), actual.remove(&key)),
                Step::ReplaceDesired(new) => {
                    prop_assert_eq!(delta.replace_desired(new.clone()), changed(&desired, &new));
                    desired = new;
                }
                Step::ReplaceActual(new) => {
                    prop_assert_eq!(delta.replace_actual(new.clone()), changed(&actual, &new));
                    actual = new;
                }
                Step::Apply => { apply_one(&mut delta); actual = delta.actual().clone(); }
            }
            let updates: BTreeSet<u8> =
                desired.iter().filter(|(key, value)| actual.get(key) != Some(value)).map(|(key, _)| *key).collect();
            let deletions: BTreeSet<u8> = actual.keys().filter(|key| !desired.contains_key(key)).copied().collect();
            prop_assert_eq!(delta.desired(), &desired);
            prop_assert_eq!(delta.actual(), &actual);
            prop_assert_eq!(delta.updates(), &updates);
            prop_assert_eq!(delta.deletions(), &deletions);
            prop_assert_eq!(delta.is_in_sync(), desired == actual);
            for key in desired.keys() {
                prop_assert_eq!(delta.is_installed(key), desired.get(key) == actual.get(key));
            }
        }
    }

    #[test]
    fn applying_what_is_pending_makes_both_sides_equal(
        desired in proptest::collection::btree_map(any::<u8>(), 0..3u8, 0..40),
        actual in proptest::collection::btree_map(any::<u8>(), 0..3u8, 0..40),
    ) {
        let steps = changed(&actual, &desired).len();
        let mut delta = Delta::new();
        delta.replace_actual(actual);
        delta.replace_desired(desired.clone());
        for _ in 0..steps {
            prop_assert!(apply_one(&mut delta));
        }
        prop_assert!(!apply_one(&mut delta), "more steps than there are differences");
        prop_assert_eq!(delta.actual(), &desired);
    }
}

/// A wish that any of several values grants.
#[derive(Debug, PartialEq)]
struct AnyOf(Vec<u8>);

impl PartialEq<u8> for AnyOf {
    fn eq(&self, actual: &u8) -> bool {
        self.0.contains(actual)
    }
}

#[test]
fn a_desired_value_may_be_looser_than_an_actual_one() {
    let mut delta = Delta::<&str, AnyOf, u8>::new();
    delta.set_actual("a", 1);
    delta.set_desired("a", AnyOf(vec![1, 2]));
    assert!(delta.is_in_sync());
    delta.set_actual("a", 2);
    assert!(delta.is_in_sync(), "2 is as good as 1");
    delta.set_actual("a", 3);
    assert_eq!(delta.updates().iter().collect::<Vec<_>>(), [&"a"]);
}
