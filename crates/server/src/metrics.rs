//! What is measured, for Prometheus to fetch from the operator's listener.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{ALLOW, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use time::UtcDateTime;
use vestibule_metrics::{ALL, BUILD_INFO, Kind, START_TIME, describe};

/// How often what histograms have been given is added up, whether or not anybody fetches it: until then they keep each value.
const ADD_UP_EVERY: Duration = Duration::from_secs(1);

/// The text format, in its version.
const TEXT: &str = "text/plain; version=0.0.4";

/// What is looked at only when somebody asks.
pub(crate) type Look = Arc<dyn Fn() + Send + Sync>;

/// All that was recorded.
#[derive(Clone)]
pub(crate) struct Metrics(PrometheusHandle);

impl Metrics {
    /// Records from now on. What keeps a metric at hand must be made after this.
    pub(crate) fn record(now: UtcDateTime) -> anyhow::Result<Self> {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        let metrics = Self(recorder.handle());
        metrics::set_global_recorder(recorder).ok().context("metrics are recorded already")?;
        describe(ALL);
        BUILD_INFO.of([env!("CARGO_PKG_VERSION").into()]).set(1);
        #[expect(clippy::cast_precision_loss, reason = "exact for some hundred million years")]
        START_TIME.of([]).set(now.unix_timestamp() as f64);
        Ok(metrics)
    }

    /// Adds up as long as it is polled.
    pub(crate) async fn add_up(self) {
        let mut interval = tokio::time::interval(ADD_UP_EVERY);
        loop {
            interval.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Registers the route.
pub(crate) fn register(config: &mut ServiceConfig, metrics: Metrics, look: Look) {
    let resource = web::resource("/metrics")
        .app_data(Data::new(metrics))
        .app_data(Data::from(Arc::new(look)))
        .route(web::get().to(show))
        .default_service(web::to(|| async {
            HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET")).finish()
        }));
    config.service(resource);
}

async fn show(metrics: Data<Metrics>, look: Data<Look>) -> HttpResponse {
    look();
    HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT)).body(metrics.0.render())
}
