//! A watch: it compares what is in the files with what it has told, and tells the difference.
//!
//! Being based on states and not on events, it cannot miss or invent a change: inotify only says when to look, and
//! where it is deaf (a network file system, too many watches) a look at everything every few seconds finds the rest.
//!
//! Hands are given time. A file that we did not write counts once it has been left alone for [`QUIET`], for it may
//! be half written; a file that was moved away counts as deleted after the same time, for an editor may be
//! putting a new one in its place. What we write ourselves is complete by its seal, and counts at once, as does
//! an unlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking, time::Instant};

use super::{
    layout::Key,
    manifest::Manifest,
    notify::{Hints, Notifier, Signal},
    objects::{Look, Objects, misnamed},
};
use crate::{Error, KindInfo, RawEvent, Result};

/// How long a hand-written file must be left alone before it counts.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// Between two looks at everything, where inotify works.
const RESYNC: Duration = Duration::from_secs(10);
/// The same where it does not, and after an error.
const POLL: Duration = Duration::from_secs(1);

/// Follows a kind until the receiver is dropped.
pub(super) async fn follow(
    objects: Arc<Objects>,
    notifier: Arc<Notifier>,
    kind: &'static KindInfo,
    events: mpsc::Sender<Result<RawEvent>>,
) {
    let signal = notifier.subscribe(objects.folder(kind), kind.namespaced);
    let mut follower = Follower::default();
    let mut look = Sweep::All;
    let mut error_told = String::new();
    let mut resync = Instant::now();
    loop {
        let found = match look {
            Sweep::All => {
                let swept = sweep_all(&objects, &notifier, kind).await;
                swept.map(|(covered, found)| {
                    resync = Instant::now() + if covered { RESYNC } else { POLL };
                    found
                })
            }
            Sweep::Files(files) => sweep_files(&objects, kind, files).await,
        };
        let told = match found {
            Ok(found) => {
                error_told.clear();
                follower.compare(kind, found).into_iter().map(Ok).collect()
            }
            Err(error) => {
                resync = Instant::now() + POLL;
                let text = error.to_string();
                let new = text != error_told;
                error_told = text;
                if new { vec![Err(error)] } else { Vec::new() }
            }
        };
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = events.closed() => return,
            next = follower.next(&signal, resync) => look = next,
        }
    }
}

/// What to look at.
enum Sweep {
    All,
    Files(BTreeMap<Key, bool>),
}

/// What a sweep has found.
struct Found {
    /// True where files that are not in `sights` do not exist.
    complete: bool,
    sights: BTreeMap<Key, Sight>,
    misnamed: Option<BTreeSet<PathBuf>>,
}

/// What a look at one file has found.
struct Sight {
    look: Look,
    /// A hand may not be done with it.
    unfinished: bool,
    /// It was unlinked, not moved away.
    unlinked: bool,
}

impl Sight {
    fn of(objects: &Objects, kind: &KindInfo, key: &Key, unlinked: bool) -> Result<Self> {
        let look = objects.look(kind, key)?;
        let by_hand = match &look {
            Look::Missing => false,
            Look::Good(manifest) => !manifest.sealed,
            Look::Broken { .. } => true,
        };
        Ok(Sight {
            look,
            unfinished: by_hand && objects.is_being_edited(kind, key, QUIET),
            unlinked,
        })
    }
}

async fn sweep_all(
    objects: &Arc<Objects>,
    notifier: &Arc<Notifier>,
    kind: &'static KindInfo,
) -> Result<(bool, Found)> {
    let (objects, notifier) = (Arc::clone(objects), Arc::clone(notifier));
    blocking(move || {
        let covered = notifier.cover(&objects, kind)?;
        let listing = objects.files(kind)?;
        let mut sights = BTreeMap::new();
        for key in listing.keys {
            let sight = Sight::of(&objects, kind, &key, false)?;
            sights.insert(key, sight);
        }
        let found = Found {
            complete: true,
            sights,
            misnamed: Some(listing.misnamed),
        };
        Ok((covered, found))
    })
    .await
}

