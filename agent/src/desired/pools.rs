//! What a pool asks for and this version does not do: said by name, never silently left out.

use std::collections::BTreeSet;

use datastore::types::{EncapMode, IpPool};

use crate::{admin::types::Problem, snapshot::Snapshot};

/// Reports every such field of every pool in use.
pub fn report_unsupported(snapshot: &Snapshot, problems: &mut BTreeSet<Problem>) {
    for pool in snapshot.pools.all.values().filter(|pool| !pool.spec.disabled) {
        problems.extend(unsupported(pool).into_iter().map(|message| {
            let about = format!("IPPool \"{}\"", pool.metadata.name);
            Problem::new(about, message)
        }));
    }
}

fn unsupported(pool: &IpPool) -> Vec<&'static str> {
    let spec = &pool.spec;
    let fields = [
        (
            spec.nat_outgoing,
            "spec.natOutgoing is not supported by this version: what pods send leaves with their own addresses",
        ),
        (
            spec.vxlan_mode != EncapMode::Never,
            "spec.vxlanMode is not supported by this version: packets between nodes are sent as they are",
        ),
    ];
    fields
        .into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, message)| message)
        .collect()
}
