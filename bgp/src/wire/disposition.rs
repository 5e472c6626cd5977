//! What becomes of an UPDATE with a malformed attribute: RFC 7606 as one table.
//!
//! Every attribute the speaker knows has one [`Rule`]: the flags it must have, what a malformed one leads to, and
//! whether an external peer may send it. Missing, duplicate and overrunning attributes are the same for all and
//! have constants here. What has no rule is unknown: kept if transitive, ignored if not.

use super::attribute::AttributeCode;
use super::negotiated::SessionType;

/// What to do about a malformed attribute; the larger is the stronger, and the strongest in an UPDATE wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// Go on as if the attribute were not there.
    AttributeDiscard,
    /// Withdraw every route the UPDATE announces.
    TreatAsWithdraw,
    /// End the session: the routes the UPDATE is about are not known.
    ///
    /// RFC 7606 would also allow to ignore the address family from then on. That leaves a session that looks well
    /// and whose routes rot; a reset is seen and mended.
    SessionReset,
}

use Disposition::{AttributeDiscard, SessionReset, TreatAsWithdraw};

/// The Optional bit of the attribute flags.
pub(super) const OPTIONAL: u8 = 0x80;
/// The Transitive bit.
pub(super) const TRANSITIVE: u8 = 0x40;
/// The Partial bit.
pub(super) const PARTIAL: u8 = 0x20;
/// The Extended Length bit.
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

/// A mandatory attribute is missing (RFC 7606 section 3.d).
pub(super) const MISSING: Disposition = TreatAsWithdraw;
/// An attribute other than MP_REACH_NLRI and MP_UNREACH_NLRI occurs again (section 3.g): the first one counts.
pub(super) const DUPLICATE: Disposition = AttributeDiscard;
/// An attribute exceeds the attribute list (section 4).
pub(super) const OVERRUN: Disposition = TreatAsWithdraw;
/// The Optional or Transitive bit is wrong (section 3.c).
pub(super) const WRONG_FLAGS: Disposition = TreatAsWithdraw;
/// An attribute came from a peer that may not send it (sections 7.5, 7.9 and 7.10; RFC 6793 section 3).
pub(super) const NOT_ALLOWED: Disposition = AttributeDiscard;

/// How one attribute is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) code: AttributeCode,
    /// The Optional and Transitive bits it must have.
    pub(super) flags: u8,
    /// What a wrong length or value leads to.
    pub(super) malformed: Disposition,
    /// Whether an external peer may send it; if not it is discarded unread.
    pub(super) external: bool,
}

const fn rule(code: AttributeCode, flags: u8, malformed: Disposition, external: bool) -> Rule {
    Rule {
        code,
        flags,
        malformed,
        external,
    }
}

const WELL_KNOWN: u8 = TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
const OPTIONAL_NON_TRANSITIVE: u8 = OPTIONAL;

/// Sections 7.1 to 7.14 of RFC 7606, and the RFCs of the attributes that came after it.
#[rustfmt::skip] // One line a rule.
const RULES: [Rule; 17] = [
    rule(AttributeCode::ORIGIN, WELL_KNOWN, TreatAsWithdraw, true),
    rule(AttributeCode::AS_PATH, WELL_KNOWN, TreatAsWithdraw, true),
    rule(AttributeCode::NEXT_HOP, WELL_KNOWN, TreatAsWithdraw, true),
    rule(AttributeCode::MULTI_EXIT_DISC, OPTIONAL_NON_TRANSITIVE, TreatAsWithdraw, true),
    rule(AttributeCode::LOCAL_PREF, WELL_KNOWN, TreatAsWithdraw, false),
    rule(AttributeCode::ATOMIC_AGGREGATE, WELL_KNOWN, AttributeDiscard, true),
    rule(AttributeCode::AGGREGATOR, OPTIONAL_TRANSITIVE, AttributeDiscard, true),
    rule(AttributeCode::COMMUNITIES, OPTIONAL_TRANSITIVE, TreatAsWithdraw, true),
    rule(AttributeCode::ORIGINATOR_ID, OPTIONAL_NON_TRANSITIVE, TreatAsWithdraw, false),
    rule(AttributeCode::CLUSTER_LIST, OPTIONAL_NON_TRANSITIVE, TreatAsWithdraw, false),
    rule(AttributeCode::MP_REACH_NLRI, OPTIONAL_NON_TRANSITIVE, SessionReset, true),
    rule(AttributeCode::MP_UNREACH_NLRI, OPTIONAL_NON_TRANSITIVE, SessionReset, true),
    rule(AttributeCode::EXTENDED_COMMUNITIES, OPTIONAL_TRANSITIVE, TreatAsWithdraw, true),
    // RFC 6793 section 6.
    rule(AttributeCode::AS4_PATH, OPTIONAL_TRANSITIVE, AttributeDiscard, true),
    rule(AttributeCode::AS4_AGGREGATOR, OPTIONAL_TRANSITIVE, AttributeDiscard, true),
    // RFC 8092 section 5.
    rule(AttributeCode::LARGE_COMMUNITY, OPTIONAL_TRANSITIVE, TreatAsWithdraw, true),
    // RFC 9234 section 5.
    rule(AttributeCode::ONLY_TO_CUSTOMER, OPTIONAL_TRANSITIVE, TreatAsWithdraw, true),
];

impl Rule {
    /// The rule for an attribute; `None` if the speaker does not know it.
    pub(super) fn of(code: AttributeCode) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.code == code)
    }

    /// Whether a peer of this kind may send it.
    pub(super) fn allowed_from(&self, session_type: SessionType) -> bool {
        self.external || session_type == SessionType::Ibgp
    }

    /// Whether the Optional and Transitive bits are as they should be.
    pub(super) fn flags_are_right(&self, flags: u8) -> bool {
        flags & (OPTIONAL | TRANSITIVE) == self.flags
    }
}
