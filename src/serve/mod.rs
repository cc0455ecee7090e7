//! `pulso serve`: the figures over HTTP, and the housekeeping that keeps them cheap to read.

pub mod access;
mod asked;
mod boundary;
mod cache;
mod cursor;
pub mod feed;
mod flights;
mod listen;
mod live;
mod manners;
mod metrics;
mod openapi;
pub mod params;
mod problem;
pub mod replicas;
mod routes;
pub mod shared;
mod slow;
mod state;

pub use listen::Limits;
pub use openapi::openapi_json;
pub use state::{AppState, Settings};

use crate::db::Server;
use crate::error::{Error, Kind, Result};
use crate::read::Pooling;
use crate::{fold, interrupt, job, logs, migrate, pooler, worker};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Only a batch has a body.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Requests under way get this long to finish once the service is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "PULSO_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Connections kept for reads
    #[arg(long, env = "PULSO_POOL_SIZE", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=500), value_name = "N")]
    pub pool_size: u16,

    /// Requests for figures answered at once; more wait for their turn, 5 seconds at most, and are then told to come back
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub max_in_flight: u16,

    /// Connections open at once; more are refused
    #[arg(long, env = "PULSO_MAX_CONNECTIONS", default_value_t = Limits::default().connections, value_parser = connections, value_name = "N")]
    pub max_connections: usize,

    /// Seconds that a connection may stay open without a request; longer than a proxy in front keeps it
    #[arg(long, env = "PULSO_KEEP_ALIVE", default_value_t = Limits::default().idle.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    pub keep_alive: u64,

    /// Run `pulso migrate up` first
    #[arg(long)]
    pub migrate: bool,

    /// Verify the rollups each night at this time: sets the schedule of job verify_rollups (`pulso job`)
    #[arg(long, value_name = "HH:MM")]
    pub verify_at: Option<String>,

    /// IANA time zone of --verify-at
    #[arg(long, env = "PULSO_TIME_ZONE", default_value = "America/Caracas", value_name = "ZONE")]
    pub time_zone: String,

    /// Whether callers have to say who they are
    #[arg(long, env = "PULSO_AUTH", value_enum, default_value_t, value_name = "MODE")]
    pub auth: access::Mode,

    /// Requests a minute of each key; 0 is no limit
    #[arg(long, env = "PULSO_RATE_LIMIT", default_value_t = 600, value_name = "N")]
    pub rate_limit: u32,

    /// Origin whose pages may ask this service from a browser, as https://panel.example; may be given several times
    #[arg(long = "cors-origin", env = "PULSO_CORS_ORIGINS", value_delimiter = ',', value_parser = origin, value_name = "ORIGIN")]
    pub cors_origins: Vec<HeaderValue>,

    /// From how many milliseconds on a request is logged as slow
    #[arg(long, env = "PULSO_SLOW_MS", default_value_t = 1000, value_name = "MS")]
    pub slow_ms: u64,

    /// Log the plan of a slow statement too, once a minute of each
    #[arg(long, env = "PULSO_EXPLAIN_SLOW", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub explain_slow: bool,

    #[command(flatten)]
    pub tokens: access::TokenArgs,

    /// What is between the reads and the server
    #[arg(long, env = "PULSO_POOLER", value_enum, default_value_t, value_name = "KIND")]
    pub pooler: pooler::Wish,

    /// Standbys further behind are not read
    #[arg(long, env = "PULSO_MAX_REPLICA_LAG", default_value = "2s", value_parser = replicas::lag, value_name = "TIME")]
    pub max_replica_lag: Duration,

    /// Redis or Valkey in which several services share kept answers and the counts of rate limits
    #[arg(long, env = "PULSO_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,

    /// Run no jobs here: `pulso worker` does elsewhere
    #[arg(long)]
    pub no_jobs: bool,

    /// Form of the log lines on stderr; PULSO_LOG sets what is logged
    #[arg(long, value_enum, default_value_t)]
    pub log_format: logs::Format,
}

