//! The decision process (RFC 4271 section 9.1.2, RFC 4456 section 9).
//!
//! Paths are eliminated step by step from the whole set, never compared pair by pair: MED is only comparable
//! between paths of one neighbouring AS, so pairwise comparison would depend on the order of arrival. Every path
//! leaves with a verdict that names the step that decided about it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Asn, RouterId};
use crate::wire::{Attributes, Origin};

/// LOCAL_PREF of a path that carries none.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// A step of the decision process, in the order they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DecisionStep {
    /// A route we originate beats any learned one.
    LocalOrigin,
    /// The highest LOCAL_PREF.
    LocalPref,
    /// The shortest AS_PATH.
    AsPathLength,
    /// The lowest ORIGIN: IGP, then EGP, then incomplete.
    Origin,
    /// The lowest MULTI_EXIT_DISC among paths of the same neighbouring AS.
    Med,
    /// Learned from another AS rather than within our own.
    ExternalPeer,
    /// The nearest next hop.
    NextHopMetric,
    /// The lowest BGP identifier (ORIGINATOR_ID where there is one).
    RouterId,
    /// The shortest CLUSTER_LIST.
    ClusterList,
    /// The lowest peer address.
    PeerAddress,
}

impl fmt::Display for DecisionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalOrigin => "originated here",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MED",
            Self::ExternalPeer => "external over internal peer",
            Self::NextHopMetric => "nearer next hop",
            Self::RouterId => "lower router id",
            Self::ClusterList => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
        })
    }
}

/// Why a path takes no part in the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ineligible {
    /// Our own AS is in its AS_PATH.
    AsLoop,
    /// We are its ORIGINATOR_ID.
    OriginatorLoop,
    /// Our cluster is in its CLUSTER_LIST.
    ClusterLoop,
    /// Its next hop is one of our own addresses.
    NextHopIsSelf,
    /// Its next hop cannot be reached.
    NextHopUnreachable,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsLoop => "our AS is in the AS_PATH",
            Self::OriginatorLoop => "we are the ORIGINATOR_ID",
            Self::ClusterLoop => "our cluster is in the CLUSTER_LIST",
            Self::NextHopIsSelf => "the next hop is ourselves",
            Self::NextHopUnreachable => "the next hop is unreachable",
        })
    }
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is the best path, and this step set it apart from the runner-up; `null` if it is the only one.
    Best(Option<DecisionStep>),
    /// This step preferred another path.
    Lost(DecisionStep),
    /// It could not take part.
    Ineligible(Ineligible),
}

impl Verdict {
    /// Whether this is the best path.
    pub fn is_best(self) -> bool {
        matches!(self, Self::Best(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best(None) => f.write_str("best: the only path"),
            Self::Best(Some(step)) => write!(f, "best: {step}"),
            Self::Lost(step) => write!(f, "not best: another path has {}", Advantage(*step)),
            Self::Ineligible(why) => write!(f, "not usable: {why}"),
        }
    }
}

/// A step as what the better path has.
struct Advantage(DecisionStep);

impl fmt::Display for Advantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DecisionStep::LocalOrigin => f.write_str("local origin"),
            DecisionStep::ExternalPeer => f.write_str("an external peer"),
            step => write!(f, "a {step}"),
        }
    }
}

/// What the decision looks at in one path.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    pub(crate) attributes: &'a Attributes,
    /// None for a route we originate.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) external: bool,
    pub(crate) next_hop_metric: u32,
    /// The peer's BGP identifier.
    pub(crate) router_id: RouterId,
    pub(crate) ineligible: Option<Ineligible>,
}

impl Candidate<'_> {
    fn local_pref(&self) -> u32 {
        self.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
    }

    fn med(&self) -> u32 {
        self.attributes.med.unwrap_or(0)
    }

    fn neighbor(&self) -> Option<Asn> {
        self.attributes.as_path.neighbor()
    }

    fn originator(&self) -> RouterId {
        self.attributes.originator_id.unwrap_or(self.router_id)
    }
}

/// Chooses the best of `candidates`; the verdicts are in their order.
pub(crate) fn decide(candidates: &[Candidate<'_>]) -> Vec<Verdict> {
    let mut election = Election::new(candidates);
    election.keep_min(DecisionStep::LocalOrigin, |c| c.peer.is_some());
    election.keep_min(DecisionStep::LocalPref, |c| u32::MAX - c.local_pref());
    election.keep_min(DecisionStep::AsPathLength, |c| c.attributes.as_path.path_length());
    election.keep_min(DecisionStep::Origin, |c| origin_rank(c.attributes.origin));
    election.keep_lowest_med();
    election.keep_min(DecisionStep::ExternalPeer, |c| !c.external);
    election.keep_min(DecisionStep::NextHopMetric, |c| c.next_hop_metric);
    election.keep_min(DecisionStep::RouterId, |c| c.originator().to_u32());
    election.keep_min(DecisionStep::ClusterList, |c| c.attributes.cluster_list.len());
    election.keep_min(DecisionStep::PeerAddress, |c| c.peer);
    election.finish()
}

fn origin_rank(origin: Origin) -> u8 {
    match origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    }
}

/// Paths still in the running, and the verdicts of those that are not.
struct Election<'a> {
    candidates: &'a [Candidate<'a>],
    verdicts: Vec<Option<Verdict>>,
    /// The step that last eliminated somebody: what set the winner apart.
    last: Option<DecisionStep>,
}

impl<'a> Election<'a> {
    fn new(candidates: &'a [Candidate<'a>]) -> Self {
        let verdicts = candidates
            .iter()
            .map(|c| c.ineligible.map(Verdict::Ineligible))
            .collect();
        Self {
            candidates,
            verdicts,
            last: None,
        }
    }

    fn keep_min<K: Ord>(&mut self, step: DecisionStep, key: impl Fn(&Candidate<'_>) -> K) {
        let Some(least) = self.running().map(&key).min() else {
            return;
        };
        self.eliminate(step, |candidate| key(candidate) > least);
    }

    fn keep_lowest_med(&mut self) {
        let mut least: HashMap<Option<Asn>, u32> = HashMap::new();
        for candidate in self.running() {
            let med = least.entry(candidate.neighbor()).or_insert(u32::MAX);
            *med = candidate.med().min(*med);
        }
        self.eliminate(DecisionStep::Med, |candidate| {
            least
                .get(&candidate.neighbor())
                .is_some_and(|least| candidate.med() > *least)
        });
    }

    fn running(&self) -> impl Iterator<Item = &Candidate<'a>> {
        self.candidates
            .iter()
            .zip(&self.verdicts)
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(c, _)| c)
    }

    fn eliminate(&mut self, step: DecisionStep, loses: impl Fn(&Candidate<'_>) -> bool) {
        for (candidate, verdict) in self.candidates.iter().zip(&mut self.verdicts) {
            if verdict.is_none() && loses(candidate) {
                *verdict = Some(Verdict::Lost(step));
                self.last = Some(step);
            }
        }
    }

    fn finish(self) -> Vec<Verdict> {
        let best = Verdict::Best(self.last);
        self.verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or(best))
            .collect()
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
