use std::sync::Arc;

use tokio::{net::UnixListener, task::JoinHandle};

use super::*;

/// Health of an agent whose parts the test plays.
struct Agent {
    health: Health,
    observed: watch::Sender<Observed>,
    view: watch::Sender<Arc<View>>,
    publication: watch::Sender<Publication>,
    directory: tempfile::TempDir,
}

impl Agent {
    /// One that has just been started.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (observed, observed_out) = watch::channel(Observed {
            kernel_answered: Instant::now(),
            routes_synced: false,
            forwarding: Err("ip_forward is 0".to_string()),
        });
        let starting = View {
            waiting_for: vec!["Node", "IPPool"],
            ..View::default()
        };
        let (view, view_out) = watch::channel(Arc::new(starting));
        let (publication, published) = watch::channel(Publication::NotWanted);
        let health = Health {
            reconciler: Pulse::default(),
            observed: observed_out,
            view: view_out,
            cni_socket: directory.path().join("cni.sock"),
            publication: published,
        };
        Agent {
            health,
            observed,
            view,
            publication,
            directory,
        }
    }

    fn serve_socket(&self) -> JoinHandle<()> {
        let listener = UnixListener::bind(self.directory.path().join("cni.sock")).unwrap();
        tokio::spawn(async move {
            loop {
                drop(listener.accept().await.unwrap());
            }
        })
    }

    fn get_everything(&self) {
        self.observed.send_modify(|observed| {
            observed.routes_synced = true;
            observed.forwarding = Ok(());
        });
        self.view.send_replace(Arc::new(View {
            addresses: NodeAddresses {
                v4: Some("192.0.2.1/24".parse().unwrap()),
                v6: None,
            },
            ..View::default()
        }));
    }
}

#[tokio::test]
async fn each_thing_that_is_missing_is_named() {
    let agent = Agent::new();
    let report = agent.health.ready().await;
    assert!(!report.is_good());
    let text = report.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "[-]datastore waiting for the first list of Node, IPPool"
    );
    assert!(lines[1].starts_with("[-]node-address no address"), "{text}");
    assert!(lines[2].starts_with("[-]routes "), "{text}");
    assert_eq!(lines[3], "[-]forwarding ip_forward is 0");
    assert!(
        lines[4].starts_with("[-]cni-socket ") && lines[4].contains("cni.sock: No such file"),
        "{text}"
    );
    assert_eq!(lines.len(), 5);
}

#[tokio::test]
async fn ready_is_all_of_it_and_the_configuration_where_it_is_wanted() {
    let agent = Agent::new();
    agent.get_everything();
    let socket = agent.serve_socket();
    let report = agent.health.ready().await;
    assert!(report.is_good(), "{report}");

    for (state, line) in [
        (Publication::Waiting, "[-]cni-conf not written yet\n"),
        (
            Publication::Failed("read-only".to_string()),
            "[-]cni-conf read-only\n",
        ),
    ] {
        agent.publication.send_replace(state);
        let report = agent.health.ready().await;
        assert!(
            !report.is_good() && report.to_string().ends_with(line),
            "{report}"
        );
        assert!(
            agent.health.serving().await.is_good(),
            "the configuration waits for this"
        );
    }
    agent.publication.send_replace(Publication::Written);
    assert!(agent.health.ready().await.is_good());
    socket.abort();
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_noticed() {
    let agent = Agent::new();
    agent.get_everything();
    // Bound, so that connecting works, but nobody accepts.
    let _deaf = UnixListener::bind(agent.directory.path().join("cni.sock")).unwrap();
    let report = agent.health.ready().await;
    assert!(report.to_string().contains("[-]cni-socket "), "{report}");
}

#[tokio::test]
async fn a_task_that_hangs_is_not_alive() {
    let agent = Agent::new();
    assert!(agent.health.live().is_good());
    let long_ago = Instant::now()
        .checked_sub(PULSE_LIMIT * 2)
        .expect("the machine is up for a minute");
    agent
        .observed
        .send_modify(|observed| observed.kernel_answered = long_ago);
    let report = agent.health.live();
    assert!(!report.is_good());
    assert_eq!(
        report.to_string(),
        "[+]reconciler ok\n[-]kernel no sign of life for 60 s\n"
    );
}

#[tokio::test]
async fn a_pulse_goes_on_while_its_task_waits() {
    let pulse = Pulse::default();
    let before = pulse.last();
    tokio::select! {
        never = pulse.while_waiting() => match never {},
        () = tokio::task::yield_now() => {}
    }
    assert!(pulse.last() > before, "it was not renewed");
    assert_eq!(pulse.clone().last(), pulse.last(), "clones are one");
}