pub async fn run(server: &Server, args: ServeArgs) -> Result<ExitCode> {
    logs::init("info", args.log_format);
    let mut settings = args.settings(server.read_urls())?;
    let stop = interrupt::token();
    match stop.run_until_cancelled(prepare(server, &args)).await {
        Some(outcome) => settings.pooling = outcome?,
        None => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
    }
    listen::make_room(args.max_connections);
    let state = AppState::with(server.url_of_reads(), settings)?;
    let service = Service::start(state.clone(), args.listen, stop.clone()).await?;
    let direct = server.url();
    state.follow(direct, feed::CHANNEL, stop.clone());
    println!("Pulso at {}", service.url());
    let folder = tokio::spawn(fold::keep_folded(direct.to_owned(), stop.clone()));
    let worker = tokio::spawn({
        let (jobs, stop) = ((!args.no_jobs).then(|| worker::Options::new(direct)), stop.clone());
        async move {
            if let Some(options) = jobs {
                worker::run(options, stop).await;
            }
        }
    });

    let counting = tokio::spawn(Arc::clone(&state.access).keep_count(direct.to_owned(), stop.clone()));

    stop.cancelled().await;
    tracing::info!("stopping; requests under way may finish");
    let outcome = service.finished().await;
    let _ = tokio::time::timeout(Duration::from_secs(12), async { tokio::join!(folder, worker, counting) }).await;
    if let Err(error) = state.access.write_down(direct).await {
        tracing::warn!(%error, "what keys were used for in the last seconds could not be written down");
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

impl ServeArgs {
    /// With the standbys that figures may be read from.
    pub fn settings(&self, read_urls: &[String]) -> Result<Settings> {
        // Refused now, not at the first night.
        for url in read_urls {
            replicas::name(url)?;
        }
        worker::Schedule::parse(&format!("daily {}", self.verify_at.as_deref().unwrap_or("04:30")), &self.time_zone)?;
        Ok(Settings {
            pool_size: self.pool_size.into(),
            pooling: Pooling::default(),
            max_in_flight: self.max_in_flight.into(),
            limits: Limits {
                connections: self.max_connections,
                idle: Duration::from_secs(self.keep_alive),
                ..Limits::default()
            },
            access: access::Settings {
                mode: self.auth,
                tokens: access::Tokens::load(&self.tokens)?,
                per_minute: self.rate_limit,
            },
            cors: self.cors_origins.clone(),
            slow: Duration::from_millis(self.slow_ms),
            explain_slow: self.explain_slow,
            redis: self.redis_url.as_deref().map(shared::Address::parse).transpose()?,
            replicas: replicas::Settings {
                urls: read_urls.to_vec(),
                max_lag: self.max_replica_lag,
                pooler: self.pooler,
            },
        })
    }
}

fn connections(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "must be 1 to 1000000".to_owned())
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let plain = text
        .parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme().is_some() && uri.authority().is_some() && uri.path() == "/" && !text.ends_with('/'));
    let value = HeaderValue::from_str(text).ok();
    plain.and(value).ok_or_else(|| "an origin is a scheme and a host, as https://panel.example".to_owned())
}

/// The database as the service needs it: migrated, by this call where it is told to. How reads reach it.
async fn prepare(server: &Server, args: &ServeArgs) -> Result<Pooling> {
    server.require_sessions().await?;
    if args.migrate {
        for step in migrate::up(&mut server.connect().await?).await? {
            tracing::info!(step, "migrated");
        }
    }
    let client = server.migrated().await?;
    if let Some(time) = &args.verify_at {
        job::reschedule(&client, "verify_rollups", &format!("daily {time}"), &args.time_zone, None).await?;
    }
    let pooling = match server.url_of_reads() == server.url() {
        true => Pooling::Session,
        false => args.pooler.pooling(server.url_of_reads()).await?,
    };
    if let Pooling::Transaction { prepared } = pooling {
        let statements = if prepared { "prepared" } else { "unnamed" };
        tracing::info!(statements, "reads go through a pooler in transaction mode");
    }
    Ok(pooling)
}

/// The routes without their middleware; the OpenAPI document is made of them.
fn api_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::Api::openapi())
        .merge(routes::figures())
        .merge(routes::service())
        .routes(routes!(metrics::show))
}

