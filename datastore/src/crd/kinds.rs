//! What a definition says beyond its type: columns for `kubectl get`, and rules between fields.
//!
//! Columns are JSON paths; a path yields one value, so a count of addresses is not to be had from one
//! (`routectl get` and `routectl ipam show` count). Columns with `wide` come with `-o wide`.
//!
//! Rules are CEL expressions, in force since Kubernetes 1.25. A string that is empty counts as absent, as Calico writes it.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::schema::{SchemaError, of_object};
use crate::{
    KindInfo, Resource,
    types::{
        BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, IpPool, IpReservation, IpamBlock, IpamConfig,
        IpamHandle,
    },
};

/// A definition's parts.
pub(super) struct Definition {
    pub(super) kind: &'static KindInfo,
    schema: fn() -> Value,
    columns: &'static [Column],
    rules: &'static [Rule],
    /// A field's pointer and its default.
    defaults: &'static [(&'static str, i64)],
}

/// A column: its header, its type, its path, and whether it comes only with `-o wide`.
struct Column {
    header: &'static str,
    value: &'static str,
    path: &'static str,
    wide: bool,
}

/// A CEL rule, with the path of properties of the place it stands at.
pub(super) struct Rule {
    pub(super) at: &'static [&'static str],
    pub(super) rule: &'static str,
    pub(super) message: &'static str,
}

const fn column(header: &'static str, value: &'static str, path: &'static str) -> Column {
    Column {
        header,
        value,
        path,
        wide: false,
    }
}

const fn wide(header: &'static str, value: &'static str, path: &'static str) -> Column {
    Column {
        wide: true,
        ..column(header, value, path)
    }
}

const fn rule(at: &'static [&'static str], rule: &'static str, message: &'static str) -> Rule {
    Rule { at, rule, message }
}

/// All definitions, ordered by file name.
pub(super) fn all() -> &'static [Definition] {
    &DEFINITIONS
}

static DEFINITIONS: [Definition; 9] = [
    Definition {
        columns: &[
            column("Mesh", "boolean", ".spec.nodeToNodeMeshEnabled"),
            column("ASN", "string", ".spec.asNumber"),
            column("Port", "integer", ".spec.listenPort"),
            wide("Bind", "string", ".spec.bindMode"),
            wide("Cluster IPs", "string", ".spec.serviceClusterIPs"),
            wide("External IPs", "string", ".spec.serviceExternalIPs"),
            wide("LB IPs", "string", ".spec.serviceLoadBalancerIPs"),
        ],
        rules: &[rule(
            &[],
            "self.metadata.name == 'default' || self.metadata.name.startsWith('node.')",
            "metadata.name: expected default, or node.NAME for one node",
        )],
        ..of::<BgpConfiguration>(&BgpConfiguration::KIND)
    },
    Definition {
        columns: &[
            wide("Export IPv4", "string", ".spec.exportV4"),
            wide("Import IPv4", "string", ".spec.importV4"),
            wide("Export IPv6", "string", ".spec.exportV6"),
            wide("Import IPv6", "string", ".spec.importV6"),
        ],
        ..of::<BgpFilter>(&BgpFilter::KIND)
    },
    Definition {
        columns: &[
            column("Peer", "string", ".spec.peerIP"),
            column("Peer selector", "string", ".spec.peerSelector"),
            column("ASN", "string", ".spec.asNumber"),
            column("Node", "string", ".spec.node"),
            column("Node selector", "string", ".spec.nodeSelector"),
            wide("Next hop", "string", ".spec.nextHopMode"),
            wide("Filters", "string", ".spec.filters"),
            wide("Password", "string", ".spec.password.secretKeyRef.name"),
        ],
        rules: &[
            rule(
                &["spec"],
                "!(has(self.node) && self.node != '' && has(self.nodeSelector) && self.nodeSelector != '')",
                "nodeSelector: not together with node: give one of them, or neither for every node",
            ),
            rule(
                &["spec"],
                "(has(self.peerIP) && self.peerIP != '') != (has(self.peerSelector) && self.peerSelector != '')",
                "peerIP: give peerIP, or peerSelector to choose nodes as peers, and not both",
            ),
            rule(
                &["spec"],
                "!(has(self.peerSelector) && self.peerSelector != '' && has(self.asNumber))",
                "asNumber: not together with peerSelector: nodes have their own AS numbers",
            ),
            rule(
                &["spec"],
                "!(has(self.keepOriginalNextHop) && self.keepOriginalNextHop && has(self.nextHopMode))",
                "keepOriginalNextHop: not together with nextHopMode: give nextHopMode: Keep alone",
            ),
        ],
        ..of::<BgpPeer>(&BgpPeer::KIND)
    },
    Definition {
        columns: &[
            column("CIDR", "string", ".spec.cidr"),
            column("Node", "string", ".spec.node"),
            column("State", "string", ".spec.state"),
            wide("Type", "string", ".spec.type"),
            wide("Deleted", "string", ".spec.deleted"),
        ],
        ..of::<BlockAffinity>(&BlockAffinity::KIND)
    },
    Definition {
        columns: &[
            column("CIDR", "string", ".spec.cidr"),
            column("Affinity", "string", ".spec.affinity"),
            column("Strict", "boolean", ".spec.strictAffinity"),
            wide("Sequence", "integer", ".spec.sequenceNumber"),
            wide("Deleted", "boolean", ".spec.deleted"),
            wide("Free ordinals", "string", ".spec.unallocated"),
        ],
        defaults: &[("/properties/spec/properties/sequenceNumber", 0)],
        ..of::<IpamBlock>(&IpamBlock::KIND)
    },
    Definition {
        columns: &[
            column("Strict", "boolean", ".spec.strictAffinity"),
            column("Auto allocate", "boolean", ".spec.autoAllocateBlocks"),
            column("Max blocks", "integer", ".spec.maxBlocksPerHost"),
            wide("Cooldown", "integer", ".spec.ipCooldownSeconds"),
        ],
        rules: &[rule(
            &[],
            "self.metadata.name == 'default'",
            "metadata.name: IPAMConfig has one object, and it is called default",
        )],
        ..of::<IpamConfig>(&IpamConfig::KIND)
    },
    Definition {
        columns: &[
            column("Handle", "string", ".spec.handleID"),
            column("Addresses", "string", ".spec.block"),
            wide("Deleted", "boolean", ".spec.deleted"),
        ],
        ..of::<IpamHandle>(&IpamHandle::KIND)
    },
    Definition {
        columns: &[
            column("CIDR", "string", ".spec.cidr"),
            column("Block size", "integer", ".spec.blockSize"),
            column("NAT", "boolean", ".spec.natOutgoing"),
            column("IPIP", "string", ".spec.ipipMode"),
            column("VXLAN", "string", ".spec.vxlanMode"),
            column("Disabled", "boolean", ".spec.disabled"),
            column("Nodes", "string", ".spec.nodeSelector"),
            wide("Namespaces", "string", ".spec.namespaceSelector"),
            wide("Uses", "string", ".spec.allowedUses"),
            wide("Assignment", "string", ".spec.assignmentMode"),
        ],
        rules: &[
            rule(
                &["spec", "cidr"],
                "self == oldSelf",
                "cidr: immutable: make a new pool",
            ),
            rule(
                &["spec"],
                "(has(self.blockSize) ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) == \
                 (has(oldSelf.blockSize) ? oldSelf.blockSize : (oldSelf.cidr.contains(':') ? 122 : 26))",
                "blockSize: immutable: make a new pool",
            ),
            rule(
                &["spec"],
                "!(has(self.ipipMode) && self.ipipMode != 'Never' && has(self.vxlanMode) && self.vxlanMode != 'Never')",
                "vxlanMode: not together with ipipMode: one of them is Never",
            ),
            rule(
                &["spec"],
                "!(has(self.ipipMode) && self.ipipMode != 'Never' && self.cidr.contains(':'))",
                "ipipMode: not for IPv6: expected Never (VXLAN carries IPv6)",
            ),
        ],
        ..of::<IpPool>(&IpPool::KIND)
    },
    Definition {
        columns: &[column("CIDRs", "string", ".spec.reservedCIDRs")],
        ..of::<IpReservation>(&IpReservation::KIND)
    },
];