async fn sweep_files(
    objects: &Arc<Objects>,
    kind: &'static KindInfo,
    files: BTreeMap<Key, bool>,
) -> Result<Found> {
    let objects = Arc::clone(objects);
    blocking(move || {
        let mut sights = BTreeMap::new();
        for (key, unlinked) in files {
            let sight = Sight::of(&objects, kind, &key, unlinked)?;
            sights.insert(key, sight);
        }
        Ok(Found {
            complete: false,
            sights,
            misnamed: None,
        })
    })
    .await
}

/// Runs file operations where they may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Error::Unavailable {
            action: "use",
            target: "the datastore".to_string(),
            source: std::io::Error::other(e),
        })
    })
}

/// What a watch has told.
#[derive(Default)]
struct Follower {
    restarted: bool,
    told: BTreeMap<Key, Told>,
    misnamed: BTreeSet<PathBuf>,
    /// Files to look at again, and from when on they count.
    waiting: BTreeMap<Key, Instant>,
}

/// What was told of one object.
#[derive(Default)]
struct Told {
    object: Option<Arc<Manifest>>,
    /// The content that was told to be broken, if that was the last.
    broken: Option<String>,
}

impl Follower {
    /// The events that lead from what was told to what is there.
    fn compare(&mut self, kind: &'static KindInfo, mut found: Found) -> Vec<RawEvent> {
        if found.complete {
            for key in self
                .told
                .keys()
                .filter(|key| !found.sights.contains_key(key))
                .cloned()
                .collect::<Vec<_>>()
            {
                let missing = Sight {
                    look: Look::Missing,
                    unfinished: false,
                    unlinked: false,
                };
                found.sights.insert(key, missing);
            }
        }
        let mut events = Vec::new();
        if !self.restarted {
            self.restarted = true;
            events.push(RawEvent::Restarted(self.restart(&found.sights)));
        }
        for (key, sight) in found.sights {
            events.extend(self.see(key, sight));
        }
        if let Some(now) = found.misnamed {
            let new = now.difference(&self.misnamed);
            events.extend(new.map(|path| RawEvent::Invalid(misnamed(kind, path))));
            self.misnamed = now;
        }
        events
    }

    /// Takes the first state as told. What is broken is told afterwards.
    fn restart(&mut self, sights: &BTreeMap<Key, Sight>) -> Vec<serde_json::Value> {
        for (key, sight) in sights {
            let object = match &sight.look {
                Look::Good(manifest) => Some(Arc::clone(manifest)),
                Look::Broken { last_good, .. } => last_good.clone(),
                Look::Missing => None,
            };
            if object.is_some() {
                self.told.insert(key.clone(), Told { object, broken: None });
            }
        }
        let objects = self.told.values().filter_map(|told| told.object.as_ref());
        objects.map(|manifest| manifest.object.clone()).collect()
    }

    fn see(&mut self, key: Key, sight: Sight) -> Option<RawEvent> {
        let since = self.waiting.remove(&key);
        let told = self.told.entry(key.clone()).or_default();
        match sight.look {
            Look::Good(manifest) => {
                let same = told
                    .object
                    .as_ref()
                    .is_some_and(|told| told.object == manifest.object);
                if same && told.broken.is_none() {
                    return None;
                }
                if sight.unfinished {
                    return self.wait(key, since);
                }
                told.broken = None;
                told.object = Some(Arc::clone(&manifest));
                Some(RawEvent::Applied(manifest.object.clone()))
            }
            Look::Broken { invalid, hash, .. } => {
                if told.broken.as_ref() == Some(&hash) {
                    return None;
                }
                if sight.unfinished {
                    return self.wait(key, since);
                }
                told.broken = Some(hash);
                Some(RawEvent::Invalid(invalid))
            }
            Look::Missing => {
                let patience_is_over = since.is_some_and(|until| until <= Instant::now());
                if told.object.is_some() && !sight.unlinked && !patience_is_over {
                    return self.wait(key, since);
                }
                let told = self.told.remove(&key)?;
                told.object
                    .map(|manifest| RawEvent::Deleted(manifest.object.clone()))
            }
        }
    }

