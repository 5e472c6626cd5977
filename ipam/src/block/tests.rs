//! Tests of [`Block`]: its rules one by one, then random operations against a model.

use std::collections::VecDeque;

use datastore::types::IpReservation;
use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owner(handle: &str) -> AllocationAttribute {
    AllocationAttribute {
        handle_id: Some(handle.to_string()),
        secondary: BTreeMap::from([("pod".to_string(), format!("pod-of-{handle}"))]),
        released_at: None,
    }
}

fn block(cidr: &str) -> Block {
    Block::new(net(cidr), Some("host:n1".to_string()), None, 1000)
}

fn none() -> Reservations {
    Reservations::default()
}

fn reserved(cidr: &str) -> Reservations {
    let object: IpReservation = serde_json::from_value(serde_json::json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "IPReservation",
        "metadata": {"name": "r"}, "spec": {"reservedCIDRs": [cidr]}
    }))
    .unwrap();
    Reservations::new(&[object])
}

#[test]
fn ordinals_are_distances_from_the_first_address() {
    let v4 = block("10.0.0.64/26");
    assert_eq!(v4.size(), 64);
    assert_eq!(v4.ordinal(ip("10.0.0.64")), Ok(0));
    assert_eq!(v4.ordinal(ip("10.0.0.127")), Ok(63));
    assert_eq!(v4.address(63), Some(ip("10.0.0.127")));
    assert_eq!(v4.address(64), None);
    let v6 = block("fd00::1c0/122");
    assert_eq!(v6.ordinal(ip("fd00::1ff")), Ok(63));
    assert_eq!(v6.address(1), Some(ip("fd00::1c1")));
    let outside = BlockError::OutOfRange {
        address: ip("10.0.0.128"),
        cidr: net("10.0.0.64/26"),
    };
    assert_eq!(v4.ordinal(ip("10.0.0.128")), Err(outside));
    assert!(v4.ordinal(ip("fd00::1c1")).is_err());
}

#[test]
fn the_edges_of_the_address_space() {
    let last = block("255.255.255.192/26");
    assert_eq!(last.address(63), Some(ip("255.255.255.255")));
    assert_eq!(last.address(64), None);
    let last = block("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122");
    assert_eq!(last.address(64), None);
    assert_eq!(last.address(usize::MAX), None);
    let one = block("10.0.0.1/32");
    assert_eq!((one.size(), one.address(0)), (1, Some(ip("10.0.0.1"))));
}

#[test]
fn a_released_address_goes_to_the_end_of_the_queue() {
    let mut block = block("10.0.0.0/30");
    assert_eq!(
        block.assign(2, &owner("a"), &none()),
        [ip("10.0.0.0"), ip("10.0.0.1")]
    );
    assert_eq!(block.release_handle("a"), [ip("10.0.0.0"), ip("10.0.0.1")]);
    let next = block.assign(9, &owner("b"), &none());
    assert_eq!(
        next,
        [ip("10.0.0.2"), ip("10.0.0.3"), ip("10.0.0.0"), ip("10.0.0.1")]
    );
    assert!(block.assign(1, &owner("c"), &none()).is_empty());
}

#[test]
fn an_owner_is_kept_once_and_removed_with_its_last_address() {
    let mut block = block("10.0.0.0/29");
    block.assign(2, &owner("a"), &none());
    block.assign(1, &owner("b"), &none());
    block.assign(1, &owner("a"), &none());
    assert_eq!(block.spec().attributes, [owner("a"), owner("b")]);
    block.release(&[Release::of(ip("10.0.0.0"))]).unwrap();
    assert_eq!(block.spec().attributes.len(), 2);
    block.release_handle("a");
    assert_eq!(block.spec().attributes, [owner("b")]);
    assert_eq!(block.owner_of(ip("10.0.0.2")), Some(&owner("b")));
    assert_eq!(block.spec().allocations[2], Some(0));
}

#[test]
fn a_specific_address_is_given_once() {
    let mut block = block("10.0.0.0/30");
    block.assign_address(ip("10.0.0.2"), &owner("a")).unwrap();
    let again = block.assign_address(ip("10.0.0.2"), &owner("b"));
    let address = ip("10.0.0.2");
    assert_eq!(again, Err(BlockError::Assigned { address }));
    assert!(!block.assign(4, &owner("b"), &none()).contains(&address));
}

#[test]
fn reserved_addresses_are_passed_over_and_keep_their_place() {
    let mut block = block("10.0.0.0/29");
    let reserved = reserved("10.0.0.0/30");
    assert_eq!(block.free_count(&reserved), 4);
    assert_eq!(block.assign(1, &owner("a"), &reserved), [ip("10.0.0.4")]);
    assert_eq!(block.assign(1, &owner("a"), &none()), [ip("10.0.0.0")]);
    block.assign_address(ip("10.0.0.1"), &owner("a")).unwrap();
}

