//! Live streams: server-sent events and WebSockets, fed by notifications that the test sends.

use crate::client::Client;
use crate::shop::{BAR, DAY, GROCERY};
use crate::stage::{Stage, change, key};
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use futures_util::{SinkExt, StreamExt};
use pulso::serve::{AppState, Service};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

/// A stream of events over a socket.
pub struct Events(TcpStream, pub String);

impl Events {
    pub async fn open(address: &str, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n{headers}\r\n").as_bytes())
            .await
            .unwrap();
        let mut this = Self(socket, String::new());
        this.until("\r\n\r\n").await;
        assert!(this.1.starts_with("HTTP/1.1 200") && this.1.contains("text/event-stream"), "{}", this.1);
        assert!(!this.1.contains("gzip"), "events are not compressed");
        this
    }

    pub async fn until(&mut self, text: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.1.contains(text) {
                let n = self.0.read(&mut buffer).await.unwrap();
                assert!(n > 0, "the stream ended before {text}: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), read).await.is_err() {
            panic!("{text} does not come: {}", self.1);
        }
    }
}

#[tokio::test]
async fn changes_are_streamed_to_those_who_may_see_them() {
    let stage = Stage::open().await;
    let (grocery, bar) = (key(&stage.db, "grocery", GROCERY), key(&stage.db, "bar", BAR));
    stage.begin(&grocery).await;
    let stop = CancellationToken::new();
    let service = Service::start(stage.state.clone(), "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let address = service.url().trim_start_matches("http://").to_owned();
    let with = |secret: &str, more: &str| format!("authorization: Bearer {secret}\r\n{more}");
    let mut of_grocery = Events::open(&address, "/v1/live", &with(&grocery, "")).await;
    let mut of_bar = Events::open(&address, &format!("/v1/live?stores={BAR}"), &with(&bar, "")).await;
    let began = Instant::now();
    stage.notify(2, change(GROCERY, DAY)).await;
    of_grocery.until("\nid: 2").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(of_grocery.1.contains(GROCERY) && of_grocery.1.contains("\"dates\":[\"2026-07-30\"]"), "{}", of_grocery.1);
    stage.notify(3, change(BAR, DAY)).await;
    of_bar.until("\nid: 3").await;
    stage.notify(4, json!([{"rollup": "analytics.any", "keys": null}])).await;
    of_grocery.until("\nid: 4").await;
    of_bar.until("\nid: 4").await;
    assert!(
        !of_bar.1.contains(GROCERY) && !of_grocery.1.contains(BAR),
        "a change crossed: {} {}",
        of_bar.1,
        of_grocery.1
    );
    // One that comes back goes on where it was; one that missed too much begins anew.
    let mut back = Events::open(&address, "/v1/live", &with(&grocery, "last-event-id: 2\r\n")).await;
    back.until("\nid: 4").await;
    assert!(!back.1.contains("\nid: 2") && !back.1.contains(BAR) && !back.1.contains("reset"), "{}", back.1);
    for id in ["99", "x"] {
        let mut lost = Events::open(&address, "/v1/live", &with(&grocery, &format!("last-event-id: {id}\r\n"))).await;
        lost.until("event: reset").await;
    }
    stage.notify(9, change(GROCERY, DAY)).await;
    of_grocery.until("event: reset").await;
    of_grocery.until("\nid: 9").await;
    for (path, status) in [
        (format!("/v1/live?stores={GROCERY}"), 400),
        ("/v1/live?stores=x".into(), 400),
        ("/v1/live?since=1".into(), 400),
    ] {
        let request = Request::get(&path).header("authorization", format!("Bearer {bar}")).body(Body::empty()).unwrap();
        assert_eq!(Client::over(stage.state.clone()).send(request).await.status, status, "{path}");
    }
    assert_eq!(Client::over(stage.state.clone()).get("/v1/live").await.status, 401);
    // Streams do not hold up the end of the service.
    let began = Instant::now();
    stop.cancel();
    service.finished().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    stage.stop.cancel();
}

/// A stream over a WebSocket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(address: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<(Self, HeaderMap), Error> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, response) = connect_async(request).await?;
        Ok((Self(socket), response.headers().clone()))
    }

    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(5), self.0.next()).await.expect("a message comes");
            match message.expect("the stream goes on").expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub async fn event(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("{other:?} is no event"),
        }
    }

    async fn closed(&mut self) -> (CloseCode, String) {
        match self.next().await {
            Message::Close(Some(frame)) => (frame.code, frame.reason.to_string()),
            other => panic!("{other:?} is no goodbye"),
        }
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }
}

