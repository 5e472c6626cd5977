//! Calico's selector language over labels, as in `nodeSelector` and `peerSelector`.
//!
//! ```text
//! selector  = empty | or                    an empty selector matches everything
//! or        = and { "||" and }
//! and       = operand { "&&" operand }
//! operand   = { "!" } ( "(" or ")" | "all()" | "global()" | "has(" label ")" | label test )
//! test      = "==" string | "!=" string | "in" set | "not in" set
//!           | "contains" string | "starts with" string | "ends with" string
//! set       = "{" [ string { "," string } ] "}"
//! string    = 'text' | "text"               no escapes: a quote of the other sort goes inside
//! ```
//!
//! `!=` and `not in` match where the label is absent; every other test needs the label. `global()` matches what
//! is in no namespace, that is, what does not bear the label `projectcalico.org/namespace`.
//!
//! Nesting is bounded ([`MAX_DEPTH`]): a selector comes from whoever may write a manifest.

mod parse;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, str::FromStr};

/// How deep parentheses and negations may nest.
pub const MAX_DEPTH: usize = 64;

/// The label that an object in a namespace bears in Calico's datastore.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// A parsed selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    root: Node,
}

/// A selector that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: expected {expected}, found {found}")]
pub struct SelectorError {
    /// In characters, from 1.
    pub position: usize,
    /// What would have been right there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// A node of the syntax tree. Chains of one operator are flat, so that only nesting makes it deep.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    All,
    Global,
    Has(String),
    Label(String, Test),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

/// A test on a label's value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Equal(String),
    NotEqual(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
}

impl Selector {
    /// The selector that matches everything.
    pub fn all() -> Self {
        Selector { root: Node::All }
    }

    /// True where an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.root.matches(labels)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(|root| Selector { root })
    }
}

impl Node {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Node::All => true,
            Node::Global => !labels.contains_key(NAMESPACE_LABEL),
            Node::Has(label) => labels.contains_key(label),
            Node::Label(label, test) => test.holds(labels.get(label).map(String::as_str)),
            Node::Not(node) => !node.matches(labels),
            Node::And(nodes) => nodes.iter().all(|node| node.matches(labels)),
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(labels)),
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Test::NotEqual(_) | Test::NotIn(_));
        };
        match self {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::In(set) => set.iter().any(|wanted| wanted == value),
            Test::NotIn(set) => !set.iter().any(|unwanted| unwanted == value),
            Test::Contains(part) => value.contains(part.as_str()),
            Test::StartsWith(prefix) => value.starts_with(prefix.as_str()),
            Test::EndsWith(suffix) => value.ends_with(suffix.as_str()),
        }
    }
}
