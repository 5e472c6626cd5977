//! The objects, and the clients through which they are reached.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use datastore::{Backend, DeleteOptions, Error, Invalid, KindInfo, RawEvent, Resource, Result, Store};
use futures::{
    future::{self, BoxFuture},
    stream::{self, BoxStream, StreamExt},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::plan::{Call, Fault, Plan, Verb};
use crate::check::{self, Problem};

/// Objects in memory, shared by all clients.
#[derive(Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By kind and name.
    objects: BTreeMap<(&'static str, String), Value>,
    /// Grows with every write; never repeats, not even for an object deleted and made again.
    revision: u64,
    watchers: Vec<(&'static str, mpsc::UnboundedSender<RawEvent>)>,
}

impl Cluster {
    /// Without any object.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store on which nothing fails.
    pub fn store(&self) -> Store {
        self.client(Box::new(|_| Fault::None)).store()
    }

    /// All objects of a kind at this moment.
    pub fn objects<T: Resource>(&self) -> Vec<T> {
        let state = lock(&self.state);
        let of_kind = state.objects.iter().filter(|((k, _), _)| *k == T::KIND.kind);
        let typed = of_kind.map(|(_, object)| serde_json::from_value(object.clone()));
        typed.filter_map(std::result::Result::ok).collect()
    }

    /// Grows with every write.
    pub fn revision(&self) -> u64 {
        lock(&self.state).revision
    }

    /// Everything wrong at this moment.
    pub fn problems(&self) -> Vec<Problem> {
        check::check(&self.objects(), &self.objects(), &self.objects())
    }

    /// Changes an object behind everybody's back, as a hand edit does. One that breaks its kind's rules by that
    /// cannot be read any more and is left out of lists.
    pub fn tamper(&self, kind: &'static str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = lock(&self.state);
        state.revision += 1;
        let revision = state.revision.to_string();
        if let Some(object) = state.objects.get_mut(&(kind, name.to_string())) {
            change(object);
            object["metadata"]["resourceVersion"] = json!(revision);
        }
    }

    /// A process's access, with the fate of its calls.
    pub fn client(&self, plan: Plan) -> Client {
        let shared = Shared {
            cluster: self.clone(),
            plan: Mutex::new((0, plan)),
            died: Notify::new(),
            held: Notify::new(),
            go: Notify::new(),
        };
        Client {
            shared: Arc::new(shared),
        }
    }
}

/// A process's access to a [`Cluster`]. Clones share plan and call numbers.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    plan: Mutex<(u64, Plan)>,
    died: Notify,
    held: Notify,
    go: Notify,
}

impl Client {
    /// The store of this client.
    pub fn store(&self) -> Store {
        Store::new(Arc::new(self.clone()))
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        lock(&self.shared.plan).0
    }

    /// Completes when the plan has let the process die.
    pub async fn died(&self) {
        self.shared.died.notified().await;
    }

    /// Completes when the plan holds a call.
    pub async fn held(&self) {
        self.shared.held.notified().await;
    }

    /// Lets the call that is held be carried out.
    pub fn go(&self) {
        self.shared.go.notify_one();
    }

    async fn call<T>(
        &self,
        verb: Verb,
        kind: &'static KindInfo,
        name: String,
        carry_out: impl Fn(&mut State) -> Result<T>,
    ) -> Result<T> {
        let target = format!("{} \"{name}\"", kind.kind);
        let fault = self.fate(verb, kind, &name);
        let carry_out = || carry_out(&mut lock(&self.shared.cluster.state));
        match fault {
            Fault::Conflict if matches!(verb, Verb::Update | Verb::Delete) => {
                Err(conflict(kind, &name, "ours", "another"))
            }
            Fault::None | Fault::Conflict => carry_out(),
            Fault::Unavailable => Err(unavailable(target)),
            Fault::LostReply => {
                // What would have been refused is refused: only a success can be lost on the way.
                carry_out()?;
                Err(unavailable(target))
            }
            Fault::Repeated => carry_out().and_then(|_| carry_out()),
            Fault::Pause(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                carry_out()
            }
            Fault::Hold => {
                self.shared.held.notify_one();
                self.shared.go.notified().await;
                carry_out()
            }
            Fault::DieBefore => self.die().await,
            Fault::DieAfter => {
                drop(carry_out());
                self.die().await
            }
        }
    }

    fn fate(&self, verb: Verb, kind: &'static KindInfo, name: &str) -> Fault {
        let mut plan = lock(&self.shared.plan);
        let call = Call {
            number: plan.0,
            verb,
            kind: kind.kind,
            name: name.to_string(),
        };
        plan.0 += 1;
        (plan.1)(&call)
    }

    async fn die<T>(&self) -> Result<T> {
        self.shared.died.notify_one();
        future::pending().await
    }
}

impl Backend for Client {
    fn list(&self, kind: &'static KindInfo) -> BoxFuture<'_, Result<Vec<Value>>> {
        Box::pin(self.call(Verb::List, kind, String::new(), move |state| Ok(state.list(kind))))
    }

    fn get<'a>(&'a self, kind: &'static KindInfo, name: &'a str) -> BoxFuture<'a, Result<Value>> {
        let get = move |state: &mut State| state.read(kind, name);
        Box::pin(self.call(Verb::Get, kind, name.to_string(), get))
    }

    fn create(&self, kind: &'static KindInfo, object: Value) -> BoxFuture<'_, Result<Value>> {
        let name = name_of(kind, &object);
        let create = move |state: &mut State| state.create(kind, object.clone());
        Box::pin(self.call(Verb::Create, kind, name, create))
    }

    fn update(&self, kind: &'static KindInfo, object: Value) -> BoxFuture<'_, Result<Value>> {
        let name = name_of(kind, &object);
        let update = move |state: &mut State| state.update(kind, object.clone());
        Box::pin(self.call(Verb::Update, kind, name, update))
    }

    fn delete<'a>(
        &'a self,
        kind: &'static KindInfo,
        name: &'a str,
        options: DeleteOptions,
    ) -> BoxFuture<'a, Result<()>> {
        let delete = move |state: &mut State| state.delete(kind, name, &options);
        Box::pin(self.call(Verb::Delete, kind, name.to_string(), delete))
    }

    fn watch(&self, kind: &'static KindInfo) -> BoxStream<'static, Result<RawEvent>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = lock(&self.shared.cluster.state);
        let first = RawEvent::Restarted(state.list(kind));
        state.watchers.push((kind.kind, sender));
        let rest = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (event, receiver))
        });
        stream::iter([first]).chain(rest).map(Ok).boxed()
    }
}

