//! The plan against a small model of the kernel, to which others do things as well.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::kernel::{
    route::{Hop, Kind, RouteRecord},
    types::{Gateway, Link, TableId},
};

const OURS: u8 = 80;
const THEIRS: u8 = 4;

/// Routes by key, ours and others', and the devices eth1 to eth3, of which some are down.
struct Model {
    routes: BTreeMap<RouteKey, RouteRecord>,
    links: Links,
}

fn links(up: [bool; 3]) -> Links {
    let link = |(position, up): (usize, bool)| {
        let index = position as u32 + 1;
        Link {
            name: format!("eth{index}"),
            index,
            up,
            ..Link::default()
        }
    };
    up.into_iter().enumerate().map(link).collect()
}

fn prefix(number: u8) -> IpNet {
    IpNet::new([10, 0, number, 0].into(), 24).unwrap()
}

fn record(key: RouteKey, protocol: u8, target: &RouteTarget) -> RouteRecord {
    let index = |name: &str| name.trim_start_matches("eth").parse().unwrap();
    let (kind, hops) = match target {
        RouteTarget::Blackhole => (Kind::Blackhole, Vec::new()),
        RouteTarget::Device { name } => (
            Kind::Unicast,
            vec![Hop {
                index: index(name),
                ..Hop::default()
            }],
        ),
        RouteTarget::Gateways(gateways) => {
            let hop = |gateway: &Gateway| {
                // Where no device is given the kernel finds one.
                let device = gateway.device.as_deref().unwrap_or("eth3");
                Hop {
                    gateway: Some(gateway.address),
                    index: index(device),
                    onlink: gateway.onlink,
                }
            };
            (Kind::Unicast, gateways.iter().map(hop).collect())
        }
    };
    RouteRecord {
        key,
        table: TableId::MAIN,
        protocol,
        kind,
        hops,
    }
}

impl Model {
    /// Carries a change out as the kernel does, and tells the plan.
    fn apply(&mut self, plan: &mut Plan, op: Op, now: Instant) {
        let held = |key: &RouteKey| self.routes.get(key).map(|record| record.protocol);
        let (key, outcome) = match op {
            Op::Create(key, _) if held(&key).is_some() => (key, Err(Refusal::of(Errno::EEXIST))),
            Op::Replace(key, _) if held(&key).is_none() => (key, Err(Refusal::of(Errno::ENOENT))),
            Op::Delete(key) if held(&key) != Some(OURS) => (key, Err(Refusal::of(Errno::ESRCH))),
            Op::Create(key, target) | Op::Replace(key, target) => {
                assert_ne!(held(&key), Some(THEIRS), "a foreign route was replaced");
                let new = record(key, OURS, &target);
                let replaces = self.routes.insert(key, new.clone()).is_some();
                let _ = plan.handle_route(new, replaces, &self.links, now);
                (key, Ok(()))
            }
            Op::Delete(key) => {
                let old = self.routes.remove(&key).unwrap();
                let _ = plan.handle_route_gone(&old, &self.links, now);
                (key, Ok(()))
            }
        };
        if plan.handle_outcome(key, outcome, now) == Trust::Lost {
            self.dump(plan, now);
        }
    }

    fn dump(&self, plan: &mut Plan, now: Instant) {
        plan.handle_dump(self.routes.values().cloned().collect(), &self.links, now);
    }