#[test]
fn a_stale_release_is_refused_wholesale() {
    let mut block = block("10.0.0.0/30");
    let [address] = block.assign(1, &owner("a"), &none())[..] else {
        panic!()
    };
    let old = block.sequence_of(address);
    block.advance();
    block.release_handle("a");
    block.advance();
    block.assign_address(address, &owner("a")).unwrap();
    block.advance();
    let stale = Release {
        address,
        handle: None,
        sequence_number: old,
    };
    let before = block.clone();
    let refused = block.release(&[Release::of(ip("10.0.0.1")), stale]);
    assert_eq!(
        refused,
        Err(BlockError::StaleSequence {
            address,
            expected: 1000,
            found: 1002
        })
    );
    assert_eq!(block, before);
    let current = Release {
        address,
        handle: Some("A".to_string()),
        sequence_number: Some(1002),
    };
    assert_eq!(block.release(&[current]), Ok(vec![address]));
}

#[test]
fn another_handles_address_is_not_released() {
    let mut block = block("10.0.0.0/30");
    let [address] = block.assign(1, &owner("a"), &none())[..] else {
        panic!()
    };
    let wrong = Release {
        address,
        handle: Some("b".to_string()),
        sequence_number: None,
    };
    assert!(matches!(
        block.release(&[wrong]),
        Err(BlockError::WrongHandle { .. })
    ));
    assert!(block.release_handle("b").is_empty());
    assert_eq!(block.addresses_of("a"), [address]);
}

#[test]
fn duplicates_in_a_release_are_harmless() {
    let mut block = block("10.0.0.0/30");
    let [address] = block.assign(1, &owner("a"), &none())[..] else {
        panic!()
    };
    let twice = [Release::of(address), Release::of(address)];
    assert_eq!(block.release(&twice), Ok(vec![address]));
    assert_eq!(block.release(&twice), Ok(vec![]));
    assert_eq!(block.spec().unallocated, [1, 2, 3, 0]);
}

#[test]
fn an_address_that_cools_down_is_neither_free_nor_anybodys() {
    let mut spec = block("10.0.0.0/30").into_spec();
    spec.attributes = vec![AllocationAttribute {
        released_at: Some("2026-11-20T10:00:00Z".to_string()),
        ..AllocationAttribute::default()
    }];
    spec.allocations[1] = Some(0);
    spec.unallocated = vec![0, 2, 3];
    let mut block = Block::from_spec(spec).unwrap();
    assert_eq!(block.check(), []);
    assert_eq!(block.used_count(), 1);
    assert!(block.release_handle("").is_empty());
    let given = block.assign(9, &owner("a"), &none());
    assert!(!given.contains(&ip("10.0.0.1")), "{given:?}");
    block.release_handle("a");
    assert_eq!(block.used_count(), 1);
    assert_eq!(block.check(), []);
}

#[test]
fn a_damaged_block_is_refused_and_an_untidy_one_is_not() {
    type Change = fn(&mut IpamBlockSpec);
    let dangerous: [Change; 6] = [
        |s| s.allocations.truncate(3),
        |s| s.allocations[0] = Some(7),
        |s| s.unallocated.push(0),
        |s| s.unallocated.push(2),
        |s| s.unallocated.push(4),
        |s| s.cidr = net("10.0.0.1/30"),
    ];
    let untidy: [Change; 5] = [
        |s| s.attributes.push(owner("nobody")),
        |s| s.attributes.push(owner("a")),
        |s| s.unallocated.clear(),
        |s| s.sequence_number = 0,
        |s| {
            s.sequence_number_for_allocation.insert("x".to_string(), 1);
        },
    ];
    let mut sound = block("10.0.0.0/30");
    sound.assign(1, &owner("a"), &none());
    sound.advance();
    assert_eq!(sound.check(), []);
    for (i, change) in dangerous.iter().enumerate() {
        let mut spec = sound.spec().clone();
        change(&mut spec);
        assert!(
            matches!(Block::from_spec(spec), Err(BlockError::Damaged { .. })),
            "change {i}"
        );
    }
    for (i, change) in untidy.iter().enumerate() {
        let mut spec = sound.spec().clone();
        change(&mut spec);
        let block = Block::from_spec(spec).unwrap();
        assert!(!block.check().is_empty(), "change {i}");
    }
}

#[test]
fn a_block_too_large_is_refused_without_being_counted_out() {
    let mut spec = block("10.0.0.0/30").into_spec();
    spec.cidr = net("::/0");
    assert!(Block::from_spec(spec).is_err());
}