impl State {
    fn list(&self, kind: &'static KindInfo) -> Vec<Value> {
        let of_kind = self.objects.iter().filter(|((k, _), _)| *k == kind.kind);
        of_kind
            .filter_map(|(_, object)| checked(kind, object.clone()).ok())
            .collect()
    }

    fn read(&self, kind: &'static KindInfo, name: &str) -> Result<Value> {
        checked(kind, self.get(kind, name)?.clone())
    }

    fn get(&self, kind: &'static KindInfo, name: &str) -> Result<&Value> {
        let found = self.objects.get(&(kind.kind, name.to_string()));
        found.ok_or_else(|| Error::NotFound {
            kind: kind.kind,
            name: name.to_string(),
        })
    }

    fn create(&mut self, kind: &'static KindInfo, object: Value) -> Result<Value> {
        let mut object = checked(kind, object)?;
        let name = name_of(kind, &object);
        if self.get(kind, &name).is_ok() {
            return Err(Error::AlreadyExists {
                kind: kind.kind,
                name,
            });
        }
        self.revision += 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.revision));
        object["metadata"]["creationTimestamp"] = json!("2026-11-20T00:00:00Z");
        Ok(self.put(kind, name, object))
    }

    fn update(&mut self, kind: &'static KindInfo, object: Value) -> Result<Value> {
        let mut object = checked(kind, object)?;
        let name = name_of(kind, &object);
        let found = self.get(kind, &name)?;
        let (expected, current) = (field(&object, "resourceVersion"), field(found, "resourceVersion"));
        if expected != current {
            return Err(conflict(kind, &name, expected, current));
        }
        for kept in ["uid", "creationTimestamp"] {
            object["metadata"][kept] = found["metadata"][kept].clone();
        }
        self.revision += 1;
        Ok(self.put(kind, name, object))
    }

    fn delete(&mut self, kind: &'static KindInfo, name: &str, options: &DeleteOptions) -> Result<()> {
        let found = self.get(kind, name)?;
        for (key, expected) in [
            ("uid", &options.uid),
            ("resourceVersion", &options.resource_version),
        ] {
            let current = field(found, key);
            if let Some(expected) = expected.as_deref().filter(|expected| *expected != current) {
                return Err(conflict(kind, name, expected, current));
            }
        }
        self.revision += 1;
        if let Some(gone) = self.objects.remove(&(kind.kind, name.to_string())) {
            self.tell(kind, &RawEvent::Deleted(gone));
        }
        Ok(())
    }

    fn put(&mut self, kind: &'static KindInfo, name: String, mut object: Value) -> Value {
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert((kind.kind, name), object.clone());
        self.tell(kind, &RawEvent::Applied(object.clone()));
        object
    }

    fn tell(&mut self, kind: &'static KindInfo, event: &RawEvent) {
        self.watchers
            .retain(|(k, watcher)| *k != kind.kind || watcher.send(event.clone()).is_ok());
    }
}

fn checked(kind: &'static KindInfo, object: Value) -> Result<Value> {
    let name = name_of(kind, &object);
    (kind.parse_json)(object).map_err(|error| {
        Error::from(Box::new(Invalid {
            kind: kind.kind,
            name,
            path: None,
            line: error.line,
            field: error.field,
            message: error.message,
        }))
    })
}

fn name_of(kind: &'static KindInfo, object: &Value) -> String {
    let name = field(object, "name");
    if kind.namespaced {
        format!("{}/{name}", field(object, "namespace"))
    } else {
        name.to_string()
    }
}

fn field<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

fn conflict(kind: &'static KindInfo, name: &str, expected: &str, found: &str) -> Error {
    Error::Conflict {
        kind: kind.kind,
        name: name.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

fn unavailable(target: String) -> Error {
    Error::Unavailable {
        action: "reach",
        target,
        source: io::Error::new(io::ErrorKind::TimedOut, "simulated"),
    }
}

/// A panic elsewhere is that test's failure, not ours.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
