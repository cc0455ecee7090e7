//! `GET /metrics`, in the OpenMetrics text form. Names follow Prometheus's conventions: a unit at the end, `_total` on counters.

use super::access::Principal;
use super::listen::Fault;
use super::problem::Problem;
use super::slow::Lines;
use super::state::AppState;
use crate::key::Role;
use crate::read::{Cause, Ran, ReadError, Reader, sql};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

type Amount = Gauge<f64, AtomicU64>;

/// Seconds; a cached dashboard takes less than a millisecond, a statement five seconds at most.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Replica {
    replica: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Layer {
    layer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Statement {
    statement: &'static str,
}

/// What the service counts while it runs.
pub struct Metrics {
    registry: Registry,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    slow: Family<Route, Counter>,
    unsaid: Counter,
    statements: Family<Statement, Histogram, fn() -> Histogram>,
    failed: Family<Statement, Counter>,
    asked: Family<Target, Counter>,
    pub in_flight: Gauge,
    refused: Family<Reason, Counter>,
    pool: Family<StateLabel, Gauge>,
    pub connections: ConnectionMetrics,
    pub cache: CacheMetrics,
    pub replicas: ReplicaMetrics,
}

/// What the standbys do.
#[derive(Default)]
pub struct ReplicaMetrics {
    fallbacks: Family<CauseLabel, Counter>,
    lag: Family<Replica, Amount>,
    up: Family<Replica, Gauge>,
}

impl ReplicaMetrics {
    pub fn fell_back(&self, cause: Cause) {
        self.fallbacks.get_or_create(&CauseLabel { cause: cause.as_str() }).inc();
    }

    pub fn lags(&self, replica: &str, lag: Duration) {
        self.lag.get_or_create(&Replica { replica: replica.to_owned() }).set(lag.as_secs_f64());
    }

    pub fn up(&self, replica: &str, up: bool) {
        self.up.get_or_create(&Replica { replica: replica.to_owned() }).set(i64::from(up));
    }
}

#[derive(Default)]
pub struct ConnectionMetrics {
    pub open: Gauge,
    pub refused: Counter,
    cut: Family<Reason, Counter>,
}

impl ConnectionMetrics {
    pub fn cut(&self, fault: Fault) {
        let reason = match fault {
            Fault::SlowHead => "slow_head",
            Fault::Silent => "silent",
            Fault::Idle => "idle",
        };
        self.cut.get_or_create(&Reason { reason }).inc();
    }
}

/// What becomes of reads that could be answered from the cache.
#[derive(Default)]
pub struct CacheMetrics {
    hits: Family<Layer, Counter>,
    misses: Family<Layer, Counter>,
    pub bypassed: Counter,
    entries: Gauge,
    bytes: Gauge,
    evicted: Family<Reason, Counter>,
    invalidated: Family<Reason, Counter>,
    pub feed_connected: Gauge,
    pub live_streams: Gauge,
    pub redis_up: Gauge,
    pub redis_errors: Counter,
}

impl CacheMetrics {
    pub fn hit(&self, layer: &'static str) {
        self.hits.get_or_create(&Layer { layer }).inc();
    }

    pub fn missed(&self, layer: &'static str) {
        self.misses.get_or_create(&Layer { layer }).inc();
    }

    pub fn evicted(&self, reason: &'static str) {
        self.evicted.get_or_create(&Reason { reason }).inc();
    }

    pub fn invalidated(&self, reason: &'static str) {
        self.invalidated.get_or_create(&Reason { reason }).inc();
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("pulso"),
            latency: Family::new_with_constructor(histogram as fn() -> Histogram),
            slow: Family::default(),
            unsaid: Counter::default(),
            statements: Family::new_with_constructor(histogram as fn() -> Histogram),
            failed: Family::default(),
            asked: Family::default(),
            in_flight: Gauge::default(),
            refused: Family::default(),
            pool: Family::default(),
            connections: ConnectionMetrics::default(),
            cache: CacheMetrics::default(),
            replicas: ReplicaMetrics::default(),
        };
        let r = &mut this.registry;
        r.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's, by route",
            this.latency.clone(),
        );
        r.register(
            "statement_duration_seconds",
            "Time from a statement's sending to its last row, by its name in sql/query",
            this.statements.clone(),
        );
        r.register("statement_failures", "Statements that ended with an error", this.failed.clone());
        r.register("statements", "Statements run, by server: the primary, or a standby's address", this.asked.clone());
        r.register("http_slow_requests", "Requests that took longer than --slow-ms", this.slow.clone());
        r.register(
            "slow_lines_unsaid",
            "Lines of slow requests and statements that were not written, since there were too many in one second",
            this.unsaid.clone(),
        );
        r.register("http_requests_in_flight", "Requests being answered at this moment", this.in_flight.clone());
        r.register("http_refused_requests", "Requests refused before any work, by reason", this.refused.clone());
        r.register(
            "pool_connections",
            "Connections of the pool for reads, by state; waiting are requests without one",
            this.pool.clone(),
        );
        r.register("http_connections", "Open connections", this.connections.open.clone());
        r.register(
            "http_refused_connections",
            "Connections refused since --max-connections were open",
            this.connections.refused.clone(),
        );
        r.register(
            "http_cut_connections",
            "Connections closed since they sent no request, or none in time, by reason",
            this.connections.cut.clone(),
        );
        r.register("cache_hits", "Reads answered from the cache, by layer", this.cache.hits.clone());
        r.register("cache_misses", "Reads that a layer of the cache could not answer", this.cache.misses.clone());
        r.register(
            "cache_bypassed",
            "Reads past the cache: told to (no-cache), or no change feed",
            this.cache.bypassed.clone(),
        );
        r.register("cache_entries", "Answers in memory", this.cache.entries.clone());
        r.register("cache_bytes", "Size of the answers in memory", this.cache.bytes.clone());
        r.register(
            "cache_evictions",
            "Answers dropped from memory, for lack of room or by age",
            this.cache.evicted.clone(),
        );
        r.register(
            "cache_invalidations",
            "Times that answers became invalid, by cause",
            this.cache.invalidated.clone(),
        );
        r.register(
            "feed_connected",
            "1 while the change feed is connected; nothing is cached without",
            this.cache.feed_connected.clone(),
        );
        r.register("redis_up", "1 when Redis answered last time it was asked", this.cache.redis_up.clone());
        r.register("redis_errors", "Questions that Redis did not answer in time", this.cache.redis_errors.clone());
        r.register(
            "replica_fallbacks",
            "Reads of figures that went to the primary although there are standbys, by cause",
            this.replicas.fallbacks.clone(),
        );
        r.register(
            "replica_lag_seconds",
            "How long ago a standby was last known to lack nothing, to half a second",
            this.replicas.lag.clone(),
        );
        r.register("replica_up", "1 while a standby answers and is one", this.replicas.up.clone());
        r.register("live_streams", "Open event streams", this.cache.live_streams.clone());
        this
    }
}

