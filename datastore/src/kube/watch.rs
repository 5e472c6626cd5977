//! A watch: a list, then the server's events from the list's version on.
//!
//! - The server ends a watch every few minutes; the next one goes on from the last version seen. Bookmarks keep that
//!   version fresh where a kind is quiet.
//! - 410 (the version is forgotten): list again, and tell the differences from what was told before.
//! - Any failure is followed by a pause that doubles up to a limit, and so is a watch that ends at once. Only a watch
//!   that has delivered something, or has lasted, makes the pauses short again: nothing here can spin.
//! - A connection that nothing comes through is noticed, for a healthy one brings a bookmark every minute.
//! - An object that cannot be used is told as such, and its last good version stays; for that, and for the
//!   differences, the last good version of each object is held as compact JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    backoff::{Backoff, chance},
    call::{Call, Verb},
    connection::Connection,
    convert,
    failure::{Failure, Refusal, Status},
    list::{read, selecting},
};
use crate::{Error, KindInfo, RawEvent, Result, WatchOptions, object::metadata_of};

/// A watch that has lasted so long without a failure was a good one.
const LASTED: Duration = Duration::from_secs(5);
/// Longer events are no Kubernetes objects (etcd's limit is 1.5 MB).
const LONGEST_EVENT: usize = 16 << 20;

/// Follows a kind until the receiver is dropped.
pub(super) async fn follow(
    connection: Arc<Connection>,
    kind: &'static KindInfo,
    options: WatchOptions,
    events: mpsc::Sender<Result<RawEvent>>,
) {
    let limits = &connection.limits;
    let mut backoff = Backoff::new(limits.first_pause, limits.longest_pause);
    let mut follower = Follower {
        connection: &connection,
        kind,
        options,
        events: events.clone(),
        told: None,
        version: String::new(),
        error_told: String::new(),
    };
    let run = async { while follower.step(&mut backoff).await.is_some() {} };
    tokio::select! {
        () = events.closed() => {}
        () = run => {}
    }
}

/// The reader is gone.
type Told = Option<()>;

struct Follower<'a> {
    connection: &'a Connection,
    kind: &'static KindInfo,
    options: WatchOptions,
    events: mpsc::Sender<Result<RawEvent>>,
    /// What the reader knows, by namespace and name; `None` before the first list.
    told: Option<BTreeMap<Key, Known>>,
    /// Where the next watch goes on; empty where a list is needed.
    version: String,
    /// The trouble that the reader was told last.
    error_told: String,
}

type Key = (String, String);

/// What the reader knows of an object.
struct Known {
    /// The version that was looked at last, good or not.
    version: String,
    /// The last good state, as JSON text.
    good: Option<Box<str>>,
}

/// An event of a watch, as the server writes it.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    event: String,
    object: Value,
}

