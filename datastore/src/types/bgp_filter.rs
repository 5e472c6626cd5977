//! `BGPFilter`: which routes a peer gives and gets.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rules, values::AsNumber};
use crate::{FieldError, Metadata};

/// Which routes a peer gives and gets: the first rule that matches decides, and what none matches is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BgpFilter {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `BGPFilter`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The rules.
    pub spec: BgpFilterSpec,
}

super::calico_resource!(BgpFilter, BgpFilterSpec, "BGPFilter", "bgpfilters", validate: validate);

/// Spec of a [`BgpFilter`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// For IPv4 routes to the peer.
    #[serde(rename = "exportV4", skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<FilterRule>,
    /// For IPv4 routes from the peer.
    #[serde(rename = "importV4", skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<FilterRule>,
    /// For IPv6 routes to the peer.
    #[serde(rename = "exportV6", skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<FilterRule>,
    /// For IPv6 routes from the peer.
    #[serde(rename = "importV6", skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<FilterRule>,
}

/// A rule: it matches where all that is given matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilterRule {
    /// Compared with the prefix by `matchOperator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "cidr"))]
    pub cidr: Option<IpNet>,
    /// How `cidr` is compared; required with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Lengths of the prefix; only with `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Only routes that came from a peer; in export rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<FilterSource>,
    /// Only routes out of this interface; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Only with peers of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<FilterPeerType>,
    /// Only routes with this community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// Only routes whose AS_PATH begins so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<AsNumber>,
    /// Only routes of this kernel metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483646))]
    pub priority: Option<u32>,
    /// What happens to a route that matches.
    pub action: FilterAction,
    /// Changes to it, in order; only with Accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub operations: Vec<FilterOperation>,
}

/// How a prefix is compared with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MatchOperator {
    /// It is the range.
    Equal,
    /// It is not.
    NotEqual,
    /// It is the range or within it.
    In,
    /// It is neither.
    NotIn,
}

/// Lengths of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixLength {
    /// At least; default: the range's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub min: Option<u8>,
    /// At most; default: that of an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub max: Option<u8>,
}

/// Where a route came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterSource {
    /// From a peer.
    RemotePeers,
}

/// A type of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterPeerType {
    /// Of another AS.
    #[serde(rename = "eBGP")]
    External,
    /// Of our own.
    #[serde(rename = "iBGP")]
    Internal,
}

/// Communities to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommunityMatch {
    /// One community.
    #[schemars(
        length(min = 1, max = 1),
        inner(regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))
    )]
    pub values: Vec<String>,
}

/// What happens to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterAction {
    /// It passes.
    Accept,
    /// It does not.
    Reject,
}

/// A change to a route: one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterOperation {
    /// Adds a community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the AS_PATH.
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the kernel metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// Adds a community.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddCommunity {
    /// `65000:100` or `65000:10:20`.
    #[schemars(regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))]
    pub value: String,
}

/// Puts AS numbers before the AS_PATH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrependAsPath {
    /// In the order they will be in.
    #[schemars(length(min = 1, max = 10))]
    pub prefix: Vec<AsNumber>,
}

/// Sets the kernel metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetPriority {
    /// 1 to 2147483646.
    #[schemars(range(min = 1, max = 2147483646))]
    pub value: u32,
}

/// Highest kernel metric that LOCAL_PREF can carry.
const HIGHEST_PRIORITY: u32 = 2_147_483_646;

fn validate(object: &BgpFilter) -> Result<(), FieldError> {
    let spec = &object.spec;
    let lists = [
        ("exportV4", &spec.export_v4, 32, false),
        ("importV4", &spec.import_v4, 32, true),
        ("exportV6", &spec.export_v6, 128, false),
        ("importV6", &spec.import_v6, 128, true),
    ];
    for (list, filter_rules, longest, import) in lists {
        for (at, rule) in filter_rules.iter().enumerate() {
            let field = format!("spec.{list}[{at}]");
            rule.validate_prefix(&field, longest)?;
            rule.validate_route(&field, import)?;
            rule.validate_operations(&field)?;
        }
    }
    Ok(())
}

impl FilterRule {
    fn validate_prefix(&self, field: &str, longest: u8) -> Result<(), FieldError> {
        if let Some(cidr) = &self.cidr {
            let family = if longest == 32 { "IPv4" } else { "IPv6" };
            rules::rule(
                cidr.max_prefix_len() == longest,
                format!("{field}.cidr"),
                format_args!("{cidr} is of the other family: expected an {family} range"),
            )?;
            rules::masked(format!("{field}.cidr"), cidr)?;
        }
        rules::rule(
            self.cidr.is_some() == self.match_operator.is_some(),
            format!("{field}.matchOperator"),
            "expected with cidr, and only with it: Equal, NotEqual, In or NotIn",
        )?;
        let Some(length) = self.prefix_length else {
            return Ok(());
        };
        let field = format!("{field}.prefixLength");
        rules::rule(self.cidr.is_some(), field.as_str(), "only with cidr")?;
        let (min, max) = (length.min.unwrap_or(0), length.max.unwrap_or(longest));
        rules::rule(
            min <= max && max <= longest,
            field,
            format_args!(
                "{min} to {max}: expected min and max within 0 to {longest}, and min no more than max"
            ),
        )
    }

    fn validate_route(&self, field: &str, import: bool) -> Result<(), FieldError> {
        rules::rule(
            self.source.is_none() || !import,
            format!("{field}.source"),
            "not in an import rule: all its routes are from peers",
        )?;
        if let Some(communities) = &self.communities {
            let field = format!("{field}.communities.values");
            let [value] = communities.values.as_slice() else {
                let message = format!("{} values: expected one", communities.values.len());
                return Err(FieldError::new(field, message));
            };
            rules::community(field, value)?;
        }
        priority(format!("{field}.priority"), self.priority)
    }

    fn validate_operations(&self, field: &str) -> Result<(), FieldError> {
        rules::rule(
            self.operations.is_empty() || self.action == FilterAction::Accept,
            format!("{field}.operations"),
            "only with action: Accept",
        )?;
        rules::rule(
            self.operations.len() <= 10,
            format!("{field}.operations"),
            format_args!("{} operations: expected at most 10", self.operations.len()),
        )?;
        for (at, operation) in self.operations.iter().enumerate() {
            operation.validate(&format!("{field}.operations[{at}]"))?;
        }
        Ok(())
    }
}

impl FilterOperation {
    fn validate(&self, field: &str) -> Result<(), FieldError> {
        let given = [
            self.add_community.is_some(),
            self.prepend_as_path.is_some(),
            self.set_priority.is_some(),
        ];
        rules::rule(
            given.iter().filter(|given| **given).count() == 1,
            field,
            "expected exactly one of addCommunity, prependASPath and setPriority",
        )?;
        if let Some(add) = &self.add_community {
            rules::community(format!("{field}.addCommunity.value"), &add.value)?;
        }
        if let Some(prepend) = &self.prepend_as_path {
            let count = prepend.prefix.len();
            rules::rule(
                (1..=10).contains(&count),
                format!("{field}.prependASPath.prefix"),
                format_args!("{count} AS numbers: expected 1 to 10"),
            )?;
        }
        let value = self.set_priority.as_ref().map(|set| set.value);
        priority(format!("{field}.setPriority.value"), value)
    }
}

fn priority(field: String, value: Option<u32>) -> Result<(), FieldError> {
    rules::rule(
        value.is_none_or(|value| (1..=HIGHEST_PRIORITY).contains(&value)),
        field,
        format_args!("expected 1 to {HIGHEST_PRIORITY}"),
    )
}
