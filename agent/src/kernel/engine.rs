//! The task that owns the sockets and all state of the kernel side.
//!
//! It waits for anything to happen, then takes a turn: answers first, then events (which are then at least as new as the
//! answers, see [`super::netlink`]), then outcomes, wishes and timers; and last, from that picture, it sends what is to
//! be done, many requests a datagram. Nothing else changes state, so what a turn decides is never out of date by more
//! than what happens during the turn.
//!
//! While the kernel is read as a whole, events stay queued and routes are left alone; commands are carried out.

mod events;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use self::requests::Request;
use super::{
    Command, Desired,
    codec::{EVENT_GROUPS, Flagged},
    dump::Dump,
    netlink::{Received, Socket},
    next_hops::NextHops,
    plan::{Plan, Trust},
    route::RouteKey,
    types::{Error, KernelStatus, Links, NextHop, Refusal, Settings},
};

/// How soon the kernel is read again where the picture may be wrong, and how often at most.
const RESYNC_DELAY: Duration = Duration::from_millis(100);

/// How soon a refused reading is tried again.
const RESYNC_RETRY: Duration = Duration::from_secs(1);

/// How soon refused routes are tried again where the surroundings changed, and how often at most.
const HURRY_DELAY: Duration = Duration::from_millis(250);

/// How often the status is published while much is going on.
const PUBLISH_PAUSE: Duration = Duration::from_millis(250);

/// The ends of the channels to the handles that the engine holds.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) desired: watch::Receiver<Desired>,
    pub(super) tracked: watch::Receiver<BTreeSet<IpAddr>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<(u64, Arc<KernelStatus>)>,
    pub(super) links: watch::Sender<Arc<Links>>,
    pub(super) next_hops: watch::Sender<Arc<BTreeMap<IpAddr, NextHop>>>,
}

/// When the kernel is read as a whole.
#[derive(Debug)]
struct Resync {
    /// Because the picture may be wrong.
    wanted: Option<Instant>,
    /// Because it is time.
    periodic: Instant,
    /// The reading under way.
    dump: Option<Dump>,
    /// A route's outcome depends on it: do not call the plan settled.
    awaited: bool,
    done: u64,
}

#[derive(Debug)]
pub(super) struct Engine {
    settings: Settings,
    requests: Socket,
    events: Socket,
    channels: Channels,
    /// Tells the starter that the first reading is done, or why it failed.
    started: Option<oneshot::Sender<Result<(), Error>>>,
    plan: Plan,
    links: Links,
    links_changed: bool,
    next_hops: NextHops,
    resync: Resync,
    /// Requests that go before changes of routes.
    outbox: VecDeque<(Flagged, Request)>,
    in_flight: HashMap<u32, Request>,
    sequence: u32,
    /// Answered changes, to be judged when the events have been read.
    outcomes: Vec<(RouteKey, Result<(), Refusal>)>,
    backlog: VecDeque<Command>,
    /// The wishes that the plan holds.
    generation: u64,
    hurry: Option<Instant>,
    overruns: u64,
    published: Instant,
    repairs_told: u64,
}

impl Engine {
    /// Opens the sockets. `started` is told when the first reading is done.
    pub(super) fn new(
        settings: Settings,
        channels: Channels,
        started: oneshot::Sender<Result<(), Error>>,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let events = Socket::events(&EVENT_GROUPS, settings.event_buffer)?;
        Ok(Engine {
            requests: Socket::requests()?,
            events,
            channels,
            started: Some(started),
            plan: Plan::new(settings.protocol),
            links: Links::default(),
            links_changed: false,
            next_hops: NextHops::default(),
            resync: Resync {
                wanted: Some(now),
                periodic: now,
                dump: None,
                awaited: false,
                done: 0,
            },
            outbox: VecDeque::new(),
            in_flight: HashMap::new(),
            sequence: 0,
            outcomes: Vec::new(),
            backlog: VecDeque::new(),
            generation: 0,
            hurry: None,
            overruns: 0,
            published: now,
            repairs_told: 0,
            settings,
        })
    }