impl Follower<'_> {
    /// One list, or one watch, and the pause after it. `None` where the reader is gone.
    async fn step(&mut self, backoff: &mut Backoff) -> Told {
        let started = Instant::now();
        let verb = if self.version.is_empty() {
            Verb::List
        } else {
            Verb::Watch
        };
        let call = selecting(verb, self.kind, &self.options);
        let outcome = match verb {
            Verb::List => self.list(&call).await,
            _ => self.watch(call.clone(), backoff).await,
        };
        match outcome {
            Ok(told) => {
                told?;
                self.error_told.clear();
                if verb == Verb::Watch && started.elapsed() >= LASTED {
                    backoff.reset();
                } else if verb == Verb::Watch {
                    sleep(backoff.pause()).await;
                }
                Some(())
            }
            Err(failure) => {
                let asked = failure.throttled().unwrap_or_default();
                if failure.needs_relist() {
                    tracing::debug!(kind = self.kind.kind, ?failure, "watch starts over");
                    self.version.clear();
                } else {
                    self.tell_trouble(failure, &call).await?;
                }
                sleep(backoff.pause() + asked).await;
                Some(())
            }
        }
    }

    /// Tells a failure once, not at every attempt.
    async fn tell_trouble(&mut self, failure: Failure, call: &Call) -> Told {
        let error: Error = failure.into_error(call, &self.connection.server);
        let text = error.to_string();
        if text == self.error_told {
            return Some(());
        }
        self.error_told = text;
        self.events.send(Err(error)).await.ok()
    }

    async fn tell(&self, event: Option<RawEvent>) -> Told {
        match event {
            Some(event) => self.events.send(Ok(event)).await.ok(),
            None => Some(()),
        }
    }

    /// Lists, and tells everything the first time and the differences later.
    async fn list(&mut self, call: &Call) -> Result<Told, Failure> {
        let listing = read(self.connection, call).await?;
        let told = match self.told.is_some() {
            true => self.tell_differences(listing.objects).await,
            false => self.tell_all(listing.objects).await,
        };
        self.version = listing.version;
        Ok(told)
    }

    async fn tell_all(&mut self, objects: Vec<Value>) -> Told {
        let (mut all, mut invalid) = (BTreeMap::new(), Vec::new());
        let mut told = BTreeMap::new();
        for raw in objects {
            let key = key(&raw);
            let good = match convert::parse(self.kind, &raw) {
                Ok(object) => {
                    let text = object.to_string().into_boxed_str();
                    all.insert(key.clone(), object);
                    Some(text)
                }
                Err(error) => {
                    invalid.push(error);
                    None
                }
            };
            let version = metadata_of(&raw, "resourceVersion").to_string();
            told.insert(key, Known { version, good });
        }
        self.told = Some(told);
        self.tell(Some(RawEvent::Restarted(all.into_values().collect())))
            .await?;
        for error in invalid {
            self.tell(Some(RawEvent::Invalid(error))).await?;
        }
        Some(())
    }

    async fn tell_differences(&mut self, objects: Vec<Value>) -> Told {
        let there: BTreeSet<Key> = objects.iter().map(key).collect();
        let known = self.told.iter().flat_map(BTreeMap::keys);
        let gone: Vec<Key> = known.filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            let event = self.deleted(&key, None);
            self.tell(event).await?;
        }
        for raw in objects {
            let event = self.applied(&raw);
            self.tell(event).await?;
        }
        Some(())
    }

    /// Watches until the server ends it.
    async fn watch(&mut self, call: Call, backoff: &mut Backoff) -> Result<Told, Failure> {
        let limits = &self.connection.limits;
        let lasting = limits.watch.mul_f64(1.0 + chance() / 4.0);
        let call = call
            .query("watch", "1")
            .query("allowWatchBookmarks", "true")
            .query("resourceVersion", self.version.as_str())
            .query("timeoutSeconds", lasting.as_secs().max(1).to_string());
        let body = self.connection.open(&call).await?;
        let mut lines = Lines::new(body);
        let opened = Instant::now();
        loop {
            let idle = limits.idle;
            let line = match timeout(idle, lines.next()).await {
                Ok(Some(line)) => line?,
                Ok(None) => return Ok(Some(())),
                Err(_) => {
                    tracing::debug!(kind = self.kind.kind, ?idle, "a silent watch is taken for dead");
                    return Ok(Some(()));
                }
            };
            backoff.reset();
            self.error_told.clear();
            let told = self.handle(line).await?;
            if told.is_none() || opened.elapsed() > lasting * 2 {
                return Ok(told);
            }
        }
    }

    async fn handle(&mut self, line: Line) -> Result<Told, Failure> {
        let event = match line.event.as_str() {
            "ADDED" | "MODIFIED" => {
                let raw = convert::from_server(self.kind, line.object);
                self.remember_version(&raw);
                self.applied(&raw)
            }
            "DELETED" => {
                let raw = convert::from_server(self.kind, line.object);
                self.remember_version(&raw);
                self.deleted(&key(&raw), Some(&raw))
            }
            "BOOKMARK" => {
                self.remember_version(&line.object);
                None
            }
            _ => {
                let status: Status = serde_json::from_value(line.object).unwrap_or_default();
                let code = status.code;
                return Err(Failure::Refused(Box::new(Refusal::of_status(code, status))));
            }
        };
        Ok(self.tell(event).await)
    }

    fn remember_version(&mut self, raw: &Value) {
        let version = metadata_of(raw, "resourceVersion");
        if !version.is_empty() {
            self.version = version.to_string();
        }
    }

    /// An object is there; the event for it, unless it was told in this version.
    fn applied(&mut self, raw: &Value) -> Option<RawEvent> {
        let told = self.told.get_or_insert_default();
        let version = metadata_of(raw, "resourceVersion");
        let known = told.entry(key(raw)).or_insert_with(|| Known {
            version: String::new(),
            good: None,
        });
        if known.version == version {
            return None;
        }
        known.version = version.to_string();
        match convert::parse(self.kind, raw) {
            Ok(object) => {
                known.good = Some(object.to_string().into_boxed_str());
                Some(RawEvent::Applied(object))
            }
            Err(invalid) => Some(RawEvent::Invalid(invalid)),
        }
    }

    /// An object is gone; the event for it, unless the reader never knew it.
    fn deleted(&mut self, key: &Key, last: Option<&Value>) -> Option<RawEvent> {
        let good = self.told.as_mut()?.remove(key)?.good?;
        let last = last.and_then(|raw| convert::parse(self.kind, raw).ok());
        let last = last.or_else(|| serde_json::from_str(&good).ok())?;
        Some(RawEvent::Deleted(last))
    }
}

fn key(raw: &Value) -> Key {
    (
        metadata_of(raw, "namespace").to_string(),
        metadata_of(raw, "name").to_string(),
    )
}

/// The lines of an answer that comes bit by bit: one event each.
struct Lines {
    body: http_body_util::BodyDataStream<Body>,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that hold no end of line.
    searched: usize,
}

impl Lines {
    fn new(body: Body) -> Self {
        Lines {
            body: body.into_data_stream(),
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next event; `None` where the answer has ended.
    async fn next(&mut self) -> Option<Result<Line, Failure>> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return Some(serde_json::from_slice(&line).map_err(|e| Failure::unreachable(&e)));
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST_EVENT {
                let error = std::io::Error::other("an event of a watch has no end");
                return Some(Err(Failure::Unreachable(error)));
            }
            match self.body.next().await? {
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(error) => return Some(Err(Failure::unreachable(&error))),
            }
        }
    }
}
