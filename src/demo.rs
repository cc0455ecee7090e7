//! `pulso demo`: everything at once, in one process. A past, tills that sell, the service, and the shops' numbers moving.

use crate::db::Server;
use crate::error::{Error, Result};
use crate::kpi::{self, Choice, Lang};
use crate::serve::{AppState, Service, feed};
use crate::simulate::{self, Counters, Plan, parse_days, parse_rate};
use crate::{fold, interrupt, logs, migrate, read};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where the service listens unless it is told otherwise or the port is taken.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Shops of the chain
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    stores: u8,

    /// Tickets sold in a second, over all shops
    #[arg(long, default_value_t = 5.0, value_name = "TICKETS", value_parser = parse_rate)]
    rate: f64,

    /// Days of the past to write where they are not there yet, as 90d
    #[arg(long, default_value = "90d", value_name = "DAYS", value_parser = parse_days)]
    history: u32,

    /// Address of the service [default: 127.0.0.1:8080, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// End by itself after so long once everything is up, as 20s or 5m
    #[arg(long = "for", value_name = "TIME")]
    lasting: Option<SignedDuration>,

    /// What the chain and its past follow from
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// Language [default: that of LANG, es unless it is en]
    #[arg(long, value_enum)]
    lang: Option<Lang>,
}

pub async fn run(server: &Server, args: DemoArgs) -> Result<ExitCode> {
    // The terminal is the dashboard's: only what is wrong is logged.
    logs::init("warn", logs::Format::Text);
    let stop = interrupt::token();
    let lang = args.lang.unwrap_or_else(Lang::from_env);
    let plan = Plan {
        shops: usize::from(args.stores),
        seed: args.seed,
        history_days: args.history,
        until: Timestamp::now(),
        rate: args.rate,
        duration: None,
    };
    let prepared = stop.run_until_cancelled(migrate_up(server, lang)).await.transpose()?;
    if prepared.is_none() || !past(server, &plan, lang, &stop).await? {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }

    let service = listen(server, args.listen, &stop).await?;
    let outcome = show(server, &args, plan, &service, lang, &stop).await;
    stop.cancel();
    let stopped = service.finished().await;
    let counters = outcome?;
    stopped?;
    let sold = lang.number(&counters.tickets.load(Ordering::Relaxed).to_string(), 0);
    println!(
        "{sold} {}",
        lang.of("ventas hechas; las cifras quedan en la base.", "tickets sold; the figures stay in the database.")
    );
    println!(
        "{}",
        lang.of(
            "Otra vez: pulso demo · Mirar: pulso kpi · Servir: pulso serve",
            "Again: pulso demo · Look: pulso kpi · Serve: pulso serve"
        )
    );
    Ok(ExitCode::SUCCESS)
}

async fn migrate_up(server: &Server, lang: Lang) -> Result<()> {
    let applied = migrate::up(&mut server.connect().await?).await?;
    if !applied.is_empty() {
        eprintln!("{} {}", applied.len(), lang.of("pasos de migración aplicados", "migration steps applied"));
    }
    Ok(())
}

/// Writes the days that are missing; false when it was interrupted.
async fn past(server: &Server, plan: &Plan, lang: Lang, stop: &CancellationToken) -> Result<bool> {
    if plan.history_days == 0 {
        return Ok(true);
    }
    let title = lang.of("Historia", "History");
    let template = format!("{title} {{bar:30}} {{human_pos}}/{{human_len}} ({{eta}})");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(0).with_style(style);
    let written = simulate::history(server.url(), plan, &progress, stop).await;
    progress.finish_and_clear();
    let written = written?;
    if written.tickets > 0 {
        let (tickets, seconds) = (lang.number(&written.tickets.to_string(), 0), written.seconds);
        eprintln!(
            "{tickets} {} ({seconds:.1} s)",
            lang.of("ventas del pasado escritas", "tickets of the past written")
        );
    }
    Ok(!written.interrupted)
}

/// The usual port where nobody has it, else a free one; an address asked for, or none.
async fn listen(server: &Server, asked: Option<SocketAddr>, stop: &CancellationToken) -> Result<Service> {
    let state = AppState::new(server.url(), 8, 256)?;
    state.follow(server.url(), feed::CHANNEL, stop.clone());
    if let Some(address) = asked {
        return Service::start(state, address, stop.clone()).await;
    }
    match Service::start(state.clone(), USUAL, stop.clone()).await {
        Ok(service) => Ok(service),
        Err(_) => Service::start(state, SocketAddr::new(USUAL.ip(), 0), stop.clone()).await,
    }
}

/// Sells, folds and draws until `stop`, the time is over, or the tills cannot go on.
async fn show(
    server: &Server,
    args: &DemoArgs,
    plan: Plan,
    service: &Service,
    lang: Lang,
    stop: &CancellationToken,
) -> Result<Arc<Counters>> {
    let counters = Arc::new(Counters::default());
    let url = server.url().to_owned();
    tokio::spawn(fold::keep_folded(url.clone(), stop.clone()));
    let mut tills = tokio::spawn({
        let (counters, stop) = (Arc::clone(&counters), stop.clone());
        async move {
            if plan.rate > 0.0 {
                simulate::live(&url, &plan, counters, &ProgressBar::hidden(), &stop).await?;
            }
            stop.cancelled().await;
            Ok::<_, Error>(())
        }
    });
    let over = async {
        match args.lasting {
            Some(time) => tokio::time::sleep(time.unsigned_abs()).await,
            None => std::future::pending().await,
        }
    };
    let pool = read::pool(server.url(), 1, read::Pooling::Session)?;
    let every = Duration::from_secs(if std::io::stdout().is_terminal() { 1 } else { 5 });
    let style = kpi::style(lang);
    let head = || header(service.url(), &counters, lang);
    let (end, all) = (first(stop.cancelled(), over), Choice::default());
    let drawn = tokio::select! {
        drawn = kpi::watch(&pool, &all, style, every, end, head) => drawn,
        ended = &mut tills => ended.map_err(|error| Error::failed(format!("the tills stopped: {error}"))).and_then(|outcome| outcome),
    };
    stop.cancel();
    if !tills.is_finished() {
        // A sale under way ends as any: committed or not at all.
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut tills).await;
    }
    drawn.map(|()| counters)
}

async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}

fn header(url: String, counters: &Counters, lang: Lang) -> Vec<String> {
    let count = |counter: &std::sync::atomic::AtomicU64| lang.number(&counter.load(Ordering::Relaxed).to_string(), 0);
    vec![
        format!("Pulso · {} · {url}", lang.of("demostración", "demonstration")),
        format!(
            "{} {} · {} {} · {} {} · {} {}",
            lang.of("desde el comienzo: ventas", "since the start: tickets"),
            count(&counters.tickets),
            lang.of("devoluciones", "returns"),
            count(&counters.returns),
            lang.of("anulaciones", "voids"),
            count(&counters.voids),
            lang.of("llegadas tarde", "arrived late"),
            count(&counters.late),
        ),
        String::new(),
    ]
}
