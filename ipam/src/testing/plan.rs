//! What is to happen to a client's calls.

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `list`
    List,
    /// `get`
    Get,
    /// `create`
    Create,
    /// `update`
    Update,
    /// `delete`
    Delete,
}

impl Verb {
    /// True where the call may change something.
    pub fn is_write(self) -> bool {
        matches!(self, Verb::Create | Verb::Update | Verb::Delete)
    }
}

/// A call of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counts the client's calls, from 0.
    pub number: u64,
    /// What it does.
    pub verb: Verb,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its name; empty for a list.
    pub name: String,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out.
    None,
    /// An update or delete finds that somebody else was faster; other calls are carried out.
    Conflict,
    /// It is not carried out, and the caller is told that the datastore is unavailable.
    Unavailable,
    /// It is carried out, and the caller is told that the datastore is unavailable.
    LostReply,
    /// It is carried out twice, as by a layer that repeats what it had no reply to: the caller sees the second result.
    Repeated,
    /// It is carried out after others have had so many turns.
    Pause(u32),
    /// It waits for [`Client::go`](super::Client::go) and is then carried out.
    Hold,
    /// The process dies before.
    DieBefore,
    /// The process dies after it was carried out.
    DieAfter,
}

/// Decides the fate of each call.
pub type Plan = Box<dyn FnMut(&Call) -> Fault + Send>;

/// A small generator of pseudo-random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// True `n` times in a thousand.
    pub fn per_mille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }
}

/// How often what happens, in thousandths of the calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// [`Fault::Conflict`]
    pub conflict: u64,
    /// [`Fault::Unavailable`]
    pub unavailable: u64,
    /// [`Fault::LostReply`]
    pub lost_reply: u64,
    /// [`Fault::Repeated`]
    pub repeated: u64,
    /// [`Fault::Pause`]
    pub pause: u64,
    /// [`Fault::DieBefore`] or [`Fault::DieAfter`]
    pub die: u64,
}

/// A plan of chance.
pub fn random(seed: u64, odds: Odds) -> Plan {
    let mut rng = Rng::new(seed);
    Box::new(move |_| {
        let draw = rng.below(1000);
        let turns = u32::try_from(1 + rng.below(12)).unwrap_or(1);
        let death = if rng.per_mille(500) {
            Fault::DieBefore
        } else {
            Fault::DieAfter
        };
        let table = [
            (odds.conflict, Fault::Conflict),
            (odds.unavailable, Fault::Unavailable),
            (odds.lost_reply, Fault::LostReply),
            (odds.repeated, Fault::Repeated),
            (odds.pause, Fault::Pause(turns)),
            (odds.die, death),
        ];
        let mut upper = 0;
        for (odds, fault) in table {
            upper += odds;
            if draw < upper {
                return fault;
            }
        }
        Fault::None
    })
}

/// A plan that gives one call a fate and leaves the others alone.
pub fn crash_at(number: u64, fault: Fault) -> Plan {
    Box::new(move |call| if call.number == number { fault } else { Fault::None })
}