#[derive(Debug, Clone)]
enum Op {
    Assign {
        handle: u8,
        count: usize,
    },
    AssignAddress {
        handle: u8,
        ordinal: usize,
    },
    ReleaseHandle(u8),
    Release {
        ordinals: Vec<usize>,
        handle: Option<u8>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..5u8, 0..5usize).prop_map(|(handle, count)| Op::Assign { handle, count }),
        (0..5u8, 0..16usize).prop_map(|(handle, ordinal)| Op::AssignAddress { handle, ordinal }),
        (0..5u8).prop_map(Op::ReleaseHandle),
        (
            proptest::collection::vec(0..16usize, 0..6),
            proptest::option::of(0..5u8)
        )
            .prop_map(|(ordinals, handle)| Op::Release { ordinals, handle }),
    ]
}

/// What a block should be, said as plainly as possible.
struct Model {
    owners: Vec<Option<u8>>,
    queue: VecDeque<usize>,
}

impl Model {
    fn apply(&mut self, op: &Op) -> Result<Vec<usize>, ()> {
        match op {
            Op::Assign { handle, count } => {
                let given: Vec<usize> = (0..*count).filter_map(|_| self.queue.pop_front()).collect();
                given.iter().for_each(|&o| self.owners[o] = Some(*handle));
                Ok(given)
            }
            Op::AssignAddress { handle, ordinal } => {
                let at = self.queue.iter().position(|o| o == ordinal).ok_or(())?;
                self.queue.remove(at);
                self.owners[*ordinal] = Some(*handle);
                Ok(vec![*ordinal])
            }
            Op::ReleaseHandle(handle) => {
                let own: Vec<usize> = (0..16).filter(|&o| self.owners[o] == Some(*handle)).collect();
                Ok(self.free(&own))
            }
            Op::Release { ordinals, handle } => {
                let wrong =
                    |o: &usize| handle.is_some() && self.owners[*o].is_some_and(|h| Some(h) != *handle);
                if ordinals.iter().any(wrong) {
                    return Err(());
                }
                Ok(self.free(ordinals))
            }
        }
    }

    fn free(&mut self, ordinals: &[usize]) -> Vec<usize> {
        let mut freed = Vec::new();
        for &ordinal in ordinals {
            if self.owners[ordinal].take().is_some() {
                self.queue.push_back(ordinal);
                freed.push(ordinal);
            }
        }
        freed
    }
}

fn name(handle: u8) -> String {
    format!("h{handle}")
}

fn apply(block: &mut Block, op: &Op) -> Result<Vec<usize>, ()> {
    let addresses = match op {
        Op::Assign { handle, count } => block.assign(*count, &owner(&name(*handle)), &none()),
        Op::AssignAddress { handle, ordinal } => {
            let address = block.address(*ordinal).unwrap();
            let done = block.assign_address(address, &owner(&name(*handle)));
            done.map(|()| vec![address]).map_err(|_| ())?
        }
        Op::ReleaseHandle(handle) => block.release_handle(&name(*handle)),
        Op::Release { ordinals, handle } => {
            let release = |&ordinal: &usize| Release {
                address: block.address(ordinal).unwrap(),
                handle: handle.map(name),
                sequence_number: None,
            };
            let releases: Vec<Release> = ordinals.iter().map(release).collect();
            block.release(&releases).map_err(|_| ())?
        }
    };
    Ok(addresses.iter().map(|a| block.ordinal(*a).unwrap()).collect())
}

proptest! {
    #[test]
    fn random_operations_agree_with_the_model(
        ops in proptest::collection::vec(op(), 0..80),
        v6 in any::<bool>(),
    ) {
        let mut block = block(if v6 { "fd00::10/124" } else { "10.0.0.16/28" });
        let mut model = Model { owners: vec![None; 16], queue: (0..16).collect() };
        for op in &ops {
            prop_assert_eq!(apply(&mut block, op), model.apply(op), "{:?}", op);
            block.advance();
            prop_assert_eq!(block.check(), vec![]);
            prop_assert_eq!(block.used_count() + block.free_count(&none()), 16);
            prop_assert_eq!(&block.spec().unallocated, &Vec::from(model.queue.clone()));
            for ordinal in 0..16 {
                let found = block.owner_of(block.address(ordinal).unwrap()).and_then(handle_of);
                let expected = model.owners[ordinal].map(name);
                prop_assert_eq!(found, expected.as_deref());
            }
            let json = serde_json::to_string(block.spec()).unwrap();
            let read = Block::from_spec(serde_json::from_str(&json).unwrap()).unwrap();
            prop_assert_eq!(&read, &block);
        }
    }
}