    /// Works until the last handle is gone or a socket breaks.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.work().await {
            match self.started.take() {
                Some(started) => drop(started.send(Err(error))),
                None => tracing::error!(%error, "the kernel task ends"),
            }
        }
    }

    async fn work(&mut self) -> Result<(), Error> {
        self.turn().await?;
        while self.wait().await? {
            self.turn().await?;
        }
        Ok(())
    }

    /// Waits until something happens; false when the last handle is gone.
    async fn wait(&mut self) -> Result<bool, Error> {
        let deadline = self.deadline();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => future::pending().await,
            }
        };
        let listening = self.resync.dump.is_none();
        tokio::select! {
            ready = self.requests.readable() => ready?,
            ready = self.events.readable(), if listening => ready?,
            alive = self.channels.desired.changed() => return Ok(alive.is_ok()),
            alive = self.channels.tracked.changed() => {
                let tracked = self.channels.tracked.borrow_and_update().clone();
                self.next_hops.set_tracked(tracked, Instant::now());
                return Ok(alive.is_ok());
            }
            command = self.channels.commands.recv() => match command {
                Some(command) => self.backlog.push_back(command),
                None => return Ok(false),
            },
            () = timer => {}
        }
        Ok(true)
    }

    fn deadline(&self) -> Option<Instant> {
        let resync = match self.resync.dump {
            Some(_) => None,
            None => Some(
                self.resync
                    .wanted
                    .map_or(self.resync.periodic, |at| at.min(self.resync.periodic)),
            ),
        };
        let publish = (!self.is_settled()).then(|| self.published + PUBLISH_PAUSE);
        [
            resync,
            publish,
            self.plan.next_due(),
            self.next_hops.next_due(),
            self.hurry,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn turn(&mut self) -> Result<(), Error> {
        self.read_answers()?;
        if self.resync.dump.is_none() {
            self.read_events()?;
        }
        let now = Instant::now();
        for (key, outcome) in std::mem::take(&mut self.outcomes) {
            if self.plan.handle_outcome(key, outcome, now) == Trust::Lost {
                self.resync.awaited = true;
                self.want_resync(now);
            }
        }
        self.take_desired();
        while let Some(command) = self.backlog.pop_front() {
            self.handle_command(command);
        }
        self.handle_timers(now);
        self.send_pending(now).await?;
        self.publish(now);
        Ok(())
    }

    fn take_desired(&mut self) {
        let desired = self.channels.desired.borrow_and_update().clone();
        if desired.generation != self.generation {
            self.generation = desired.generation;
            self.plan.set_desired(&desired.routes, desired.removal);
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        self.plan.handle_timeout(now);
        if self.hurry.is_some_and(|at| at <= now) {
            self.hurry = None;
            self.plan.hurry(now);
            self.plan.handle_timeout(now);
        }
        self.start_round(now);
        self.start_resync(now);
    }

    /// The picture may be wrong: the kernel is read again shortly.
    fn want_resync(&mut self, now: Instant) {
        self.resync.wanted.get_or_insert(now + RESYNC_DELAY);
    }

    /// Devices, addresses or foreign routes changed: what was refused may work now, and next hops may lie elsewhere.
    fn surroundings_changed(&mut self, now: Instant) {
        self.hurry.get_or_insert(now + HURRY_DELAY);
        self.next_hops.handle_change(now);
    }

    fn start_resync(&mut self, now: Instant) {
        let due = self.resync.wanted.is_some_and(|at| at <= now) || self.resync.periodic <= now;
        if due && self.resync.dump.is_none() && !self.plan.is_busy() {
            let (dump, request) = Dump::start(self.settings.table);
            self.resync.dump = Some(dump);
            self.resync.wanted = None;
            self.resync.periodic = now + self.settings.resync;
            self.outbox.push_back((request, Request::Dump));
        }
    }

    /// True where routes are left alone because the kernel is being read, or is to be as soon as they are done.
    fn is_resync_near(&self, now: Instant) -> bool {
        self.resync.dump.is_some()
            || self.resync.wanted.is_some_and(|at| at <= now)
            || self.resync.periodic <= now
    }

    fn is_settled(&self) -> bool {
        self.plan.is_settled() && self.resync.dump.is_none() && !self.resync.awaited
    }

    fn publish(&mut self, now: Instant) {
        if std::mem::take(&mut self.links_changed) {
            let links = &self.links;
            self.channels.links.send_if_modified(|published| {
                let changed = **published != *links;
                if changed {
                    *published = Arc::new(links.clone());
                }
                changed
            });
        }
        if let Some(known) = self.next_hops.poll_changed() {
            self.channels.next_hops.send_replace(Arc::new(known));
        }
        let settled = self.is_settled();
        if settled || now >= self.published + PUBLISH_PAUSE {
            self.published = now;
            self.publish_status(settled);
        }
    }

    fn publish_status(&mut self, settled: bool) {
        let status = KernelStatus {
            resyncs: self.resync.done,
            overruns: self.overruns,
            ..self.plan.status()
        };
        if settled && status.repairs > self.repairs_told {
            let repaired = status.repairs - self.repairs_told;
            self.repairs_told = status.repairs;
            tracing::warn!(
                repaired,
                total = status.repairs,
                "put back routes that somebody else had changed"
            );
        }
        let generation = self.generation;
        self.channels
            .status
            .send_if_modified(|(published_generation, published)| {
                let reached = if settled {
                    generation
                } else {
                    *published_generation
                };
                let changed = *published_generation != reached || **published != status;
                *published_generation = reached;
                if changed {
                    *published = Arc::new(status);
                }
                changed
            });
    }
}
