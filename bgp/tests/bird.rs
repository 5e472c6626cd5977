//! The speaker against BIRD 2, in network namespaces.

#![allow(clippy::unwrap_used)] // A test may.

#[path = "bird/lab.rs"]
mod lab;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bgp::{
    Asn, BestRoute, LocalRoute, Password, PeerConfig, RouteFeed, RouteQuery, RouterId, SessionState,
    Shutdown, Speaker, SpeakerConfig, SpeakerStatus,
};
use ipnet::IpNet;
use lab::{BIRD_V4, BIRD_V6, Bird, Lab, OUR_V4, OUR_V6};

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn bird_address() -> IpAddr {
    BIRD_V4.parse().unwrap()
}

fn config(remote_as: u32) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), OUR_V4.parse::<RouterId>().unwrap());
    config.listen = vec!["192.0.2.1:179".parse().unwrap()];
    let mut peer = PeerConfig::new("tor", Asn(remote_as));
    peer.next_hop_v6 = Some(OUR_V6.parse().unwrap());
    config.peers.insert(bird_address(), peer);
    config
}

fn originate(prefixes: &[&str]) -> BTreeMap<IpNet, LocalRoute> {
    prefixes
        .iter()
        .map(|text| (prefix(text), LocalRoute::default()))
        .collect()
}

/// The best routes as somebody who follows the feed knows them.
struct Follower {
    feed: RouteFeed,
    routes: BTreeMap<IpNet, BestRoute>,
    /// Prefixes that were taken away at some time.
    withdrawn: Vec<IpNet>,
    converged: bool,
}

impl Follower {
    fn new(feed: RouteFeed) -> Self {
        Self {
            feed,
            routes: BTreeMap::new(),
            withdrawn: Vec::new(),
            converged: false,
        }
    }

    async fn follow(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(50), self.feed.next()).await;
        let Ok(Some(changes)) = next else { return };
        self.converged = changes.converged;
        for (prefix, best) in changes.changed {
            match best {
                Some(best) => self.routes.insert(prefix, best),
                None => {
                    self.withdrawn.push(prefix);
                    self.routes.remove(&prefix)
                }
            };
        }
    }

    async fn until(&mut self, lab: &Lab, what: &str, wanted: impl Fn(&Self) -> bool) {
        lab.eventually(what, async || {
            self.follow().await;
            if wanted(self) {
                Ok(())
            } else {
                Err(format!("{:#?}", self.routes))
            }
        })
        .await;
    }

    fn has(&self, text: &str) -> bool {
        self.routes.contains_key(&prefix(text))
    }
}

