//! Which API server, and who we are there.
//!
//! Without an address: `KUBECONFIG` where it is set; in a pod (Kubernetes sets `KUBERNETES_SERVICE_HOST`) the service
//! account, whose token is read again as it is renewed; else `~/.kube/config`. What is chosen is used, or its error
//! is told: there is no quiet falling back to another cluster.

use std::path::PathBuf;

use http::{HeaderValue, header::USER_AGENT};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::{Error, Result};

/// Sent with every request; API servers log it.
const AGENT: &str = concat!("routelet/", env!("CARGO_PKG_VERSION"));
/// Between an address's path and its context.
const CONTEXT: &str = "?context=";

/// Where a configuration comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// This kubeconfig.
    File(PathBuf),
    /// The files of `KUBECONFIG`.
    Environment,
    ServiceAccount,
    /// `~/.kube/config`.
    Home,
}

/// Reads the configuration of an address: `[PATH][?context=NAME]`.
pub(super) async fn load(address: &str) -> Result<Config> {
    let (path, context) = match address.split_once(CONTEXT) {
        Some((path, context)) => (path, Some(context.to_string())),
        None => (address, None),
    };
    let source = source(path, context.is_some(), |name| {
        std::env::var_os(name).is_some_and(|value| !value.is_empty())
    });
    let from = describe(&source);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Kubeconfig {
        from: from.clone(),
        source,
    };
    let kubeconfig = match &source {
        Source::File(path) => Some(Kubeconfig::read_from(path).map_err(|e| failed(e.into()))?),
        Source::Environment | Source::Home => Some(Kubeconfig::read().map_err(|e| failed(e.into()))?),
        Source::ServiceAccount => None,
    };
    let mut config = match kubeconfig {
        Some(kubeconfig) => {
            let options = KubeConfigOptions {
                context,
                ..KubeConfigOptions::default()
            };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|e| failed(e.into()))?
        }
        None => Config::incluster().map_err(|e| failed(e.into()))?,
    };
    if is_loopback(config.cluster_url.host()) {
        // As in every client of Go's: a proxy for the world is not asked for what is on this machine.
        config.proxy_url = None;
    }
    // Throttling and retries are ours (`connection`).
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(config)
}

fn source(path: &str, with_context: bool, is_set: impl Fn(&str) -> bool) -> Source {
    if !path.is_empty() {
        Source::File(PathBuf::from(path))
    } else if is_set("KUBECONFIG") {
        Source::Environment
    } else if is_set("KUBERNETES_SERVICE_HOST") && !with_context {
        Source::ServiceAccount
    } else {
        Source::Home
    }
}

fn describe(source: &Source) -> String {
    match source {
        Source::File(path) => format!("the kubeconfig {}", path.display()),
        Source::Environment => {
            let files = std::env::var_os("KUBECONFIG").unwrap_or_default();
            format!("KUBECONFIG={}", files.display())
        }
        Source::ServiceAccount => "the pod's service account".to_string(),
        Source::Home => {
            "~/.kube/config (this is no pod, KUBECONFIG is not set, and the datastore's address names no file)"
                .to_string()
        }
    }
}

fn is_loopback(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_with(path: &str, with_context: bool, set: &[&str]) -> Source {
        source(path, with_context, |name| set.contains(&name))
    }

    #[test]
    fn the_nearest_configuration_counts() {
        let all = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"];
        assert_eq!(source_with("/x", false, &all), Source::File("/x".into()));
        assert_eq!(source_with("", false, &all), Source::Environment);
        assert_eq!(source_with("", false, &all[1..]), Source::ServiceAccount);
        assert_eq!(source_with("", true, &all[1..]), Source::Home);
        assert_eq!(source_with("", false, &[]), Source::Home);
    }

    #[test]
    fn loopback_is_known() {
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            assert!(is_loopback(Some(host)), "{host}");
        }
        for host in [None, Some("10.0.0.1"), Some("kubernetes.default.svc")] {
            assert!(!is_loopback(host), "{host:?}");
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named_with_the_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config");
        let load = async |address: String| load(&address).await.expect_err("of no use").to_string();
        let text = load(path.display().to_string()).await;
        assert!(text.contains("config") && text.contains("No such file"), "{text}");
        std::fs::write(&path, "clusters: 7").expect("written");
        let text = load(path.display().to_string()).await;
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
        std::fs::write(&path, "apiVersion: v1\nkind: Config\n").expect("written");
        let text = load(format!("{}?context=nowhere", path.display())).await;
        assert!(text.contains("nowhere"), "{text}");
    }
}