    fn wait(&mut self, key: Key, since: Option<Instant>) -> Option<RawEvent> {
        let soon = Instant::now() + QUIET;
        // A file that keeps changing is looked at again and again; one that stays away has its first deadline.
        let until = since.filter(|until| *until > Instant::now()).unwrap_or(soon);
        self.waiting.insert(key, until);
        None
    }

    /// Waits until there is something to look at.
    async fn next(&self, signal: &Signal, resync: Instant) -> Sweep {
        let soonest = self.waiting.values().min();
        let wake = soonest.map_or(resync, |soonest| resync.min(*soonest));
        tokio::select! {
            () = signal.wait() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        let Hints { all, mut files } = signal.take();
        let now = Instant::now();
        if all || now >= resync {
            return Sweep::All;
        }
        for key in self
            .waiting
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(key, _)| key)
        {
            files.entry(key.clone()).or_insert(false);
        }
        Sweep::Files(files)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Resource, types::IpPool};

    static POOL: KindInfo = IpPool::KIND;

    fn key() -> Key {
        Key::new(&POOL, "", "a").expect("a name")
    }

    /// A look at a hand-written manifest; `size` tells one version from another.
    fn good(size: u8) -> Look {
        let text = format!(
            "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {{name: a}}\nspec: {{cidr: 10.0.0.0/16, blockSize: {size}}}\n"
        );
        let manifest = Manifest::parse(&POOL, &key(), Path::new("a.yaml"), text.as_bytes());
        Look::Good(Arc::new(manifest.expect("a manifest")))
    }

    fn see(follower: &mut Follower, look: Look, unfinished: bool, unlinked: bool) -> &'static str {
        let sight = Sight {
            look,
            unfinished,
            unlinked,
        };
        let found = Found {
            complete: false,
            sights: BTreeMap::from([(key(), sight)]),
            misnamed: None,
        };
        let events = follower.compare(&POOL, found);
        assert!(events.len() <= 1, "{events:?}");
        match events.first() {
            None => "nothing",
            Some(RawEvent::Restarted(_)) => "restarted",
            Some(RawEvent::Applied(_)) => "applied",
            Some(RawEvent::Deleted(_)) => "deleted",
            Some(RawEvent::Invalid(_)) => "invalid",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_moved_away_is_given_time_and_an_unlinked_one_is_not() {
        let mut follower = Follower::default();
        assert_eq!(see(&mut follower, good(26), false, false), "restarted");
        assert_eq!(see(&mut follower, Look::Missing, false, false), "nothing");
        tokio::time::advance(QUIET / 2).await;
        assert_eq!(see(&mut follower, Look::Missing, false, false), "nothing");
        assert_eq!(see(&mut follower, good(27), false, false), "applied");
        // The patience starts anew.
        assert_eq!(see(&mut follower, Look::Missing, false, false), "nothing");
        tokio::time::advance(QUIET / 2).await;
        assert_eq!(see(&mut follower, Look::Missing, false, false), "nothing");
        tokio::time::advance(QUIET / 2).await;
        assert_eq!(see(&mut follower, Look::Missing, false, false), "deleted");
        assert_eq!(see(&mut follower, Look::Missing, false, false), "nothing");
        assert_eq!(see(&mut follower, good(27), false, false), "applied");
        assert_eq!(see(&mut follower, Look::Missing, false, true), "deleted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_looked_at_again() {
        let mut follower = Follower::default();
        assert_eq!(see(&mut follower, Look::Missing, false, false), "restarted");
        assert_eq!(see(&mut follower, good(26), true, false), "nothing");
        assert!(follower.waiting.contains_key(&key()));
        assert_eq!(see(&mut follower, good(27), false, false), "applied");
        assert!(follower.waiting.is_empty());
        assert_eq!(see(&mut follower, good(27), true, false), "nothing");
        assert!(
            follower.waiting.is_empty(),
            "what is known already needs no second look"
        );
    }
}
