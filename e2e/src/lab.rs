//! A lab: building it, working with it, taking it down.

use std::{
    fs,
    path::PathBuf,
    process::Child,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    interrupt, kube,
    labdir::{LabDir, Lock, State},
    net::Netns,
    node::{Node, tail},
    preflight::{self, Binaries},
    process::{Recorded, end_all},
    router::Router,
    topology::{Datastore, Topology},
    wait::wait_for,
};

mod build;
mod datastore;
mod pods;

pub use datastore::ApiServer;
pub(crate) use datastore::without_proxy;

/// How long processes get to end in an orderly way when a lab is taken down.
const GRACE: Duration = Duration::from_secs(5);
/// How long BGP may take to come up.
pub const BGP_LIMIT: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 40;

/// A lab. Dropping it takes it down, unless [`Lab::keep`] was called or it was opened by name.
#[derive(Debug)]
pub struct Lab {
    dir: LabDir,
    topology: Topology,
    binaries: Binaries,
    /// Held while this process works on the lab.
    lock: Option<Lock>,
    ephemeral: bool,
    children: Mutex<Vec<Child>>,
}

impl Lab {
    /// Builds a lab under a name of its own, starts everything and waits for the BGP sessions.
    ///
    /// # Errors
    /// Something is missing on this machine, or does not come up.
    pub fn up(topology: Topology) -> Result<Self> {
        let lab = Self::build(&unique_name(), topology)?;
        lab.start()?;
        lab.wait_sessions()?;
        Ok(lab)
    }

    /// Builds the namespaces and links of a lab and seeds its datastore; starts nothing.
    ///
    /// # Errors
    /// There is a lab of that name that works or is being worked on (one that a crash left incomplete is removed
    /// first); something is missing on this machine; or the kernel refuses.
    pub fn build(name: &str, topology: Topology) -> Result<Self> {
        preflight::check()?;
        let binaries = Binaries::find()?;
        topology.validate()?;
        if topology.datastore == Datastore::Kubernetes {
            kube::assets()?;
        }
        let dir = LabDir::named(name)?;
        match dir.state() {
            State::Absent => {}
            State::Broken => drop(down(name)?),
            State::Busy(owner) => bail!("lab {name} is in use by process {owner}; give another name"),
            State::Ready => {
                bail!("lab {name} is up already: take it down with `lab down {name}`, or give another name")
            }
        }
        let Some(lock) = dir.create()? else {
            bail!(
                "there is a lab \"{name}\" already: take it down with `lab down {name}`, or give another name"
            );
        };
        let lab = Lab {
            dir,
            topology,
            binaries,
            lock: Some(lock),
            ephemeral: true,
            children: Mutex::default(),
        };
        build::build(&lab).with_context(|| format!("cannot build lab {name}"))?;
        Ok(lab)
    }

    /// A lab that is up.
    ///
    /// # Errors
    /// There is none of that name, or it is not complete.
    pub fn open(name: &str) -> Result<Self> {
        preflight::check()?;
        let dir = LabDir::named(name)?;
        match dir.state() {
            State::Ready => {}
            State::Absent => bail!("there is no lab \"{name}\": `lab up --name {name}` builds it"),
            State::Busy(owner) => bail!("lab {name} is in use by process {owner}"),
            State::Broken => bail!("lab {name} is incomplete: `lab down {name}` removes it"),
        }
        let topology = Topology::read(&dir.path().join("topology.yaml"))?;
        let binaries = Binaries::find()?;
        Ok(Lab {
            dir,
            topology,
            binaries,
            lock: None,
            ephemeral: false,
            children: Mutex::default(),
        })
    }

    /// Starts every router and every agent, and waits until each answers.
    ///
    /// # Errors
    /// One does not.
    pub fn start(&self) -> Result<()> {
        self.routers().try_for_each(|router| router.start())?;
        self.nodes().try_for_each(|node| node.start_agent())?;
        self.nodes().try_for_each(|node| node.wait_ready())
    }

    /// Waits until every BGP session is up, as seen from both ends.
    ///
    /// # Errors
    /// One is not within [`BGP_LIMIT`].
    pub fn wait_sessions(&self) -> Result<()> {
        wait_for("the BGP sessions", BGP_LIMIT, || {
            self.routers().try_for_each(|router| router.check_sessions())?;
            self.nodes().try_for_each(|node| node.check_sessions())
        })
    }

