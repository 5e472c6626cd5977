//! What the allocator does when nothing fails: where it looks, what it refuses, what it leaves behind.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;

use datastore::types::{AffinityState, AllowedUse, BlockAffinity, IpamHandle};
use ipam::{
    Error,
    allocator::{AffinityRelease, Released},
    block::Release,
};
use support::{World, assign, error, request};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn assigns_and_releases_without_a_trace() {
    let world = World::with_pool("10.0.0.0/24").await;
    let node = world.node("n1");
    let addresses = assign(&node, "net.Pod1", 2).await;
    assert_eq!(addresses.len(), 2);
    assert_eq!(node.addresses_of("net.pod1").await.unwrap(), addresses);
    let handle = world.store().get::<IpamHandle>("net.pod1").await.unwrap();
    assert_eq!(handle.spec.handle_id, "net.Pod1");
    assert_eq!(handle.spec.block.values().sum::<u32>(), 2);
    world.assert_sound(false, "assigned").await;
    assert_eq!(node.release_handle("net.Pod1").await.unwrap(), addresses);
    assert_eq!(node.release_handle("net.Pod1").await.unwrap(), [] as [IpAddr; 0]);
    assert!(world.store().list::<IpamHandle>().await.unwrap().is_empty());
    assert_eq!(world.summary().await.len(), 1, "the node keeps its block");
    world.assert_sound(false, "released").await;
}

#[tokio::test]
async fn a_claim_is_confirmed_and_labelled() {
    let world = World::with_pool("10.0.0.0/26").await;
    assign(&world.node("n1"), "h", 1).await;
    let affinity = world
        .store()
        .get::<BlockAffinity>("n1-10-0-0-0-26")
        .await
        .unwrap();
    assert_eq!(affinity.spec.state, AffinityState::Confirmed);
    assert_eq!(affinity.spec.affinity_type.as_deref(), Some("host"));
    assert_eq!(affinity.metadata.labels["projectcalico.org/ip-version"], "4");
    let block = &world.blocks().await[0];
    assert_eq!(block.spec.affinity.as_deref(), Some("host:n1"));
    assert_eq!(
        block.spec.affinity_claim_time.as_deref(),
        Some(&*world.clock.now().to_string())
    );
    // One write since it was made.
    let created = u64::try_from(world.clock.now().as_nanosecond()).unwrap();
    assert_eq!(block.spec.sequence_number, created + 1);
    assert_eq!(block.spec.sequence_number_for_allocation["0"], created);
}

#[tokio::test]
async fn dual_stack_is_all_or_nothing() {
    let world = World::with_pool("10.0.0.0/24").await;
    world.pool("six", "fd00::/122", |_| {}).await;
    let node = world.node("n1");
    let both = node.assign(request("a", 1, 1)).await.unwrap().addresses;
    assert!(both[0].is_ipv4() && both[1] == ip("fd00::"), "{both:?}");
    assert_eq!(
        node.assign(request("fill", 0, 63)).await.unwrap().addresses.len(),
        63
    );
    let message = error(&node, request("b", 1, 1)).await;
    assert!(
        message.starts_with("no IPv6 address left for node \"n1\": pool \"six\": "),
        "{message}"
    );
    assert_eq!(node.addresses_of("b").await.unwrap(), [] as [IpAddr; 0]);
    assert!(
        world
            .store()
            .get::<IpamHandle>("b")
            .await
            .unwrap_err()
            .is_not_found()
    );
    world.assert_sound(false, "rolled back").await;
    assert_eq!(node.release_handle("a").await.unwrap(), both);
}

#[tokio::test]
async fn a_family_without_a_pool_says_so() {
    let world = World::with_pool("10.0.0.0/24").await;
    let message = error(&world.node("n1"), request("a", 0, 1)).await;
    assert_eq!(
        message,
        "no IPv6 address left for node \"n1\": there is no IPv6 pool"
    );
}

#[tokio::test]
async fn nodes_have_blocks_of_their_own_and_borrow_when_there_are_none() {
    let world = World::with_pool("10.0.0.0/25").await;
    let (a, b, c) = (world.node("a"), world.node("b"), world.node("c"));
    assign(&a, "a", 1).await;
    assign(&b, "b", 1).await;
    let mut owners: Vec<Option<String>> = world
        .blocks()
        .await
        .into_iter()
        .map(|b| b.spec.affinity)
        .collect();
    owners.sort();
    assert_eq!(owners, [Some("host:a".to_string()), Some("host:b".to_string())]);
    let borrowed = assign(&c, "c", 126).await;
    assert_eq!(borrowed.len(), 126);
    assert!(matches!(
        c.assign(request("d", 1, 0)).await,
        Err(Error::Exhausted(_))
    ));
    world.assert_sound(false, "borrowed").await;
    assert_eq!(c.release_handle("c").await.unwrap().len(), 126);
    assert_eq!(world.blocks().await.len(), 2);
    world.assert_sound(false, "given back").await;
}

