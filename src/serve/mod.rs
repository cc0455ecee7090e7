//! `pulso serve`: the figures over HTTP, and the housekeeping that keeps them cheap to read.

pub mod access;
mod boundary;
mod cache;
pub mod feed;
mod listen;
mod live;
mod manners;
mod metrics;
mod openapi;
pub mod params;
mod problem;
mod routes;
pub mod shared;
mod slow;
mod state;

pub use openapi::openapi_json;
pub use state::{AppState, Settings};

use crate::db::Server;
use crate::error::{Error, Kind, Result};
use crate::read::Pooling;
use crate::{fold, interrupt, job, logs, migrate, pooler, worker};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
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

    /// Requests answered at once; more are told to come back
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub max_in_flight: u16,

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
    let mut settings = args.settings()?;
    let stop = interrupt::token();
    match stop.run_until_cancelled(prepare(server, &args)).await {
        Some(outcome) => settings.pooling = outcome?,
        None => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
    }
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

    stop.cancelled().await;
    tracing::info!("stopping; requests under way may finish");
    let outcome = service.finished().await;
    let _ = tokio::time::timeout(Duration::from_secs(12), async { tokio::join!(folder, worker) }).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

impl ServeArgs {
    pub fn settings(&self) -> Result<Settings> {
        // Refused now, not at the first night.
        worker::Schedule::parse(&format!("daily {}", self.verify_at.as_deref().unwrap_or("04:30")), &self.time_zone)?;
        Ok(Settings {
            pool_size: self.pool_size.into(),
            pooling: Pooling::default(),
            max_in_flight: self.max_in_flight.into(),
            access: access::Settings {
                mode: self.auth,
                tokens: access::Tokens::load(&self.tokens)?,
                per_minute: self.rate_limit,
            },
            cors: self.cors_origins.clone(),
            slow: Duration::from_millis(self.slow_ms),
            explain_slow: self.explain_slow,
            redis: self.redis_url.as_deref().map(shared::Address::parse).transpose()?,
        })
    }
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
    let mut client = server.connect().await?;
    if args.migrate {
        for step in migrate::up(&mut client).await? {
            tracing::info!(step, "migrated");
        }
    } else {
        migrate::require(&client).await?;
    }
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
    let figures = routes::figures()
        .layer(from_fn(manners::manners))
        .layer(from_fn_with_state(state.clone(), access::admit))
        .layer(from_fn_with_state(state.clone(), boundary::bounds));
    // Guarded like the figures, and answered however busy those are.
    let watched =
        OpenApiRouter::new().routes(routes!(metrics::show)).layer(from_fn_with_state(state.clone(), access::admit));
    let (router, _) =
        OpenApiRouter::<AppState>::new().merge(figures).merge(watched).merge(routes::service()).split_for_parts();
    let watch = boundary::Watch { metrics: Arc::clone(&state.metrics), slow: state.slow };
    let router = armoured(router, watch, &state.cors);
    router.with_state(state)
}

/// The figures for requests that were let in already: those of a batch.
fn inner_figures(state: AppState) -> Router {
    let (router, _) = OpenApiRouter::<AppState>::new().merge(routes::figures()).split_for_parts();
    router.layer(from_fn(manners::manners)).layer(CatchPanicLayer::custom(boundary::panicked)).with_state(state)
}

/// With what every request passes; the last layer is the outermost.
fn armoured<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    watch: boundary::Watch,
    origins: &[HeaderValue],
) -> Router<S> {
    let router = router
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(boundary::panicked))
        .layer(from_fn_with_state(watch, boundary::boundary));
    let router = if origins.is_empty() { router } else { router.layer(cors(origins)) };
    router.layer(CompressionLayer::new())
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
        ])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("ratelimit-remaining"),
        ])
        .max_age(Duration::from_secs(3600))
}

/// A service that listens.
pub struct Service {
    address: SocketAddr,
    task: JoinHandle<Result<()>>,
}

impl Service {
    /// Listens until `stop` is cancelled, then lets requests under way finish within the drain's deadline.
    pub async fn start(state: AppState, listen: SocketAddr, stop: CancellationToken) -> Result<Self> {
        state.access.settle(listen, &state).await?;
        let listener = listen::Patient::bind(listen).map_err(|error| bind_error(listen, &error))?;
        let address = listener.local_addr()?;
        let closing = state.stop.clone();
        let task = tokio::spawn(async move {
            let stopped = stop.clone();
            tokio::spawn(async move {
                stopped.cancelled().await;
                closing.cancel();
            });
            let serving =
                axum::serve(listener, router(state.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
            let sockets = state.sockets.clone();
            let served = async move {
                let outcome = serving.into_future().await;
                // WebSockets outlive the requests that they came by.
                sockets.close();
                sockets.wait().await;
                outcome
            };
            let outcome = tokio::select! {
                outcome = served => outcome.map_err(Error::from),
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
                    tracing::warn!(deadline_s = DRAIN.as_secs(), "some requests did not finish in time");
                    Ok(())
                }
            };
            state.close();
            outcome
        });
        Ok(Self { address, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the end of the service.
    pub async fn finished(self) -> Result<()> {
        self.task.await.map_err(|error| Error::failed(format!("the service ended: {error}")))?
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
        let watch = boundary::Watch { metrics: Arc::default(), slow: Duration::from_secs(1) };
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
