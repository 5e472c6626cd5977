//! Pods of a lab: attaching, detaching and pinging them.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{COUNTER, Lab};
use crate::{
    cni::Attachment,
    ping::{self, concurrently},
    topology::{RESERVED, check_name},
};

impl Lab {
    /// Makes a pod's namespace and records the pod; [`Lab::attach`] goes on to call the plugin.
    ///
    /// # Errors
    /// The name is taken or cannot be one, or there is no such node.
    pub fn make_pod(&self, pod: &str, node: &str) -> Result<Attachment> {
        check_name("pod", pod)?;
        self.find_node(node)?;
        ensure!(
            self.topology.node(pod).is_none()
                && self.topology.router(pod).is_none()
                && !RESERVED.contains(&pod),
            "\"{pod}\" is the name of a part of the lab; give the pod another one"
        );
        ensure!(
            !self.pod_path(pod).exists(),
            "there is a pod \"{pod}\" already: `lab detach {pod}` removes it"
        );
        let attachment = Attachment {
            pod: pod.to_string(),
            node: node.to_string(),
            container_id: unique_id(),
            addresses: Vec::new(),
        };
        self.record_pod(&attachment)?;
        self.dir.create_namespace(&self.netns(pod))?;
        Ok(attachment)
    }

    /// Attaches a pod to a node: makes its namespace and calls the plugin's ADD.
    ///
    /// # Errors
    /// The plugin's error; then the plugin's DEL has been called and nothing of the pod is left.
    pub fn attach(&self, pod: &str, node: &str) -> Result<Attachment> {
        let attachment = self.make_pod(pod, node)?;
        self.add(&attachment).inspect_err(|_| {
            // What a runtime does too; the error that matters is ADD's.
            let _ = self.detach(pod);
        })
    }

    /// Calls the plugin's ADD for a pod and records its addresses.
    ///
    /// # Errors
    /// The plugin's error.
    pub fn add(&self, pod: &Attachment) -> Result<Attachment> {
        let addresses = self.find_node(&pod.node)?.cni("ADD", pod)?.addresses()?;
        let attachment = Attachment {
            addresses,
            ..pod.clone()
        };
        self.record_pod(&attachment)?;
        Ok(attachment)
    }

    /// Detaches a pod: calls the plugin's DEL, then removes its namespace.
    ///
    /// # Errors
    /// The plugin's error; the pod's namespace is removed all the same.
    pub fn detach(&self, pod: &str) -> Result<()> {
        let attachment = self.pod(pod)?;
        let output = self.find_node(&attachment.node)?.cni("DEL", &attachment);
        self.remove_pod(pod)?;
        let output = output?;
        ensure!(
            output.status == 0,
            "the plugin's DEL said: {}",
            output.error_text()
        );
        Ok(())
    }

    /// Removes a pod's namespace and record without telling anybody.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_pod(&self, pod: &str) -> Result<()> {
        self.netns(pod).delete()?;
        fs::remove_file(self.pod_path(pod)).with_context(|| format!("cannot forget pod {pod}"))
    }

    /// A pod.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn pod(&self, pod: &str) -> Result<Attachment> {
        let text =
            fs::read_to_string(self.pod_path(pod)).map_err(|_| anyhow!("there is no pod \"{pod}\""))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// All pods, by node and name.
    ///
    /// # Errors
    /// The lab's directory cannot be read.
    pub fn pods(&self) -> Result<Vec<Attachment>> {
        let mut pods = Vec::new();
        for entry in fs::read_dir(self.dir.path().join("pods"))? {
            pods.push(serde_json::from_str(&fs::read_to_string(entry?.path())?)?);
        }
        pods.sort_by(|a: &Attachment, b| (&a.node, &a.pod).cmp(&(&b.node, &b.pod)));
        Ok(pods)
    }

    fn pod_path(&self, pod: &str) -> PathBuf {
        self.dir.path().join("pods").join(format!("{pod}.json"))
    }

    fn record_pod(&self, attachment: &Attachment) -> Result<()> {
        let text = serde_json::to_string(attachment)?;
        Ok(fs::write(self.pod_path(&attachment.pod), text)?)
    }

    /// The address of a node or pod by name, or an address as it is.
    ///
    /// # Errors
    /// It is neither.
    pub fn address(&self, name: &str) -> Result<IpAddr> {
        if let Ok(address) = name.parse() {
            return Ok(address);
        }
        match self.topology.node(name) {
            Some(node) => Ok(node.address.into()),
            None => self.pod(name)?.address(),
        }
    }

    /// Pings from a node, router or pod to a node, a pod or an address; bounded retries.
    ///
    /// # Errors
    /// There is no answer.
    pub fn ping(&self, from: &str, to: &str) -> Result<Duration> {
        ping::ping(&self.netns(from), self.address(to)?)
    }

    /// A steady stream of pings between two of them.
    ///
    /// # Errors
    /// It cannot be started, or nothing answers.
    pub fn pinger(&self, from: &str, to: &str, interval: Duration) -> Result<ping::Pinger> {
        let output = self.dir.path().join(format!("ping-{from}-{to}.log"));
        ping::Pinger::start(&self.netns(from), self.address(to)?, interval, output)
    }

    /// Attaches the same number of pods to every node, called `pod-<node><n>`: one after the other on a node, on all
    /// nodes at once.
    ///
    /// # Errors
    /// The first that cannot be attached.
    pub fn attach_to_each(&self, pods_per_node: usize) -> Result<Vec<Attachment>> {
        let nodes: Vec<_> = self.nodes().map(|node| node.name()).collect();
        let attach = |node: &&str| -> Result<Vec<_>> {
            (1..=pods_per_node)
                .map(|n| self.attach(&format!("pod-{node}{n}"), node))
                .collect()
        };
        let attached: Result<Vec<_>> = concurrently(&nodes, attach).into_iter().collect();
        Ok(attached?.into_iter().flatten().collect())
    }
}

fn unique_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "{:016x}{:08x}{count:08x}",
        now.as_nanos() & u128::from(u64::MAX),
        std::process::id()
    )
}