#[tokio::test]
async fn strict_affinity_forbids_borrowing_and_can_be_toggled() {
    let world = World::with_pool("10.0.0.0/26").await;
    world.config(|c| c.strict_affinity = true).await;
    assign(&world.node("a"), "a", 1).await;
    let b = world.node("b");
    let message = error(&b, request("b", 1, 0)).await;
    assert_eq!(
        message,
        "no IPv4 address left for node \"b\": pool \"pool\": no free block, strictAffinity forbids borrowing"
    );
    world.config(|c| c.strict_affinity = false).await;
    assert_eq!(assign(&b, "b", 1).await.len(), 1);
    world.assert_sound(false, "borrowed").await;
}

#[tokio::test]
async fn an_exhausted_pool_explains_itself_and_gives_all_back() {
    let world = World::with_blocks("10.0.0.0/29", 30).await;
    world.pool("off", "10.1.0.0/24", |p| p.disabled = true).await;
    world
        .pool("west", "10.2.0.0/24", |p| {
            p.node_selector = "zone == 'west'".to_string()
        })
        .await;
    let node = world.node("n1");
    assign(&node, "a", 5).await;
    let message = error(&node, request("b", 4, 0)).await;
    assert_eq!(
        message,
        "no IPv4 address left for node \"n1\" (3 of 4 found): \
         pool \"pool\": the node's 2 blocks are full, no free block, nothing to borrow; \
         pool \"off\": disabled; \
         pool \"west\": nodeSelector \"zone == 'west'\" does not match the node"
    );
    world.assert_sound(false, "rolled back").await;
    assert_eq!(assign(&node, "c", 3).await.len(), 3);
}

#[tokio::test]
async fn the_next_pool_is_used_when_the_first_is_full() {
    let world = World::with_blocks("10.0.0.0/30", 30).await;
    world.pool("second", "10.1.0.0/26", |_| {}).await;
    let node = world.node("n1");
    let all = assign(&node, "a", 6).await;
    assert_eq!(
        all.iter().filter(|a| a.to_string().starts_with("10.1.")).count(),
        2
    );
    world.assert_sound(false, "two pools").await;
}

#[tokio::test]
async fn requests_that_make_no_sense() {
    let world = World::with_pool("10.0.0.0/24").await;
    world.pool("six", "fd00::/64", |_| {}).await;
    let node = world.node("n1");
    assert_eq!(error(&node, request("", 1, 0)).await, "handle: must not be empty");
    let message = error(&node, request("a", 0, 0)).await;
    assert_eq!(message, "ipv4 and ipv6: at least one address must be asked for");
    let mut unknown = request("a", 1, 1);
    unknown.ipv6_pools = vec!["nope".to_string()];
    let message = error(&node, unknown).await;
    assert_eq!(
        message,
        "unknown pool \"nope\": expected the name or CIDR of one of: pool, six"
    );
    let mut family = request("a", 1, 0);
    family.ipv4_pools = vec!["fd00::/64".to_string()];
    let message = error(&node, family).await;
    assert_eq!(
        message,
        "pool \"fd00::/64\" is IPv6 and cannot give an IPv4 address"
    );
    assert!(
        world.blocks().await.is_empty(),
        "nothing is written for a request that makes no sense"
    );
}

#[tokio::test]
async fn selectors_and_uses_choose_the_pool() {
    let world = World::with_pool("10.0.0.0/24").await;
    world
        .change_pool("pool", |p| p.node_selector = "zone == 'east'".to_string())
        .await;
    world
        .pool("tunnels", "10.1.0.0/24", |p| {
            p.allowed_uses = vec![AllowedUse::Tunnel]
        })
        .await;
    world.label("n1", &[("zone", "east")]).await;
    let n1 = world.node("n1");
    assert!(assign(&n1, "a", 1).await[0].to_string().starts_with("10.0."));
    let mut tunnel = request("t", 1, 0);
    tunnel.use_ = AllowedUse::Tunnel;
    let stranger = world.node("n2");
    let address = stranger.assign(tunnel).await.unwrap().addresses[0];
    assert!(address.to_string().starts_with("10.1."), "{address}");
    let message = error(&stranger, request("b", 1, 0)).await;
    assert!(message.contains("does not match the node"), "{message}");
    let mut asked = request("c", 1, 0);
    asked.ipv4_pools = vec!["pool".to_string()];
    assert_eq!(
        stranger.assign(asked).await.unwrap().addresses.len(),
        1,
        "a pool asked for wins over its selector"
    );
    world.assert_sound(false, "selectors").await;
}

