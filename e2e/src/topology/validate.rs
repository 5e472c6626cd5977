//! The rules of a topology.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Result, anyhow, bail, ensure};
use ipnet::IpNet;

use super::{NodeSpec, PoolSpec, RouterSpec, Subnet, Topology};

/// Leaves room for a suffix in the 15 characters that a link's name may have.
const MAX_NAME: usize = 12;
/// The namespaces that hold the bridges and the API server.
pub(crate) const RESERVED: [&str; 2] = ["switch", "apiserver"];
const MAX_PODS: usize = 32;

impl Topology {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.as_number != 0,
            "asNumber: 0 is reserved; give 1 to 4294967295"
        );
        self.check_subnets()?;
        let mut taken = Taken::default();
        ensure!(!self.nodes.is_empty(), "nodes: at least one is needed");
        for (index, node) in self.nodes.iter().enumerate() {
            self.check_node(&format!("nodes[{index}]"), node, &mut taken)?;
        }
        for (index, router) in self.routers.iter().enumerate() {
            self.check_router(&format!("routers[{index}]"), router, &mut taken)?;
        }
        self.check_pools()?;
        ensure!(
            self.pods_per_node <= MAX_PODS,
            "podsPerNode: {} is too many; give 0 to {MAX_PODS}",
            self.pods_per_node
        );
        Ok(())
    }

    fn check_subnets(&self) -> Result<()> {
        ensure!(!self.subnets.is_empty(), "subnets: at least one is needed");
        let mut names = BTreeSet::new();
        for (index, subnet) in self.subnets.iter().enumerate() {
            let field = format!("subnets[{index}]");
            check_name(&format!("{field}.name"), &subnet.name)?;
            ensure!(
                names.insert(&subnet.name),
                "{field}.name: \"{}\" is taken by another subnet",
                subnet.name
            );
            check_masked(&format!("{field}.cidr"), subnet.cidr.into())?;
            if let Some(cidr6) = subnet.cidr6 {
                check_masked(&format!("{field}.cidr6"), cidr6.into())?;
            }
            for other in self.subnets.iter().take(index) {
                ensure!(
                    !overlap(subnet.cidr.into(), other.cidr.into()),
                    "{field}.cidr: {} overlaps {} of subnet {}; give ranges apart from each other",
                    subnet.cidr,
                    other.cidr,
                    other.name
                );
            }
        }
        Ok(())
    }

    fn check_node(&self, field: &str, node: &NodeSpec, taken: &mut Taken) -> Result<()> {
        taken.name(&format!("{field}.name"), &node.name)?;
        let subnet = self.known_subnet(&format!("{field}.subnet"), &node.subnet)?;
        check_host(&format!("{field}.address"), node.address, subnet)?;
        taken.address(&format!("{field}.address"), node.address.into(), &node.name)?;
        if let Some(address6) = node.address6 {
            check_host6(&format!("{field}.address6"), address6.into(), subnet)?;
            taken.address(&format!("{field}.address6"), address6.into(), &node.name)?;
        }
        Ok(())
    }

    fn check_router(&self, field: &str, router: &RouterSpec, taken: &mut Taken) -> Result<()> {
        taken.name(&format!("{field}.name"), &router.name)?;
        ensure!(
            router.as_number != 0 && router.as_number != self.as_number,
            "{field}.asNumber: {} does not work for a router; give one that differs from the nodes' ({})",
            router.as_number,
            self.as_number
        );
        ensure!(
            !router.addresses.is_empty(),
            "{field}.addresses: at least one is needed, as `{}: <address>`",
            self.subnets.first().map_or("subnet", |subnet| &subnet.name)
        );
        for (name, address) in &router.addresses {
            let field = format!("{field}.addresses.{name}");
            let subnet = self.known_subnet(&field, name)?;
            check_host(&field, *address, subnet)?;
            taken.address(&field, (*address).into(), &router.name)?;
        }
        for (name, address) in &router.addresses6 {
            let field = format!("{field}.addresses6.{name}");
            let subnet = self.known_subnet(&field, name)?;
            check_host6(&field, (*address).into(), subnet)?;
            taken.address(&field, (*address).into(), &router.name)?;
        }
        for (index, announcement) in router.announces.iter().enumerate() {
            let field = format!("{field}.announces[{index}]");
            check_masked(&format!("{field}.prefix"), announcement.prefix)?;
            if let Some(address) = announcement.address {
                ensure!(
                    announcement.prefix.contains(&address),
                    "{field}.address: {address} is not inside {}; give an address inside it",
                    announcement.prefix
                );
            }
        }
        Ok(())
    }

    fn check_pools(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for (index, pool) in self.pools.iter().enumerate() {
            let field = format!("pools[{index}]");
            ensure!(
                names.insert(&pool.name),
                "{field}.name: \"{}\" is taken by another pool",
                pool.name
            );
            check_pool(&field, pool)?;
            for subnet in &self.subnets {
                ensure!(
                    !overlap(pool.cidr, subnet.cidr.into()),
                    "{field}.cidr: {} overlaps subnet {} ({}); give a range of its own",
                    pool.cidr,
                    subnet.name,
                    subnet.cidr
                );
            }
        }
        Ok(())
    }

    fn known_subnet(&self, field: &str, name: &str) -> Result<&Subnet> {
        self.subnet(name).ok_or_else(|| {
            let known: Vec<_> = self.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
            anyhow!(
                "{field}: there is no subnet \"{name}\"; give one of: {}",
                known.join(", ")
            )
        })
    }
}

