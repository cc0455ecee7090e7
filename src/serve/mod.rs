//! `pulso serve`: the figures over HTTP, and the housekeeping that keeps them cheap to read.

mod boundary;
mod openapi;
pub mod params;
mod problem;
mod routes;
mod state;

pub use openapi::openapi_json;
pub use state::AppState;

use crate::db::Server;
use crate::error::{Error, Kind, Result};
use crate::{fold, interrupt, job, logs, migrate, worker};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

/// No route reads a body; a client may still send one.
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

    /// Run no jobs here: `pulso worker` does elsewhere
    #[arg(long)]
    pub no_jobs: bool,

    /// Form of the log lines on stderr; PULSO_LOG sets what is logged
    #[arg(long, value_enum, default_value_t)]
    pub log_format: logs::Format,
}

pub async fn run(server: &Server, args: ServeArgs) -> Result<ExitCode> {
    logs::init("info", args.log_format);
    let stop = interrupt::token();
    match stop.run_until_cancelled(prepare(server, &args)).await {
        Some(outcome) => outcome?,
        None => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
    }
    let state = AppState::new(server.url(), args.pool_size.into(), args.max_in_flight.into())?;
    let service = Service::start(state, args.listen, stop.clone()).await?;
    println!("Pulso at {}", service.url());
    let folder = tokio::spawn(fold::keep_folded(server.url().to_owned(), stop.clone()));
    let worker = tokio::spawn({
        let (jobs, stop) = ((!args.no_jobs).then(|| worker::Options::new(server.url())), stop.clone());
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

/// The database as the service needs it: migrated, by this call where it is told to.
async fn prepare(server: &Server, args: &ServeArgs) -> Result<()> {
    let mut client = server.connect().await?;
    if args.migrate {
        for step in migrate::up(&mut client).await? {
            tracing::info!(step, "migrated");
        }
    } else {
        migrate::require(&client).await?;
    }
    match &args.verify_at {
        Some(time) => job::reschedule(&client, "verify_rollups", &format!("daily {time}"), &args.time_zone, None).await,
        None => Ok(()),
    }
}

/// The routes without their middleware; the OpenAPI document is made of them.
fn api_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::Api::openapi()).merge(routes::figures()).merge(routes::service())
}

/// Everything a request meets.
pub fn router(state: AppState) -> Router {
    let figures = routes::figures().layer(from_fn_with_state(state.clone(), boundary::bounds));
    let (router, _) = OpenApiRouter::<AppState>::new().merge(figures).merge(routes::service()).split_for_parts();
    armoured(router).with_state(state)
}

/// With what every request passes; the last layer is the outermost.
fn armoured<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(boundary::panicked))
        .layer(from_fn(boundary::boundary))
}

/// A service that listens.
pub struct Service {
    address: SocketAddr,
    task: JoinHandle<Result<()>>,
}

impl Service {
    /// Listens until `stop` is cancelled, then lets requests under way finish within the drain's deadline.
    pub async fn start(state: AppState, listen: SocketAddr, stop: CancellationToken) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.map_err(|error| bind_error(listen, &error))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let serving =
                axum::serve(listener, router(state.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
            let outcome = tokio::select! {
                outcome = serving.into_future() => outcome.map_err(Error::from),
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
        let router: Router = armoured(Router::new().route("/", axum::routing::get(fails)));
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let body = to_bytes(response.into_body(), 10_000).await.expect("a body");
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("urn:pulso:problem:internal") && !text.contains("1234"), "{text}");
    }
}