#[tokio::test]
async fn a_node_gives_up_empty_blocks_of_pools_that_do_not_select_it_any_more() {
    let world = World::with_pool("10.0.0.0/24").await;
    world.pool("second", "10.1.0.0/24", |_| {}).await;
    let node = world.node("n1");
    assign(&node, "a", 1).await;
    world
        .change_pool("pool", |p| p.node_selector = "has(gone)".to_string())
        .await;
    let b = assign(&node, "b", 1).await;
    assert!(b[0].to_string().starts_with("10.1."), "{b:?}");
    assert_eq!(world.blocks().await.len(), 2, "in use: kept");
    node.release_handle("a").await.unwrap();
    assign(&node, "c", 1).await;
    let left = world.summary().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with("10.1."), "{left:?}");
    world.assert_sound(false, "given up").await;
}

#[tokio::test]
async fn reserved_addresses_are_never_given() {
    let world = World::with_pool("10.0.0.0/25").await;
    world.reserve("10.0.0.0/26").await;
    let node = world.node("n1");
    let all = assign(&node, "a", 64).await;
    assert!(all.iter().all(|a| *a >= ip("10.0.0.64")), "{all:?}");
    assert!(matches!(
        node.assign(request("b", 1, 0)).await,
        Err(Error::Exhausted(_))
    ));
    assert_eq!(
        world.blocks().await.len(),
        1,
        "a block wholly reserved is not claimed"
    );
}

#[tokio::test]
async fn limits_on_blocks() {
    let world = World::with_pool("10.0.0.0/24").await;
    world
        .config(|c| {
            c.max_blocks_per_host = 2;
            c.strict_affinity = true;
        })
        .await;
    let node = world.node("n1");
    assert_eq!(assign(&node, "a", 128).await.len(), 128);
    let message = error(&node, request("b", 1, 0)).await;
    assert!(
        message.contains("the node has 2 blocks (maxBlocksPerHost is 2)"),
        "{message}"
    );
    world
        .config(|c| {
            c.max_blocks_per_host = 0;
            c.auto_allocate_blocks = false;
        })
        .await;
    let message = error(&node, request("b", 1, 0)).await;
    assert!(message.contains("autoAllocateBlocks is off"), "{message}");
    assert!(node.claim_block("10.0.0.0/26".parse().unwrap()).await.unwrap());
}

#[tokio::test]
async fn an_empty_block_is_reclaimed_once_it_is_a_minute_old() {
    let world = World::with_pool("10.0.0.0/26").await;
    world.config(|c| c.strict_affinity = true).await;
    let (a, b) = (world.node("a"), world.node("b"));
    assign(&a, "a", 1).await;
    a.release_handle("a").await.unwrap();
    assert!(matches!(
        b.assign(request("b", 1, 0)).await,
        Err(Error::Exhausted(_))
    ));
    world.clock.advance_seconds(61);
    assign(&b, "b", 1).await;
    assert_eq!(world.summary().await, ["10.0.0.0/26 host:b 1"]);
    world.assert_sound(false, "reclaimed").await;
    // In use: not reclaimed however old.
    world.clock.advance_seconds(3600);
    assert!(matches!(
        a.assign(request("a", 1, 0)).await,
        Err(Error::Exhausted(_))
    ));
    assert_eq!(world.summary().await, ["10.0.0.0/26 host:b 1"]);
}