async fn serve(state: AppState) -> (Service, String, CancellationToken) {
    let stop = CancellationToken::new();
    let service = Service::start(state, "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let address = service.url().trim_start_matches("http://").to_owned();
    (service, address, stop)
}

#[tokio::test]
async fn sockets_tell_what_streams_tell() {
    let stage = Stage::open().await;
    let (grocery, bar) = (key(&stage.db, "grocery", GROCERY), key(&stage.db, "bar", BAR));
    stage.begin(&grocery).await;
    let other = AppState::new(stage.db.url(), 2, 64).unwrap();
    other.follow(stage.db.url(), crate::stage::CHANNEL, stage.stop.clone());
    stage.listening(2).await;
    // The other has not heard of anything yet; its streams are told to begin anew, which is not what this is about.
    stage.notify(2, json!([])).await;
    let (one, address, stop) = serve(stage.state.clone()).await;
    let (two, other_address, other_stop) = serve(other).await;

    let bearer = format!("Bearer {grocery}");
    let (mut socket, _) = Socket::open(&address, "/v1/live", &[("authorization", &bearer)]).await.unwrap();
    // As a browser does it: the key beside the protocol, which is all that it may send.
    let protocols = format!("pulso.v1, bearer.{bar}");
    let (mut of_bar, head) =
        Socket::open(&other_address, "/v1/live", &[("sec-websocket-protocol", &protocols)]).await.unwrap();
    assert_eq!(head["sec-websocket-protocol"], "pulso.v1");

    stage.notify(3, change(GROCERY, DAY)).await;
    stage.notify(4, change(BAR, DAY)).await;
    let kpis = json!(["breakdown", "cashiers", "chain", "customers", "dashboard", "payments", "sales"]);
    let told = |id: u64, store: &str| json!({"event": "change", "id": id, "rollup": "analytics.sales_daily_totals", "store_id": store, "dates": [DAY], "kpis": kpis});
    assert_eq!(socket.event().await, told(3, GROCERY));
    assert_eq!(of_bar.event().await, told(4, BAR), "not of the other shop");

    // Other figures from now on, and no shop of others.
    socket.say(&json!({"stores": [GROCERY], "kpis": ["abc", "heatmap"]}).to_string()).await;
    assert_eq!(socket.event().await, json!({"event": "subscribed", "kpis": ["abc", "heatmap"]}));
    stage.notify(5, change(GROCERY, DAY)).await;
    let hour =
        json!([{"rollup": "analytics.sales_hourly", "keys": [{"store_id": GROCERY, "hour": "2026-07-30T15:00:00"}]}]);
    stage.notify(6, hour).await;
    let event = socket.event().await;
    assert_eq!((&event["id"], &event["kpis"]), (&json!(6), &json!(["heatmap"])));
    socket.say(&json!({"stores": [BAR]}).to_string()).await;
    let (code, reason) = socket.closed().await;
    assert!(code == CloseCode::Policy && reason.contains("there is no store"), "{code} {reason}");
    for wrong in ["", "[]", "{\"kpis\": [\"inventory\"]}", "{\"stores\": [1]}", "{\"store\": []}"] {
        let (mut socket, _) = Socket::open(&address, "/v1/live", &[("authorization", &bearer)]).await.unwrap();
        socket.say(wrong).await;
        assert_eq!(socket.closed().await.0, CloseCode::Policy, "{wrong}");
    }

    // It goes on where it was, on the other node too.
    let path = "/v1/live?last_event_id=3&kpis=dashboard";
    let (mut back, _) = Socket::open(&other_address, path, &[("authorization", &bearer)]).await.unwrap();
    assert_eq!((back.event().await["id"].clone(), back.event().await["id"].clone()), (json!(5), json!(6)));
    let (mut lost, _) =
        Socket::open(&address, "/v1/live", &[("authorization", &bearer), ("last-event-id", "99")]).await.unwrap();
    assert_eq!(lost.event().await, json!({"event": "reset"}));

    let refused = async |path: &str, headers: &[(&'static str, &str)]| match Socket::open(&address, path, headers).await
    {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{:?}", other.map(|_| "a stream")),
    };
    assert_eq!(refused("/v1/live", &[]).await, 401);
    assert_eq!(refused("/v1/live", &[("sec-websocket-protocol", "bearer.pulso_wrong")]).await, 401);
    assert_eq!(refused(&format!("/v1/live?stores={BAR}"), &[("authorization", &bearer)]).await, 400);
    assert_eq!(refused("/v1/live?kpis=inventory", &[("authorization", &bearer)]).await, 400);
    let origin = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
    assert_eq!(refused("/v1/live", &origin).await, 403);
    let plain = Request::get("/v1/live").header("authorization", &bearer).header("upgrade", "websocket");
    let answer = Client::over(stage.state.clone()).send(plain.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec!["upgrade".to_owned()]), "half an upgrade");

    // The end of a node is said to its streams, and does not wait for those that do not answer.
    let began = Instant::now();
    other_stop.cancel();
    assert_eq!(of_bar.closed().await.0, CloseCode::Away);
    two.finished().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    stop.cancel();
    one.finished().await.unwrap();
    stage.stop.cancel();
}

#[tokio::test]
async fn a_stream_that_reads_nothing_is_let_go() {
    let stage = Stage::open().await;
    stage.begin("").await;
    let (service, address, stop) = serve(stage.state.clone()).await;
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut idle = Vec::new();
    for headers in ["", upgrade] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(format!("GET /v1/live HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        idle.push(socket);
    }
    let streams = async || {
        let text = String::from_utf8(stage.http.get("/metrics").await.body).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pulso_live_streams ")).unwrap().to_owned()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while streams().await != "2" {
        assert!(Instant::now() < deadline, "no streams");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // More than the buffers of a connection hold, in as few notifications as that takes.
    let dates: Vec<_> = (1..=28).flat_map(|d| (1..=4).map(move |m| format!("2026-{m:02}-{d:02}"))).collect();
    let keys: Vec<_> = dates.iter().take(70).map(|day| json!({"store_id": GROCERY, "sale_date": day})).collect();
    let began = Instant::now();
    let mut seq = 1;
    while streams().await != "0" {
        assert!(began.elapsed() < Duration::from_secs(60), "streams that nobody reads stay open");
        for _ in 0..200 {
            seq += 1;
            let payload =
                json!({"seq": seq, "changes": [{"rollup": "analytics.sales_hourly", "keys": keys}]}).to_string();
            stage.sql.execute("select pg_notify($1, $2)", &[&crate::stage::CHANNEL, &payload]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    service.finished().await.unwrap();
    stage.stop.cancel();
}
