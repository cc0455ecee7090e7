//! From a sale's commit to who is told of it: the change feed itself, and clients of `/v1/live`, as server-sent events and
//! over WebSockets.
//!
//! Times begin before the sale is sent to the server, whose INSERT commits by itself, so they are upper bounds.

use crate::api::served::Served;
use crate::report::{Report, percentile};
use crate::{Outcome, server, tickets};
use futures_util::StreamExt;
use pulso::db;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, NoTls};

const SECONDS: u64 = 20;
/// Each of twenty stores sells every 800 ms, so that it is known which sale an event tells of.
const GAP: Duration = Duration::from_millis(40);
const CLIENTS: usize = 50;
/// Every sale changes it once.
const ROLLUP: &str = "analytics.sales_daily_totals";

/// When each store sold, by its id.
#[derive(Clone, Default)]
struct Sold(Arc<Mutex<HashMap<String, Vec<Instant>>>>);

/// What one listener was told of: how many sales of each store, and how late each time.
#[derive(Default)]
struct Heard {
    sales: HashMap<String, usize>,
    delays_ms: Vec<f64>,
}

impl Heard {
    /// The next sale of a store that has not been told of.
    fn of(&mut self, store: &str, sold: &Sold) {
        let now = Instant::now();
        let next = self.sales.entry(store.to_owned()).or_default();
        let sold = sold.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sold.get(store).and_then(|all| all.get(*next)) {
            *next += 1;
            self.delays_ms.push((now - *at).as_secs_f64() * 1000.0);
        }
    }
}

pub async fn measure(report: &mut Report) -> Outcome<()> {
    println!("\nFrom commit to event: {CLIENTS} streams of each kind, 25 sales a second");
    let cluster = server::start(&[]).await?;
    let mut client = db::connect(cluster.url()).await?;
    pulso::migrate::up(&mut client).await?;
    client.batch_execute(include_str!("../sql/stores.sql")).await?;
    tickets::wait_for_folder(&client).await?;
    let pulso = Served::pulso(&cluster.tcp_url()).await?;
    let sold = Sold::default();
    let (mut feed, mut events, mut sockets) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    feed.spawn(notified(cluster.url().to_owned(), sold.clone()));
    for _ in 0..CLIENTS {
        events.spawn(server_sent(pulso.address.clone(), sold.clone()));
        sockets.spawn(web_socket(pulso.address.clone(), sold.clone()));
    }
    // They are all there, and the feed is.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let stores = client.query("select id, id::text as name from stores order by stores.id", &[]).await?;
    let insert = client.prepare(include_str!("../sql/sale.sql")).await?;
    let mut clock = tokio::time::interval(GAP);
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed().as_secs() < SECONDS {
        clock.tick().await;
        let store = &stores[count % stores.len()];
        let (id, name): (uuid::Uuid, String) = (store.get(0), store.get(1));
        sold.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().push(Instant::now());
        client.execute(&insert, &[&id, &format!("live {count}")]).await?;
        count += 1;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    pulso.stop().await?;
    drop(client);
    cluster.stop().await?;

    report.inform("live: sales committed", count as f64, "");
    // Each listens until its connection ends.
    for (what, mut set) in [("notification", feed), ("server-sent event", events), ("WebSocket message", sockets)] {
        let (mut delays, mut missing) = (Vec::new(), 0);
        while let Some(done) = set.join_next().await {
            let heard = done?;
            missing += count.saturating_sub(heard.delays_ms.len());
            delays.extend(heard.delays_ms);
        }
        delays.sort_by(f64::total_cmp);
        report.inform(&format!("live: commit to {what}, p50"), percentile(&delays, 0.5), "ms");
        report.at_most(&format!("live: commit to {what}, p99"), percentile(&delays, 0.99), "ms", 250.0);
        report.at_most(&format!("live: sales without a {what}"), missing as f64, "", 0.0);
    }
    Ok(())
}

async fn notified(url: String, sold: Sold) -> Heard {
    let mut heard = Heard::default();
    let Ok((client, mut connection)) = tokio_postgres::connect(&url, NoTls).await else { return heard };
    let (send, mut notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(note) = message {
                let _ = send.send(note.payload().to_owned());
            }
        }
    });
    if client.batch_execute("listen pulso_changes").await.is_err() {
        return heard;
    }
    while let Some(text) = notes.recv().await {
        let payload: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let rollups = payload["changes"].as_array().into_iter().flatten();
        for change in rollups.filter(|change| change["rollup"] == ROLLUP) {
            for store in change["keys"].as_array().into_iter().flatten().filter_map(|key| key["store_id"].as_str()) {
                heard.of(store, &sold);
            }
        }
    }
    heard
}

fn take(text: &str, heard: &mut Heard, sold: &Sold) {
    let event: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if event["rollup"] == ROLLUP
        && let Some(store) = event["store_id"].as_str()
    {
        heard.of(store, sold);
    }
}

async fn server_sent(address: String, sold: Sold) -> Heard {
    let mut heard = Heard::default();
    let Ok(mut stream) = TcpStream::connect(&address).await else { return heard };
    let request = "GET /v1/live?kpis=dashboard HTTP/1.1\r\nhost: bench\r\n\r\n";
    if stream.write_all(request.as_bytes()).await.is_err() {
        return heard;
    }
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(data) = line.strip_prefix("data: ") {
            take(data, &mut heard, &sold);
        }
    }
    heard
}

async fn web_socket(address: String, sold: Sold) -> Heard {
    let mut heard = Heard::default();
    let url = format!("ws://{address}/v1/live?kpis=dashboard");
    let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else { return heard };
    while let Some(Ok(message)) = socket.next().await {
        if let Ok(text) = message.to_text() {
            take(text, &mut heard, &sold);
        }
    }
    heard
}