    /// Works until nothing is left to do and no delay is running.
    fn settle(&mut self, plan: &mut Plan, now: &mut Instant) {
        for _ in 0..10_000 {
            match plan.poll_op(&self.links, *now) {
                Some(op) => self.apply(plan, op, *now),
                None => {
                    assert!(plan.is_settled());
                    let Some(due) = plan.next_due() else {
                        return;
                    };
                    *now = due.max(*now);
                    plan.handle_timeout(*now);
                }
            }
        }
        panic!("a busy loop: {:?}", plan.status());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Want(BTreeMap<u8, RouteTarget>, Removal),
    /// Another program puts a route of its own there, in the place of whatever is there.
    Foreign(u8),
    /// Whatever is there goes. Without an event where the second is true.
    Lose(u8, bool),
    /// Ours is made to lead elsewhere by somebody.
    Twist(u8, RouteTarget),
    Link(usize, bool),
    Settle,
    Dump,
}

fn target() -> impl Strategy<Value = RouteTarget> {
    let gateway = |number: u8| Gateway {
        address: [192, 0, 2, number].into(),
        device: None,
        onlink: false,
    };
    prop_oneof![
        Just(RouteTarget::Blackhole),
        (1..=2u8).prop_map(|number| RouteTarget::device(format!("eth{number}"))),
        proptest::collection::btree_set(1..5u8, 1..3)
            .prop_map(move |numbers| RouteTarget::Gateways(numbers.into_iter().map(gateway).collect())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let removal = prop_oneof![
        Just(Removal::Hold),
        Just(Removal::HoldGateways),
        Just(Removal::Allow)
    ];
    prop_oneof![
        3 => (proptest::collection::btree_map(0..8u8, target(), 0..8), removal)
            .prop_map(|(routes, removal)| Step::Want(routes, removal)),
        2 => (0..8u8).prop_map(Step::Foreign),
        2 => (0..8u8, any::<bool>()).prop_map(|(number, silent)| Step::Lose(number, silent)),
        1 => (0..8u8, target()).prop_map(|(number, target)| Step::Twist(number, target)),
        1 => (0..2usize, any::<bool>()).prop_map(|(number, up)| Step::Link(number, up)),
        3 => Just(Step::Settle),
        1 => Just(Step::Dump),
    ]
}

struct World {
    plan: Plan,
    model: Model,
    now: Instant,
    up: [bool; 3],
    wanted: BTreeMap<u8, RouteTarget>,
    removal: Removal,
}

impl World {
    fn new() -> Self {
        let up = [true; 3];
        let model = Model {
            routes: BTreeMap::new(),
            links: links(up),
        };
        let (wanted, removal) = (BTreeMap::new(), Removal::Hold);
        World {
            plan: Plan::new(OURS),
            model,
            now: Instant::now(),
            up,
            wanted,
            removal,
        }
    }

    fn want(&mut self, wanted: BTreeMap<u8, RouteTarget>, removal: Removal) {
        let routes = wanted
            .iter()
            .map(|(number, target)| (prefix(*number), target.clone()))
            .collect();
        self.plan.set_desired(&Arc::new(routes), removal);
        (self.wanted, self.removal) = (wanted, removal);
    }

    fn take(&mut self, step: Step) {
        let World {
            plan, model, now, up, ..
        } = self;
        match step {
            Step::Want(wanted, removal) => self.want(wanted, removal),
            Step::Foreign(number) => {
                let key = RouteKey::ours(prefix(number));
                let foreign = record(key, THEIRS, &RouteTarget::Blackhole);
                let replaces = model.routes.insert(key, foreign.clone()).is_some();
                if plan.handle_route(foreign, replaces, &model.links, *now) == Trust::Lost {
                    model.dump(plan, *now);
                }
            }
            Step::Lose(number, silent) => {
                if let Some(lost) = model.routes.remove(&RouteKey::ours(prefix(number)))
                    && !silent
                    && plan.handle_route_gone(&lost, &model.links, *now) == Trust::Lost
                {
                    model.dump(plan, *now);
                }
            }
            Step::Twist(number, target) => {
                let key = RouteKey::ours(prefix(number));
                let possible = target
                    .devices()
                    .all(|device| model.links.name(device).unwrap().up);
                if possible && model.routes.get(&key).is_some_and(|route| route.protocol == OURS) {
                    let twisted = record(key, OURS, &target);
                    model.routes.insert(key, twisted.clone());
                    let _ = plan.handle_route(twisted, true, &model.links, *now);
                }
            }
            Step::Link(position, to) => {
                let was = std::mem::replace(&mut up[position], to);
                let index = position as u32 + 1;
                model.links = links(*up);
                if was && !to {
                    model
                        .routes
                        .retain(|_, route| !route.dies_with(&model.links, index, false));
                    let _ = plan.handle_link_down(index, false, &model.links);
                } else if to && !was {
                    plan.handle_link_up(&format!("eth{index}"));
                }
            }
            Step::Settle => model.settle(plan, now),
            Step::Dump => model.dump(plan, *now),
        }
    }

    /// What must hold once everything has been read and worked off.
    fn check(&self) {
        for (number, target) in &self.wanted {
            let key = RouteKey::ours(prefix(*number));
            let found = self.model.routes.get(&key);
            let ready = target
                .devices()
                .all(|device| self.model.links.name(device).unwrap().up);
            if ready && found.is_none_or(|route| route.protocol == OURS) {
                assert_eq!(found, Some(&record(key, OURS, target)), "wanted and possible");
            } else {
                let problems = self.plan.status().problems;
                assert!(
                    problems.iter().any(|problem| problem.prefix == key.prefix),
                    "a problem goes unreported"
                );
            }
        }
        let stale = |route: &&RouteRecord| {
            let number = route
                .key
                .prefix
                .network()
                .to_string()
                .split('.')
                .nth(2)
                .unwrap()
                .parse()
                .unwrap();
            route.protocol == OURS && !self.wanted.contains_key(&number)
        };
        for route in self.model.routes.values().filter(stale) {
            let gateways = route.hops.iter().any(|hop| hop.gateway.is_some());
            let held = match self.removal {
                Removal::Hold => true,
                Removal::HoldGateways => gateways,
                Removal::Allow => false,
            };
            assert!(held, "{route:?} should be gone");
        }
        let status = self.plan.status();
        assert_eq!(status.desired, self.wanted.len());
        assert_eq!(status.installed + status.pending, status.desired);
        assert_eq!(status.pending, status.problems.len(), "{status:?}");
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_kernel_ends_up_as_wanted(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // What went silently is found by the periodic reading.
        world.take(Step::Dump);
        world.take(Step::Settle);
        world.check();
    }
}

#[test]
fn what_others_break_is_counted_once_it_is_mended_and_what_a_device_takes_along_is_not() {
    let mut world = World::new();
    world.want(
        [(1, RouteTarget::Blackhole), (2, RouteTarget::device("eth1"))].into(),
        Removal::Allow,
    );
    world.take(Step::Settle);
    world.take(Step::Lose(1, false));
    assert_eq!(world.plan.status().repairs, 0);
    world.take(Step::Settle);
    assert_eq!(world.plan.status().repairs, 1);
    world.take(Step::Link(0, false));
    world.take(Step::Settle);
    world.take(Step::Link(0, true));
    world.take(Step::Settle);
    assert_eq!(
        (world.plan.status().repairs, world.plan.status().installed),
        (1, 2)
    );
    world.take(Step::Lose(2, true));
    world.take(Step::Settle);
    assert_eq!(world.plan.status().repairs, 1, "nobody has seen it yet");
    world.take(Step::Dump);
    world.take(Step::Settle);
    assert_eq!(world.plan.status().repairs, 2);
}

#[test]
fn routes_are_made_before_others_are_deleted() {
    let mut world = World::new();
    world.want(
        [(1, RouteTarget::Blackhole), (2, RouteTarget::Blackhole)].into(),
        Removal::Allow,
    );
    world.take(Step::Settle);
    world.want(
        [(5, RouteTarget::Blackhole), (6, RouteTarget::Blackhole)].into(),
        Removal::Allow,
    );
    let mut ops = Vec::new();
    while let Some(op) = world.plan.poll_op(&world.model.links, world.now) {
        ops.push(op);
    }
    let deletion = |op: &Op| matches!(op, Op::Delete(_));
    assert_eq!(
        ops.iter().map(deletion).collect::<Vec<_>>(),
        [false, false, true, true]
    );
}