#[tokio::test]
async fn a_released_affinity_leaves_addresses_and_goes_with_the_last() {
    let world = World::with_pool("10.0.0.0/26").await;
    let node = world.node("n1");
    assign(&node, "a", 1).await;
    let release = AffinityRelease {
        node: "n1".to_string(),
        cidr: "10.0.0.0/26".parse().unwrap(),
        require_empty: true,
        sequence_number: None,
    };
    assert_eq!(node.release_affinity(&release).await.unwrap(), Released::InUse);
    let stale = AffinityRelease {
        sequence_number: Some(1),
        ..release.clone()
    };
    assert_eq!(node.release_affinity(&stale).await.unwrap(), Released::Changed);
    let any = AffinityRelease {
        require_empty: false,
        ..release
    };
    assert_eq!(node.release_affinity(&any).await.unwrap(), Released::Done);
    assert_eq!(node.release_affinity(&any).await.unwrap(), Released::NotOwned);
    assert_eq!(world.summary().await, ["10.0.0.0/26  1"]);
    world.assert_sound(false, "without an owner").await;
    assert_eq!(node.release_handle("a").await.unwrap().len(), 1);
    assert!(world.blocks().await.is_empty());
    world.assert_sound(false, "gone").await;
}

#[tokio::test]
async fn single_addresses_are_released_by_sequence_number_and_handle() {
    let world = World::with_pool("10.0.0.0/26").await;
    let node = world.node("n1");
    let a = assign(&node, "a", 2).await;
    let b = assign(&node, "b", 1).await;
    let wrong = Release {
        address: a[0],
        handle: Some("b".to_string()),
        sequence_number: None,
    };
    let refused = node.release_addresses(&[Release::of(b[0]), wrong]).await;
    assert!(matches!(refused, Err(Error::Block(_))), "{refused:?}");
    assert_eq!(
        node.addresses_of("b").await.unwrap(),
        b,
        "a release is refused wholesale"
    );
    let stale = Release {
        address: a[0],
        handle: None,
        sequence_number: Some(7),
    };
    assert!(node.release_addresses(&[stale]).await.is_err());
    let twice = [Release::of(a[0]), Release::of(a[0]), Release::of(ip("10.0.0.63"))];
    assert_eq!(node.release_addresses(&twice).await.unwrap(), [a[0]]);
    world.assert_sound(false, "released").await;
    assert_eq!(node.release_handle("a").await.unwrap(), [a[1]]);
    assert_eq!(world.summary().await, ["10.0.0.0/26 host:n1 1"]);
}

#[tokio::test]
async fn addresses_are_given_out_again_as_late_as_possible() {
    let world = World::with_blocks("10.0.0.0/29", 29).await;
    let node = world.node("n1");
    let mut seen = Vec::new();
    for i in 0..16 {
        let handle = format!("h{i}");
        seen.extend(assign(&node, &handle, 1).await);
        node.release_handle(&handle).await.unwrap();
    }
    let (first, second) = seen.split_at(8);
    assert_eq!(first, second, "the queue goes round");
    let mut distinct = first.to_vec();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 8);
}

#[tokio::test]
async fn a_damaged_block_is_passed_over_and_named() {
    let world = World::with_pool("10.0.0.0/25").await;
    let node = world.node("n1");
    assign(&node, "a", 1).await;
    let damaged = world.blocks().await.remove(0);
    let double = |block: &mut serde_json::Value| block["spec"]["unallocated"][0] = 0.into();
    world.cluster.tamper("IPAMBlock", &damaged.metadata.name, double);
    let other = assign(&node, "b", 1).await;
    assert!(!damaged.spec.cidr.contains(&other[0]), "{other:?}");
    assert_eq!(assign(&world.node("n2"), "c", 63).await.len(), 63, "others too");
    let message = node.release_handle("a").await.unwrap_err().to_string();
    assert!(message.contains("spec.unallocated"), "{message}");
}

#[tokio::test]
async fn blocks_of_another_size_are_not_overlapped() {
    let world = World::with_blocks("10.0.0.0/25", 28).await;
    assign(&world.node("n1"), "a", 1).await;
    world.change_pool("pool", |p| p.block_size = Some(26)).await;
    let n2 = world.node("n2");
    assign(&n2, "b", 64).await;
    assign(&n2, "c", 15).await;
    assert!(matches!(
        n2.assign(request("d", 1, 0)).await,
        Err(Error::Exhausted(_))
    ));
    world.assert_sound(false, "two sizes").await;
}

#[tokio::test]
async fn long_node_names_work() {
    let world = World::with_pool("10.0.0.0/24").await;
    let name = format!("{}.example", "n".repeat(245));
    let node = world.node(&name);
    assign(&node, "a", 1).await;
    assign(&node, "b", 1).await;
    assert_eq!(world.blocks().await.len(), 1);
    world.assert_sound(false, "long name").await;
}