async fn until_state(lab: &Lab, speaker: &Speaker, state: SessionState) -> SpeakerStatus {
    lab.eventually(&format!("session {state}"), async || {
        let status = speaker.status().await;
        if status.peers[0].state == state {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
    speaker.status().await
}

#[test]
fn routes_of_both_families_go_both_ways_and_are_withdrawn() {
    for remote_as in [64512, 64513] {
        let Some(lab) = Lab::new() else { return };
        lab.start_bird(
            &Bird {
                local_as: remote_as,
                ..Bird::default()
            },
            false,
        );
        lab.run(|| async {
            let ours = originate(&["10.1.0.0/26", "fd00:1::/122"]);
            let (speaker, feed) = Speaker::start(config(remote_as), ours).await.unwrap();
            let mut follower = Follower::new(feed);
            follower
                .until(&lab, "BIRD's routes", |f| {
                    f.has("198.51.100.0/24") && f.has("2001:db8:ffff::/48")
                })
                .await;
            follower.until(&lab, "convergence", |f| f.converged).await;
            let v4 = &follower.routes[&prefix("198.51.100.0/24")];
            assert_eq!(v4.next_hops, [bird_address()]);
            assert_eq!(v4.external, remote_as != 64512);
            let v6 = &follower.routes[&prefix("2001:db8:ffff::/48")];
            assert_eq!(v6.next_hops, [BIRD_V6.parse::<IpAddr>().unwrap()]);

            lab.bird_shows("show route for 10.1.0.0/26 all", OUR_V4, true)
                .await;
            lab.bird_shows("show route for fd00:1::/122 all", OUR_V6, true)
                .await;
            speaker.set_routes(originate(&["10.1.0.64/26"])).await;
            lab.bird_shows("show route", "10.1.0.0/26", false).await;
            lab.bird_shows("show route", "fd00:1::/122", false).await;
            lab.bird_shows("show route", "10.1.0.64/26", true).await;

            lab.birdc("disable static4");
            follower
                .until(&lab, "withdrawal", |f| !f.has("198.51.100.0/24"))
                .await;
            assert!(follower.has("2001:db8:ffff::/48"));

            let shown = speaker.routes(RouteQuery::Prefix(prefix("10.1.0.64/26"))).await;
            assert!(shown[0].advertised_to[0].outcome.is_sent(), "{shown:#?}");
            speaker
                .shutdown(Shutdown::Administrative("moved to another rack".to_owned()))
                .await;
            lab.bird_shows("show protocols all ours", "moved to another rack", true)
                .await;
            lab.bird_shows("show route", "10.1.0.64/26", false).await;
        });
    }
}

#[test]
fn either_side_may_be_the_one_that_connects() {
    for we_are_passive in [true, false] {
        let Some(lab) = Lab::new() else { return };
        lab.start_bird(
            &Bird {
                options: if we_are_passive { "" } else { "passive on;" },
                ..Bird::default()
            },
            false,
        );
        lab.run(|| async {
            let mut config = config(64513);
            config.peers.get_mut(&bird_address()).unwrap().passive = we_are_passive;
            let (speaker, _feed) = Speaker::start(config, originate(&["10.1.0.0/26"])).await.unwrap();
            let status = until_state(&lab, &speaker, SessionState::Established).await;
            let session = status.peers[0].session.clone().unwrap();
            assert!(
                session.graceful_restart && session.four_octet_as && session.route_refresh,
                "{session:#?}"
            );
            lab.bird_shows("show route", "10.1.0.0/26", true).await;
            lab.birdc("reload in ours");
            lab.bird_shows("show protocols all ours", "Established", true)
                .await;
        });
    }
}

#[test]
fn bird_keeps_our_routes_while_we_are_replaced() {
    let Some(lab) = Lab::new() else { return };
    lab.start_bird(&Bird::default(), false);
    lab.run(|| async {
        let ours = originate(&["10.1.0.0/26", "10.1.0.64/26"]);
        let (speaker, _feed) = Speaker::start(config(64513), ours).await.unwrap();
        lab.bird_shows("show route", "10.1.0.64/26", true).await;
        speaker.shutdown(Shutdown::Restart).await;
        lab.bird_shows("show protocols ours", "Established", false).await;
        assert!(
            lab.birdc("show route").contains("10.1.0.0/26"),
            "{}",
            lab.birdc("show route")
        );

        // Back, with one route less.
        let again = SpeakerConfig {
            restarting: true,
            ..config(64513)
        };
        let (speaker, feed) = Speaker::start(again, originate(&["10.1.0.0/26"])).await.unwrap();
        let mut follower = Follower::new(feed);
        lab.eventually("the dropped route goes, the other never does", async || {
            follower.follow().await;
            let routes = lab.birdc("show route");
            assert!(routes.contains("10.1.0.0/26"), "{routes}\n{}", lab.bird_log());
            if routes.contains("10.1.0.64/26") {
                Err(routes)
            } else {
                Ok(())
            }
        })
        .await;
        follower
            .until(&lab, "convergence", |f| f.converged && f.has("198.51.100.0/24"))
            .await;
        let status = speaker.status().await;
        assert!(status.converged);
        assert_eq!(
            status.peers[0]
                .session
                .as_ref()
                .unwrap()
                .end_of_rib_received
                .len(),
            2
        );
    });
}

#[test]
fn we_keep_birds_routes_while_it_is_replaced() {
    let Some(lab) = Lab::new() else { return };
    let before = Bird {
        routes_v4: vec!["198.51.100.0/24", "203.0.113.0/24"],
        ..Bird::default()
    };
    lab.start_bird(&before, false);
    lab.run(|| async {
        let (speaker, feed) = Speaker::start(config(64513), originate(&["10.1.0.0/26"]))
            .await
            .unwrap();
        let mut follower = Follower::new(feed);
        follower
            .until(&lab, "BIRD's routes", |f| f.has("203.0.113.0/24") && f.converged)
            .await;
        lab.kill_bird();
        lab.eventually("stale routes", async || {
            let status = speaker.status().await;
            match &status.peers[0].stale {
                Some(stale) if stale.prefixes == 3 => Ok(()),
                _ => Err(format!("{status:#?}")),
            }
        })
        .await;
        lab.start_bird(&Bird::default(), true);
        follower
            .until(&lab, "the route that BIRD no longer has", |f| {
                !f.has("203.0.113.0/24")
            })
            .await;
        let status = until_state(&lab, &speaker, SessionState::Established).await;
        assert_eq!(status.peers[0].stale, None);
        assert_eq!(follower.withdrawn, [prefix("203.0.113.0/24")]);
        assert!(follower.has("198.51.100.0/24") && follower.has("2001:db8:ffff::/48"));
        lab.bird_shows("show route", "10.1.0.0/26", true).await;
    });
}

#[test]
fn a_wrong_as_is_refused_with_its_code_and_mended_without_a_restart() {
    let Some(lab) = Lab::new() else { return };
    lab.start_bird(&Bird::default(), false);
    lab.run(|| async {
        let (speaker, _feed) = Speaker::start(config(64999), originate(&["10.1.0.0/26"]))
            .await
            .unwrap();
        lab.eventually("the error", async || {
            let status = speaker.status().await;
            match &status.peers[0].last_error {
                Some(error) if error.contains("Bad Peer AS") => Ok(()),
                _ => Err(format!("{status:#?}")),
            }
        })
        .await;
        speaker.configure(config(64513)).await.unwrap();
        until_state(&lab, &speaker, SessionState::Established).await;
        lab.bird_shows("show route", "10.1.0.0/26", true).await;
    });
}

#[test]
fn a_bird_without_extensions_and_with_the_shortest_hold_time_stays_up() {
    let Some(lab) = Lab::new() else { return };
    let options = "enable as4 off; enable route refresh off; graceful restart off; hold time 3;";
    lab.start_bird(
        &Bird {
            options,
            ..Bird::default()
        },
        false,
    );
    lab.run(|| async {
        let (speaker, feed) = Speaker::start(config(64513), originate(&["10.1.0.0/26"]))
            .await
            .unwrap();
        let mut follower = Follower::new(feed);
        // Nobody says End-of-RIB here; the first KEEPALIVE with nothing else to say stands for it.
        follower
            .until(&lab, "convergence", |f| f.converged && f.has("198.51.100.0/24"))
            .await;
        assert_eq!(follower.routes[&prefix("198.51.100.0/24")].as_path, "64513");
        lab.bird_shows("show route for 10.1.0.0/26 all", "BGP.as_path: 64512", true)
            .await;
        lab.eventually("keepalives", async || {
            let peer = speaker.status().await.peers.remove(0);
            assert_eq!(peer.counters.flaps, 0, "{peer:#?}\n{}", lab.bird_log());
            let session = peer.session.clone().unwrap();
            assert_eq!((session.hold_time, session.four_octet_as), (3, false));
            assert!(!session.graceful_restart && !session.route_refresh);
            if peer.counters.messages_out > 9 {
                Ok(())
            } else {
                Err(format!("{peer:#?}"))
            }
        })
        .await;
    });
}

#[test]
fn a_session_over_ipv6_to_a_direct_neighbour_carries_both_families() {
    let Some(lab) = Lab::new() else { return };
    lab.start_bird(
        &Bird {
            over_v6: true,
            ..Bird::default()
        },
        false,
    );
    lab.run(|| async {
        let mut config = config(64513);
        let mut peer = config.peers.remove(&bird_address()).unwrap();
        peer.next_hop_v4 = Some(OUR_V4.parse().unwrap());
        peer.next_hop_v6 = None;
        peer.source = Some(OUR_V6.parse().unwrap());
        peer.multihop = false;
        config.listen.push(format!("[{OUR_V6}]:179").parse().unwrap());
        config.peers.insert(BIRD_V6.parse().unwrap(), peer);
        let ours = originate(&["10.1.0.0/26", "fd00:1::/122"]);
        let (_speaker, feed) = Speaker::start(config, ours).await.unwrap();
        let mut follower = Follower::new(feed);
        let both = |f: &Follower| f.has("198.51.100.0/24") && f.has("2001:db8:ffff::/48");
        follower.until(&lab, "BIRD's routes", both).await;
        assert_eq!(
            follower.routes[&prefix("198.51.100.0/24")].next_hops,
            [bird_address()]
        );
        lab.bird_shows("show route for 10.1.0.0/26 all", OUR_V4, true)
            .await;
        lab.bird_shows("show route for fd00:1::/122 all", OUR_V6, true)
            .await;
    });
}

/// Either side connects; over either version of IP. Then the password changes at our end, and back.
#[test]
fn sessions_with_a_password() {
    for (over_v6, bird_waits) in [(false, true), (false, false), (true, true), (true, false)] {
        let Some(lab) = Lab::new() else { return };
        let options = match bird_waits {
            true => "password \"s3cret\"; passive on;",
            false => "password \"s3cret\";",
        };
        let bird = Bird {
            over_v6,
            options,
            ..Bird::default()
        };
        lab.start_bird(&bird, false);
        lab.run(|| async {
            let mut config = config(64513);
            let mut peer = config.peers.remove(&bird_address()).unwrap();
            peer.passive = !bird_waits;
            peer.next_hop_v4 = Some(OUR_V4.parse().unwrap());
            peer.password = Some(Password::new("s3cret").unwrap());
            config.listen.push(format!("[{OUR_V6}]:179").parse().unwrap());
            let address: IpAddr = if over_v6 { BIRD_V6 } else { BIRD_V4 }.parse().unwrap();
            config.peers.insert(address, peer);
            let (speaker, _feed) = Speaker::start(config.clone(), originate(&["10.1.0.0/26"]))
                .await
                .unwrap();
            until_state(&lab, &speaker, SessionState::Established).await;
            lab.bird_shows("show route for 10.1.0.0/26", "10.1.0.0/26", true)
                .await;

            let mut wrong = config.clone();
            wrong.peers.get_mut(&address).unwrap().password = Some(Password::new("other").unwrap());
            speaker.configure(wrong).await.unwrap();
            lab.bird_shows("show protocols ours", "Established", false).await;
            speaker.configure(config).await.unwrap();
            let status = until_state(&lab, &speaker, SessionState::Established).await;
            assert_eq!(status.peers[0].counters.flaps, 1, "{status:#?}");
        });
    }
}