/// Everything a request meets.
pub fn router(state: AppState) -> Router {
    let figures = routes::figures().layer(from_fn_with_state(state.clone(), guarded));
    // Guarded like the figures, and answered however busy those are.
    let watched =
        OpenApiRouter::new().routes(routes!(metrics::show)).layer(from_fn_with_state(state.clone(), access::admit));
    let (router, _) =
        OpenApiRouter::<AppState>::new().merge(figures).merge(watched).merge(routes::service()).split_for_parts();
    let watch = boundary::Watch::new(Arc::clone(&state.metrics), state.slow);
    let router = armoured(router, watch, &state.cors);
    router.with_state(state)
}

/// What a request for figures passes. One layer: each is cloned and boxed again for every request, and all that is within it.
async fn guarded(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let figures = |request: Request| manners::mannerly(request, |request| next.run(request));
    let asked = |request: Request| asked::asked(&state, request, figures);
    let admitted = |request: Request| access::admitted(&state, request, asked);
    boundary::bounds(&state, request, admitted).await
}

/// The figures for requests that were let in already: those of a batch.
fn inner_figures(state: AppState) -> Router {
    let (router, _) = OpenApiRouter::<AppState>::new().merge(routes::figures()).split_for_parts();
    router.layer(from_fn(manners::manners)).layer(CatchPanicLayer::custom(boundary::panicked)).with_state(state)
}

/// With what every request passes, the outermost first.
fn armoured<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    watch: boundary::Watch,
    origins: &[HeaderValue],
) -> Router<S> {
    let cors = (!origins.is_empty()).then(|| cors(origins));
    router.layer((
        CompressionLayer::new(),
        option_layer(cors),
        from_fn_with_state(watch, boundary::boundary),
        CatchPanicLayer::custom(boundary::panicked),
        RequestBodyLimitLayer::new(MAX_BODY_BYTES),
    ))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::CACHE_CONTROL,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("last-event-id"),
            asked::AFTER,
        ])
        .expose_headers([
            header::ETAG,
            header::LINK,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("ratelimit-remaining"),
            asked::HELD,
        ])
        .max_age(Duration::from_secs(3600))
}

/// A service that listens.
pub struct Service {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    /// Listens until `stop` is cancelled, then lets requests under way finish within the drain's deadline.
    pub async fn start(state: AppState, listen: SocketAddr, stop: CancellationToken) -> Result<Self> {
        state.access.settle(listen, &state).await?;
        let listener = listen::bind(listen).map_err(|error| bind_error(listen, &error))?;
        let address = listener.local_addr()?;
        let closing = state.stop.clone();
        let task = tokio::spawn(async move {
            let stopped = stop.clone();
            tokio::spawn(async move {
                stopped.cancelled().await;
                closing.cancel();
            });
            let (metrics, at_once) = (Arc::clone(&state.metrics), state.permits.available_permits());
            let serving = listen::serve(listener, router(state.clone()), state.limits, at_once, metrics, stop.clone());
            let sockets = state.sockets.clone();
            let served = async move {
                serving.await;
                // WebSockets outlive the requests that they came by.
                sockets.close();
                sockets.wait().await;
            };
            tokio::select! {
                () = served => {}
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
                    tracing::warn!(deadline_s = DRAIN.as_secs(), "some requests did not finish in time");
                }
            };
            state.close();
        });
        Ok(Self { address, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the end of the service.
    pub async fn finished(self) -> Result<()> {
        self.task.await.map_err(|error| Error::failed(format!("the service ended: {error}")))
    }
}

fn bind_error(listen: SocketAddr, error: &std::io::Error) -> Error {
    let this = Error::new(Kind::Failed, format!("cannot listen on {listen}: {error}"));
    match error.kind() {
        ErrorKind::AddrInUse => this.with_hint("Another program has the port, perhaps another pulso; choose one with --listen 127.0.0.1:8081, or a free one with port 0."),
        ErrorKind::AddrNotAvailable => this.with_hint("This machine has no such address; 0.0.0.0 listens on all it has."),
        ErrorKind::PermissionDenied => this.with_hint("Ports below 1024 need privileges; choose a higher one."),
        _ => this,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        async fn fails() -> &'static str {
            panic!("the password is 1234")
        }
        let watch = boundary::Watch::new(Arc::default(), Duration::from_secs(1));
        let router: Router = armoured(Router::new().route("/", axum::routing::get(fails)), watch, &[]);
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let body = to_bytes(response.into_body(), 10_000).await.expect("a body");
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("urn:pulso:problem:internal") && !text.contains("1234"), "{text}");
    }
}
