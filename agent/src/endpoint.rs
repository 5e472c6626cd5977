//! What the agent shows over HTTP: `/livez`, `/readyz` and `/metrics`.

use hyper::StatusCode;

use crate::{
    health::{Health, Report},
    http::Answer,
    metrics::Scraper,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is answered from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// For the probes.
    pub health: Health,
    /// For the metrics.
    pub scraper: Scraper,
}

impl Endpoint {
    /// Answers a GET of this path.
    pub async fn answer(self, path: String) -> Answer {
        match path.as_str() {
            "/livez" => probe(&self.health.live()),
            "/readyz" => probe(&self.health.ready().await),
            "/metrics" => match self.scraper.scrape().await {
                Ok(body) => Answer {
                    status: StatusCode::OK,
                    content_type: OPEN_METRICS,
                    body,
                },
                Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => Answer::text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
        }
    }
}

/// 200 or 503, and every check with what is missing.
fn probe(report: &Report) -> Answer {
    let status = if report.is_good() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Answer::text(status, report.to_string())
}