const fn of<T: Resource>(kind: &'static KindInfo) -> Definition {
    Definition {
        kind,
        schema: json_schema::<T>,
        columns: &[],
        rules: &[],
        defaults: &[],
    }
}

fn json_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    settings.into_generator().into_root_schema_for::<T>().into()
}

impl Definition {
    /// The object's name: `ippools.crd.projectcalico.org`.
    fn name(&self) -> String {
        format!("{}.{}", self.kind.plural, self.kind.group)
    }

    /// As Calico's are called.
    pub(super) fn file_name(&self) -> String {
        format!("{}_{}.yaml", self.kind.group, self.kind.plural)
    }

    /// The rules, for those who try them.
    #[cfg(test)]
    pub(super) fn rules(&self) -> &'static [Rule] {
        self.rules
    }

    /// The CustomResourceDefinition.
    pub(super) fn to_json(&self) -> Result<Value, SchemaError> {
        let age = column("Age", "date", ".metadata.creationTimestamp");
        let columns: Vec<_> = self.columns.iter().chain([&age]).map(Column::to_json).collect();
        Ok(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name()},
            "spec": {
                "group": self.kind.group,
                "names": {
                    "kind": self.kind.kind,
                    "listKind": format!("{}List", self.kind.kind),
                    "plural": self.kind.plural,
                    "singular": self.kind.kind.to_lowercase(),
                },
                "scope": "Cluster",
                "versions": [{
                    "name": self.kind.version,
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": self.schema()?},
                    "additionalPrinterColumns": columns,
                }],
            },
        }))
    }

    fn schema(&self) -> Result<Value, SchemaError> {
        let mut schema = of_object(self.kind.kind, &(self.schema)())?;
        for (pointer, default) in self.defaults {
            if let Some(field) = schema.pointer_mut(pointer) {
                field["default"] = Value::from(*default);
            }
        }
        for Rule { at, rule, message } in self.rules {
            let pointer: String = at.iter().map(|field| format!("/properties/{field}")).collect();
            if let Some(place) = schema.pointer_mut(&pointer).and_then(Value::as_object_mut) {
                let rules = place
                    .entry("x-kubernetes-validations")
                    .or_insert_with(|| json!([]));
                if let Some(rules) = rules.as_array_mut() {
                    rules.push(json!({"rule": rule, "message": message}));
                }
            }
        }
        Ok(schema)
    }
}

impl Column {
    fn to_json(&self) -> Value {
        let mut column = json!({"name": self.header, "type": self.value, "jsonPath": self.path});
        if self.wide {
            column["priority"] = Value::from(1);
        }
        column
    }
}