/// Names and addresses that are in use already.
#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    addresses: BTreeMap<IpAddr, String>,
}

impl Taken {
    fn name(&mut self, field: &str, name: &str) -> Result<()> {
        check_name(field, name)?;
        ensure!(
            !RESERVED.contains(&name),
            "{field}: \"{name}\" is a part of every lab; give another name"
        );
        ensure!(
            self.names.insert(name.to_string()),
            "{field}: \"{name}\" is taken by another node or router"
        );
        Ok(())
    }

    fn address(&mut self, field: &str, address: IpAddr, owner: &str) -> Result<()> {
        match self.addresses.insert(address, owner.to_string()) {
            None => Ok(()),
            Some(other) => bail!("{field}: {address} is taken by {other}"),
        }
    }
}

/// Accepts what can be part of the name of a link, a namespace and a Kubernetes object.
pub(crate) fn check_name(field: &str, name: &str) -> Result<()> {
    let fits = name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    ensure!(
        fits,
        "{field}: \"{name}\" does not fit; give a lower-case letter, then up to {} letters, digits or '-', \
         not '-' last",
        MAX_NAME - 1
    );
    Ok(())
}

fn check_masked(field: &str, cidr: IpNet) -> Result<()> {
    ensure!(
        cidr == cidr.trunc(),
        "{field}: {cidr} has bits set behind its prefix; give {}",
        cidr.trunc()
    );
    Ok(())
}

fn check_host(field: &str, address: Ipv4Addr, subnet: &Subnet) -> Result<()> {
    let range = subnet.cidr;
    ensure!(
        range.contains(&address) && address != range.network() && address != range.broadcast(),
        "{field}: {address} is no host's address in subnet {} ({range}); give one inside it",
        subnet.name
    );
    Ok(())
}

fn check_host6(field: &str, address: IpAddr, subnet: &Subnet) -> Result<()> {
    let Some(range) = subnet.cidr6 else {
        bail!(
            "{field}: subnet {} has no IPv6 range; give it one in `cidr6`",
            subnet.name
        );
    };
    ensure!(
        IpNet::from(range).contains(&address) && address != IpAddr::from(range.network()),
        "{field}: {address} is no host's address in subnet {} ({range}); give one inside it",
        subnet.name
    );
    Ok(())
}

fn check_pool(field: &str, pool: &PoolSpec) -> Result<()> {
    check_masked(&format!("{field}.cidr"), pool.cidr)?;
    let (lowest, highest, default) = match pool.cidr {
        IpNet::V4(_) => (20, 32, 26),
        IpNet::V6(_) => (116, 128, 122),
    };
    let size = pool.block_size.unwrap_or(default);
    let lowest = lowest.max(pool.cidr.prefix_len());
    ensure!(
        (lowest..=highest).contains(&size),
        "{field}.blockSize: {size} does not fit {}; give {lowest} to {highest}",
        pool.cidr
    );
    for (name, mode) in [("ipipMode", &pool.ipip_mode), ("vxlanMode", &pool.vxlan_mode)] {
        let known = ["Never", "Always", "CrossSubnet"];
        ensure!(
            mode.as_deref().is_none_or(|mode| known.contains(&mode)),
            "{field}.{name}: \"{}\" is unknown; give one of: {}",
            mode.as_deref().unwrap_or_default(),
            known.join(", ")
        );
    }
    Ok(())
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
