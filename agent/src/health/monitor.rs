//! The task that looks after what nobody else tells of: does the kernel's task answer, have the routes been in line
//! once, and does the node forward packets?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    kernel::{self, Kernel},
    reconciler::View,
    snapshot::NodeAddresses,
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the kernel's task last answered a question that goes all the way to the kernel.
    pub kernel_answered: Instant,
    /// Have all routes been tried once, with everything known that decides which there should be?
    pub routes_synced: bool,
    /// Does the node forward packets, and if not, why?
    pub forwarding: Result<(), String>,
}

/// Looks now and then until `stop`. `ipv6`: the node is to forward IPv6 too.
pub fn start(
    kernel: Kernel,
    view: watch::Receiver<Arc<View>>,
    ipv6: bool,
    stop: CancellationToken,
) -> watch::Receiver<Observed> {
    let (sender, receiver) = watch::channel(Observed {
        kernel_answered: Instant::now(),
        routes_synced: false,
        forwarding: Err("not looked at yet".to_string()),
    });
    let sender = Arc::new(sender);
    let work = {
        let (sender, kernel) = (sender.clone(), kernel.clone());
        async move { tokio::join!(watch_kernel(&kernel, &sender), watch_forwarding(ipv6, &sender)) }
    };
    let first_sync = async move { wait_for_routes(&kernel, view, &sender).await };
    let until = stop.clone();
    tokio::spawn(async move { until.run_until_cancelled(work).await });
    tokio::spawn(async move { stop.run_until_cancelled(first_sync).await });
    receiver
}

async fn watch_kernel(kernel: &Kernel, sender: &watch::Sender<Observed>) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        // What the answer is does not matter: that there is one does.
        if let Err(kernel::Error::Stopped) = kernel.find_link("lo").await {
            return;
        }
        sender.send_modify(|observed| observed.kernel_answered = Instant::now());
    }
}

/// Others write kernel parameters too: a start of `sysctl --system` may turn forwarding off again.
async fn watch_forwarding(ipv6: bool, sender: &watch::Sender<Observed>) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let now = forwarding(ipv6);
        sender.send_if_modified(|observed| {
            let changed = observed.forwarding != now;
            if changed {
                if let Err(reason) = &now {
                    tracing::error!(reason, "the node does not forward packets");
                }
                observed.forwarding = now;
            }
            changed
        });
    }
}

async fn wait_for_routes(
    kernel: &Kernel,
    mut view: watch::Receiver<Arc<View>>,
    sender: &watch::Sender<Observed>,
) {
    let known = |view: &Arc<View>| view.waiting_for.is_empty() && view.addresses != NodeAddresses::default();
    if view.wait_for(known).await.is_ok() && kernel.synced().await.is_ok() {
        sender.send_modify(|observed| observed.routes_synced = true);
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Turns forwarding on where it is off.
fn forwarding(ipv6: bool) -> Result<(), String> {
    kernel::enable_forwarding(ipv6).map_err(|error| {
        format!("{error}; set it on the host (a file in /etc/sysctl.d), or let the agent write to /proc/sys")
    })
}