impl Metrics {
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration, slow: bool) {
        let labels = RouteLabels { method: method.to_owned(), route: route.to_owned(), status };
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
        if slow {
            self.slow.get_or_create(&Route { route: route.to_owned() }).inc();
        }
    }

    /// Whether the next line of something slow is written, and how many were not since the last.
    pub fn slow_line(&self, lines: &Lines) -> Option<u64> {
        let next = lines.next();
        if next.is_none() {
            self.unsaid.inc();
        }
        next
    }

    /// The server `target` ran a statement.
    pub fn ran(&self, target: &str, ran: Ran) {
        self.asked.get_or_create(&Target { target: target.to_owned() }).inc();
        let labels = Statement { statement: ran.statement };
        self.statements.get_or_create(&labels).observe(ran.took.as_secs_f64());
        if ran.failed {
            self.failed.get_or_create(&labels).inc();
        }
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// The text without its end.
    fn encode(&self, state: &AppState) -> Result<String, std::fmt::Error> {
        let status = state.pool_status();
        for (label, number) in [
            ("idle", status.available),
            ("used", status.size.saturating_sub(status.available)),
            ("waiting", status.waiting),
            ("max", status.max_size),
        ] {
            self.pool.get_or_create(&StateLabel { state: label }).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        let (entries, bytes) = state.answers.size();
        self.cache.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.cache.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct View {
    name: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabel {
    job: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobOutcome {
    job: String,
    outcome: &'static str,
}

/// What the database knows: the same whichever service is asked.
async fn of_database(state: &AppState) -> Result<String, ReadError> {
    let client = state.primary().await?;
    let views = client.query(sql!("metrics_views"), &[]).await?;
    let jobs = client.query(sql!("metrics_jobs"), &[]).await?;
    let mut registry = Registry::with_prefix("pulso");
    let lag = Family::<View, Amount>::default();
    let (staleness, pending, wrong) =
        (Family::<View, Amount>::default(), Family::<View, Amount>::default(), Family::<View, Amount>::default());
    registry.register(
        "view_staleness_seconds",
        "Age of the figures of a rollup or a materialized view; none while it is not known",
        staleness.clone(),
    );
    registry.register("rollup_pending_changes", "Changes not folded yet, which each read adds up", pending.clone());
    registry.register(
        "rollup_fold_lag_seconds",
        "How long ago a rollup with changes to fold was folded; 0 where nothing waits",
        lag.clone(),
    );
    registry.register("view_wrong", "1 where pulso.freshness says that something is wrong with it", wrong.clone());
    for row in &views {
        let labels = View { name: row.try_get("name")?, kind: row.try_get("kind")? };
        if let Some(seconds) = row.try_get::<_, Option<f64>>("staleness_seconds")? {
            staleness.get_or_create(&labels).set(seconds);
        }
        if let Some(changes) = row.try_get::<_, Option<f64>>("pending")? {
            pending.get_or_create(&labels).set(changes);
        }
        if let Some(seconds) = row.try_get::<_, Option<f64>>("fold_lag_seconds")? {
            lag.get_or_create(&labels).set(seconds);
        }
        wrong.get_or_create(&labels).set(if row.try_get("wrong")? { 1.0 } else { 0.0 });
    }
    let (runs, took, late, paused) = (
        Family::<JobOutcome, Counter>::default(),
        Family::<JobLabel, Amount>::default(),
        Family::<JobLabel, Amount>::default(),
        Family::<JobLabel, Amount>::default(),
    );
    registry.register("job_runs", "Runs of a job since it was made, by outcome", runs.clone());
    registry.register("job_last_duration_seconds", "How long a job's last run took", took.clone());
    registry.register("job_overdue_seconds", "How long a job's next slot has been due; 0 when it is not", late.clone());
    registry.register("job_paused", "1 while a job is paused", paused.clone());
    for row in &jobs {
        let job: String = row.try_get("name")?;
        for (outcome, column) in [("done", "done_count"), ("failed", "failed_count")] {
            let count = row.try_get::<_, i64>(column)?.unsigned_abs();
            runs.get_or_create(&JobOutcome { job: job.clone(), outcome }).inc_by(count);
        }
        let labels = JobLabel { job };
        if let Some(seconds) = row.try_get::<_, Option<f64>>("last_duration_seconds")? {
            took.get_or_create(&labels).set(seconds);
        }
        late.get_or_create(&labels).set(row.try_get("overdue_seconds")?);
        paused.get_or_create(&labels).set(if row.try_get("paused")? { 1.0 } else { 0.0 });
    }
    slow_statements(&client, &mut registry).await?;
    let mut text = String::new();
    encode_registry(&mut text, &registry).map_err(|error| ReadError::Failed(error.to_string()))?;
    Ok(text)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Query {
    queryid: String,
    query: String,
}

/// The ten statements that have taken most of the server's time, whoever sent them, where pg_stat_statements is there.
async fn slow_statements(client: &Reader, registry: &mut Registry) -> Result<(), ReadError> {
    if !client.query_one(sql!("has_statements"), &[]).await?.try_get(0)? {
        return Ok(());
    }
    let rows = client.query(sql!("metrics_statements"), &[]).await?;
    let (mean, total, calls) =
        (Family::<Query, Amount>::default(), Family::<Query, Amount>::default(), Family::<Query, Amount>::default());
    let of = "of the ten statements that have taken most of the server's time since pg_stat_statements was reset";
    registry.register("server_statement_mean_seconds", format!("Mean time {of}"), mean.clone());
    registry.register("server_statement_time_seconds", format!("Time {of}"), total.clone());
    registry.register("server_statement_calls", format!("Calls {of}"), calls.clone());
    for row in &rows {
        let labels = Query { queryid: row.try_get("queryid")?, query: row.try_get("query")? };
        mean.get_or_create(&labels).set(row.try_get("mean_seconds")?);
        total.get_or_create(&labels).set(row.try_get("total_seconds")?);
        calls.get_or_create(&labels).set(row.try_get("calls")?);
    }
    Ok(())
}

/// The metrics of this service and of its database
///
/// OpenMetrics text for Prometheus. Where keys are asked for, it takes one of role admin. Figures of the database are left out while it does not answer: `pulso_database_up` says so.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service", responses((status = 200, body = String, content_type = "application/openmetrics-text", description = "The metrics")))]
pub async fn show(State(state): State<AppState>, principal: Principal) -> Result<Response, Problem> {
    principal.needs(Role::Admin)?;
    let failed = |error: std::fmt::Error| Problem::internal(error.to_string());
    let mut text = state.metrics.encode(&state).map_err(failed)?;
    let database = of_database(&state).await;
    let mut registry = Registry::with_prefix("pulso");
    let up: Gauge = Gauge::default();
    up.set(i64::from(database.is_ok()));
    registry.register("database_up", "1 when the database answered this very request", up);
    encode_registry(&mut text, &registry).map_err(failed)?;
    match database {
        Ok(more) => text.push_str(&more),
        Err(error) => tracing::debug!(%error, "metrics of the database are left out"),
    }
    encode_eof(&mut text).map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
