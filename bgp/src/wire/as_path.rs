//! AS_PATH: the autonomous systems a route came through (RFC 4271 section 4.3, confederation segments RFC 5065).
//!
//! Numbers are always four octets here. How a path travels over a session that knows only two (RFC 6793) is the
//! business of the update codec; the merge of AS_PATH and AS4_PATH is [`AsPath::reconstruct`].

use std::fmt;

use crate::types::Asn;

/// What the numbers of a segment mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// AS_SET: one or more of them, in no order; the result of aggregation.
    Set,
    /// AS_SEQUENCE: all of them, the nearest first.
    Sequence,
    /// AS_CONFED_SEQUENCE: members of the local confederation, the nearest first.
    ConfedSequence,
    /// AS_CONFED_SET: members of the local confederation, in no order.
    ConfedSet,
}

impl SegmentKind {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

/// A run of AS numbers of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// What the numbers mean.
    pub kind: SegmentKind,
    /// The numbers; never empty in what was decoded.
    pub asns: Vec<Asn>,
}

impl Segment {
    /// How much the segment adds to the length of the path (RFC 4271 section 9.1.2.2, RFC 5065 section 5.3).
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }

    /// The front of the segment: as many of a sequence as `count`, all of any other kind.
    fn first(&self, count: usize) -> Segment {
        let asns = match self.kind {
            SegmentKind::Sequence => self.asns.iter().take(count).copied().collect(),
            _ => self.asns.clone(),
        };
        Segment {
            kind: self.kind,
            asns,
        }
    }
}

/// An AS path. Empty for a route that started in the local AS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsPath {
    /// The segments, the nearest first.
    pub segments: Vec<Segment>,
}

impl AsPath {
    /// The most numbers a segment can carry on the wire.
    pub const SEGMENT_MAX: usize = 255;

    /// The empty path.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A path of one AS_SEQUENCE, the nearest first; empty if there are no numbers.
    pub fn from_sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: Vec<Asn> = asns.into_iter().collect();
        if asns.is_empty() {
            return Self::default();
        }
        Self {
            segments: vec![Segment {
                kind: SegmentKind::Sequence,
                asns,
            }],
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The length that best path compares: a set counts once, confederation segments not at all.
    pub fn path_length(&self) -> usize {
        self.segments.iter().map(Segment::length).sum()
    }

    /// All numbers in all segments, the nearest first.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments
            .iter()
            .flat_map(|segment| segment.asns.iter().copied())
    }

    /// How often a number occurs: loop detection.
    pub fn count(&self, asn: Asn) -> usize {
        self.asns().filter(|&each| each == asn).count()
    }

    /// Whether a number occurs anywhere.
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|each| each == asn)
    }

    /// The AS the route was heard from, if the path (confederation segments aside) starts with a sequence.
    /// MED is comparable between paths with the same neighbour.
    pub fn neighbor(&self) -> Option<Asn> {
        let segment = self
            .segments
            .iter()
            .find(|segment| !segment.kind.is_confederation())?;
        if segment.kind == SegmentKind::Sequence {
            segment.asns.first().copied()
        } else {
            None
        }
    }

    /// The AS that originated the route, if the path ends with a sequence.
    pub fn origin(&self) -> Option<Asn> {
        let segment = self.segments.last()?;
        if segment.kind == SegmentKind::Sequence {
            segment.asns.last().copied()
        } else {
            None
        }
    }

    /// Whether there are confederation segments, which have no business outside the confederation.
    pub fn has_confederation_segments(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.kind.is_confederation())
    }

    /// The path with a number put in front `times` times (RFC 4271 section 5.1.2), in full segments of at most 255.
    #[must_use]
    pub fn prepend(&self, asn: Asn, times: usize) -> AsPath {
        let mut asns = vec![asn; times];
        let mut rest = self.segments.as_slice();
        if let Some((
            Segment {
                kind: SegmentKind::Sequence,
                asns: first,
            },
            others,
        )) = rest.split_first()
        {
            asns.extend(first);
            rest = others;
        }
        let sequences = asns.rchunks(Self::SEGMENT_MAX).rev();
        let mut segments: Vec<Segment> = sequences
            .map(|asns| Segment {
                kind: SegmentKind::Sequence,
                asns: asns.to_vec(),
            })
            .collect();
        segments.extend_from_slice(rest);
        AsPath { segments }
    }

    /// The path without confederation segments: what leaves the confederation, and what AS4_PATH may carry.
    #[must_use]
    pub fn without_confederation(&self) -> AsPath {
        let segments = self
            .segments
            .iter()
            .filter(|segment| !segment.kind.is_confederation());
        AsPath {
            segments: segments.cloned().collect(),
        }
    }

    /// The path that `self`, an AS_PATH from a speaker that knows only two octets, and the AS4_PATH beside it
    /// stand for: the leading part of the one and all of the other (RFC 6793 section 4.2.3).
    #[must_use]
    pub fn reconstruct(&self, as4_path: &AsPath) -> AsPath {
        let as4_path = as4_path.without_confederation();
        let Some(mut lead) = self.path_length().checked_sub(as4_path.path_length()) else {
            return self.clone();
        };
        let mut segments: Vec<Segment> = Vec::new();
        for segment in &self.segments {
            if lead == 0 && !segment.kind.is_confederation() {
                break;
            }
            segments.push(segment.first(lead));
            lead = lead.saturating_sub(segment.length());
        }
        segments.extend(as4_path.segments);
        join_sequences(segments)
    }
}

/// Merges neighbouring sequences that fit in one segment, as they were before one speaker cut them in two.
fn join_sequences(segments: Vec<Segment>) -> AsPath {
    let mut joined: Vec<Segment> = Vec::new();
    for segment in segments {
        match joined.last_mut() {
            Some(last)
                if last.kind == SegmentKind::Sequence
                    && segment.kind == SegmentKind::Sequence
                    && last.asns.len().saturating_add(segment.asns.len()) <= AsPath::SEGMENT_MAX =>
            {
                last.asns.extend(segment.asns);
            }
            _ => joined.push(segment),
        }
    }
    AsPath { segments: joined }
}

impl fmt::Display for AsPath {
    /// `64512 64513 {1,2} (65001 65002) [65003,65004]`: sequence, set, confederation sequence and set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let (open, separator, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(open)?;
            for (index, asn) in segment.asns.iter().enumerate() {
                if index > 0 {
                    f.write_str(separator)?;
                }
                asn.fmt(f)?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}
