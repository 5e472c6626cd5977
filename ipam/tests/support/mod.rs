//! What the tests of the allocator share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{collections::BTreeMap, net::IpAddr};

use datastore::{
    Store,
    types::{
        AllowedUse, IpPool, IpPoolSpec, IpReservation, IpReservationSpec, IpamBlock, IpamConfig,
        IpamConfigSpec, Node,
    },
};
use ipam::{
    Allocator, AssignRequest,
    check::Problem,
    testing::{Clock, Cluster, Plan, problems},
};

/// A simulated cluster and its clock.
#[derive(Clone, Default)]
pub struct World {
    pub cluster: Cluster,
    pub clock: Clock,
}

impl World {
    pub async fn with_pool(cidr: &str) -> Self {
        let world = World::default();
        world.pool("pool", cidr, |_| {}).await;
        world
    }

    pub async fn with_blocks(cidr: &str, block_size: u8) -> Self {
        let world = World::default();
        world
            .pool("pool", cidr, |p| p.block_size = Some(block_size))
            .await;
        world
    }

    pub fn store(&self) -> Store {
        self.cluster.store()
    }

    /// An allocator on which nothing fails.
    pub fn node(&self, name: &str) -> Allocator {
        Allocator::with_environment(self.store(), name.to_string(), self.clock.environment(1))
    }

    /// An allocator whose calls fare as planned.
    pub fn faulty(&self, name: &str, plan: Plan) -> (Allocator, ipam::testing::Client) {
        let client = self.cluster.client(plan);
        let environment = self.clock.environment(1);
        (
            Allocator::with_environment(client.store(), name.to_string(), environment),
            client,
        )
    }

    pub async fn pool(&self, name: &str, cidr: &str, change: impl FnOnce(&mut IpPoolSpec)) {
        let mut spec = IpPoolSpec::new(cidr.parse().unwrap());
        change(&mut spec);
        self.store().create(&IpPool::new(name, spec)).await.unwrap();
    }

    pub async fn change_pool(&self, name: &str, change: impl FnOnce(&mut IpPoolSpec)) {
        let mut pool = self.store().get::<IpPool>(name).await.unwrap();
        change(&mut pool.spec);
        self.store().update(&pool).await.unwrap();
    }

    pub async fn reserve(&self, cidr: &str) {
        let spec = IpReservationSpec {
            reserved_cidrs: vec![cidr.parse().unwrap()],
        };
        self.store()
            .create(&IpReservation::new("reservation", spec))
            .await
            .unwrap();
    }

    pub async fn config(&self, change: impl FnOnce(&mut IpamConfigSpec)) {
        let store = self.store();
        match store.get::<IpamConfig>("default").await {
            Ok(mut config) => {
                change(&mut config.spec);
                store.update(&config).await.unwrap();
            }
            Err(_) => {
                let mut spec = IpamConfigSpec::default();
                change(&mut spec);
                store.create(&IpamConfig::new("default", spec)).await.unwrap();
            }
        }
    }

    pub async fn label(&self, node: &str, labels: &[(&str, &str)]) {
        let mut object = Node::new(node);
        let labels = labels.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string()));
        object.metadata.labels = labels.collect();
        if let Ok(stored) = self.store().get::<Node>(node).await {
            object.metadata.resource_version = stored.metadata.resource_version;
            self.store().update(&object).await.unwrap();
        } else {
            self.store().create(&object).await.unwrap();
        }
    }

    pub async fn blocks(&self) -> Vec<IpamBlock> {
        self.store().list().await.unwrap()
    }

    /// `cidr owner used` of every block.
    pub async fn summary(&self) -> Vec<String> {
        let describe = |block: IpamBlock| {
            let used = block.spec.allocations.iter().flatten().count();
            format!(
                "{} {} {used}",
                block.spec.cidr,
                block.spec.affinity.unwrap_or_default()
            )
        };
        self.blocks().await.into_iter().map(describe).collect()
    }

    pub async fn problems(&self) -> Vec<Problem> {
        problems(&self.store()).await.unwrap()
    }

    /// Fails where there is any problem; residue too, unless it is let pass.
    pub async fn assert_sound(&self, residue: bool, context: &str) {
        let found = self.problems().await;
        let wrong: Vec<String> = found
            .iter()
            .filter(|p| !(residue && p.is_residue()))
            .map(Problem::to_string)
            .collect();
        assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    }
}

pub fn request(handle: &str, ipv4: u32, ipv6: u32) -> AssignRequest {
    AssignRequest {
        handle: handle.to_string(),
        attributes: BTreeMap::from([("pod".to_string(), handle.to_string())]),
        ipv4,
        ipv6,
        ipv4_pools: Vec::new(),
        ipv6_pools: Vec::new(),
        use_: AllowedUse::Workload,
    }
}

pub async fn assign(allocator: &Allocator, handle: &str, ipv4: u32) -> Vec<IpAddr> {
    allocator
        .assign(request(handle, ipv4, 0))
        .await
        .unwrap()
        .addresses
}

pub async fn error(allocator: &Allocator, request: AssignRequest) -> String {
    allocator.assign(request).await.unwrap_err().to_string()
}