    /// Leaves the lab up when this value is dropped.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn keep(mut self) -> Result<()> {
        self.dir.mark_ready()?;
        self.ephemeral = false;
        Ok(())
    }

    /// Locks an opened lab against other commands until this value is dropped.
    ///
    /// # Errors
    /// Another command has the lock.
    pub fn lock(&mut self) -> Result<()> {
        if self.lock.is_none() {
            self.lock = Some(self.dir.lock()?);
        }
        Ok(())
    }

    /// Takes the lab down now and says what went wrong.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        self.ephemeral = false;
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => self.dir.lock()?,
        };
        let result = dismantle(&self.dir, lock);
        for child in self.children.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Ended by now, unless it was killed before it could record itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        result
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.dir.name()
    }

    /// Its directory.
    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    /// What it consists of.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The binaries under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The namespace of a node, router or pod.
    pub fn netns(&self, name: &str) -> Netns {
        Netns::named(format!("{}-{name}", self.name()))
    }

    /// A node.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn find_node(&self, name: &str) -> Result<Node<'_>> {
        let names: Vec<_> = self.nodes().map(|node| node.name()).collect();
        let spec = self.topology.node(name);
        let spec =
            spec.ok_or_else(|| anyhow!("there is no node \"{name}\"; there are: {}", names.join(", ")))?;
        Ok(Node { lab: self, spec })
    }

    /// A node; for tests.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn node(&self, name: &str) -> Node<'_> {
        self.find_node(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A router.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn find_router(&self, name: &str) -> Result<Router<'_>> {
        let spec = self.topology.router(name);
        let spec = spec.with_context(|| format!("there is no router \"{name}\""))?;
        Ok(Router { lab: self, spec })
    }

    /// A router; for tests.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn router(&self, name: &str) -> Router<'_> {
        self.find_router(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.topology
            .nodes
            .iter()
            .map(move |spec| Node { lab: self, spec })
    }

    /// All routers.
    pub fn routers(&self) -> impl Iterator<Item = Router<'_>> {
        self.topology
            .routers
            .iter()
            .map(move |spec| Router { lab: self, spec })
    }

    /// The process that is recorded under the name of a node or router, if it runs.
    pub(crate) fn running(&self, name: &str) -> Option<Recorded> {
        self.dir
            .processes()
            .into_iter()
            .rev()
            .find(|process| process.name == name && process.is_alive())
    }

    /// Takes over a daemon just started, and waits until it has recorded itself.
    pub(crate) fn adopt(&self, mut child: Child, name: &str) -> Result<()> {
        let pid = i32::try_from(child.id())?;
        let result = wait_for(&format!("{name} to start"), GRACE, || {
            let recorded = self.dir.processes().iter().any(|process| process.pid == pid);
            if !recorded {
                let status = child.try_wait()?;
                bail!("process {pid}: {status:?}");
            }
            Ok(())
        });
        if result.is_err() {
            // Not recorded, so nobody else would end it.
            let _ = child.kill();
        }
        self.children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        result
    }

    /// What each node and router says of itself: its BGP sessions, what it knows of every route, its kernel's routes.
    pub fn views(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, said: Result<String>| {
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("--- {name}\n{}\n", said.trim_end()));
        };
        for node in self.nodes() {
            for words in [
                &["routectl", "node", "status"][..],
                &["routectl", "routes"],
                &["ip", "route"],
            ] {
                add(&format!("{}: {}", node.name(), words.join(" ")), node.exec(words));
            }
        }
        for router in self.routers() {
            add(
                &format!("{}: show protocols", router.name()),
                router.birdc(&["show", "protocols"]),
            );
            add(
                &format!("{}: show route", router.name()),
                router.birdc(&["show", "route"]),
            );
        }
        text
    }

    /// The logs: path and last lines of each that has any.
    pub fn log_tails(&self) -> String {
        let logs = self
            .nodes()
            .map(|node| node.log_path())
            .chain(self.routers().map(|router| router.log_path()))
            .chain(self.api_server().map(|api_server| api_server.log_path()));
        let tail_of = |path: PathBuf| {
            let text = fs::read_to_string(&path).ok().filter(|text| !text.is_empty())?;
            Some(format!(
                "--- the end of {}\n{}\n",
                path.display(),
                tail(&text, LOG_LINES)
            ))
        };
        logs.filter_map(tail_of).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.ephemeral {
            return;
        }
        if thread::panicking() {
            eprintln!("{}{}", self.log_tails(), self.views());
        }
        // Taking it down is not to be cut short by the Ctrl-C that led here.
        interrupt::take();
        if let Err(error) = self.take_down() {
            let name = self.name();
            let message = format!("lab {name} could not be removed: {error:#}; try `lab down {name}`");
            // A test that leaves something behind has failed.
            assert!(thread::panicking(), "{message}");
            eprintln!("{message}");
        }
    }
}

/// Removes every trace of a lab; does nothing where there is none.
///
/// # Errors
/// Another command is working on it, or something cannot be removed.
pub fn down(name: &str) -> Result<bool> {
    let dir = LabDir::named(name)?;
    match dir.state() {
        State::Absent => {
            dir.sweep();
            Ok(false)
        }
        State::Busy(owner) => {
            bail!(
                "lab {name} is in use by process {owner}; end that first (`kill {owner}` takes it down in order)"
            )
        }
        State::Ready | State::Broken => {
            dismantle(&dir, dir.lock()?)?;
            Ok(true)
        }
    }
}

fn dismantle(dir: &LabDir, lock: Lock) -> Result<()> {
    end_all(&dir.processes(), GRACE)?;
    for namespace in dir.namespaces() {
        namespace.delete()?;
    }
    dir.remove(lock)
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other lab on this machine has: process ids are unique while the process runs.
pub fn unique_name() -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("t{:x}n{count:x}", std::process::id())
}
