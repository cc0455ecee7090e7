//! Clients that mean harm, or are merely broken: slow, idle, too many, too large, or no text at all.

use crate::client::{Client, raw};
use crate::common::{Db, Scratch};
use crate::shop::{self, BAR, GROCERY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::serve::{AppState, Limits, Service, Settings};
use std::process::Child;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const ASK: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

struct Stand {
    _db: Db,
    service: Service,
    address: String,
    state: AppState,
    stop: CancellationToken,
}

impl Stand {
    async fn open(limits: Limits) -> Self {
        Self::with(Settings { limits, ..Settings::default() }).await
    }

    async fn with(settings: Settings) -> Self {
        let db = Db::migrated().await;
        let state = AppState::with(db.url(), settings).unwrap();
        let stop = CancellationToken::new();
        let service = Service::start(state.clone(), "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
        let address = service.url().trim_start_matches("http://").to_owned();
        Self { _db: db, service, address, state, stop }
    }

    async fn metric(&self, name: &str) -> String {
        let text = String::from_utf8(Client::over(self.state.clone()).get("/metrics").await.body).unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && line.as_bytes()[name.len()] == b' ');
        line.map_or_else(String::new, |line| line.rsplit(' ').next().unwrap().to_owned())
    }

    async fn close(self) {
        self.stop.cancel();
        self.service.finished().await.unwrap();
    }
}

/// What comes until the other side ends it, and how long that took.
async fn rest(stream: &mut TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("an end");
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

async fn answered(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let read =
        tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[tokio::test]
async fn a_connection_may_be_slow_or_idle_only_for_so_long() {
    let (head, idle) = (Duration::from_millis(600), Duration::from_millis(1500));
    let stand = Stand::open(Limits { head, idle, ..Limits::default() }).await;
    let connect = async || TcpStream::connect(&stand.address).await.unwrap();
    let late = Duration::from_secs(2);

    let mut silent = connect().await;
    let (said, took) = rest(&mut silent).await;
    assert!(said.is_empty() && took >= head && took < head + late, "{said} {took:?}");

    let mut half = connect().await;
    half.write_all(b"GET /health HTTP/1.1\r\nhost:").await.unwrap();
    let (said, took) = rest(&mut half).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(took >= head - Duration::from_millis(100) && took < head + late, "{took:?}");

    // What looks like HTTP/2 and says no more.
    let mut preface = connect().await;
    preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert!(rest(&mut preface).await.1 < head + late);
    let mut preface = connect().await;
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert!(rest(&mut preface).await.1 < head + late);

    let mut kept = connect().await;
    for _ in 0..3 {
        assert!(answered(&mut kept, ASK).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(head + Duration::from_millis(200)).await;
    }
    let (said, took) = rest(&mut kept).await;
    assert!(said.is_empty() && took < idle + late, "{said} {took:?}");
    // And slow after an answer.
    let mut later = connect().await;
    assert!(answered(&mut later, ASK).await.starts_with("HTTP/1.1 200"));
    later.write_all(b"GET /he").await.unwrap();
    let (said, took) = rest(&mut later).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && took < head + late, "{said} {took:?}");

    assert_eq!(stand.metric("pulso_http_cut_connections_total{reason=\"silent\"}").await, "1");
    assert_eq!(stand.metric("pulso_http_cut_connections_total{reason=\"slow_head\"}").await, "4");
    assert_eq!(stand.metric("pulso_http_cut_connections_total{reason=\"idle\"}").await, "1");
    stand.close().await;
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_however_they_arrive() {
    let stand = Stand::open(Limits::default()).await;
    let mut stream = TcpStream::connect(&stand.address).await.unwrap();
    let ok = |answer: String| assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Twice with a pause, in which the connection is only a socket.
    for _ in 0..2 {
        ok(answered(&mut stream, ASK).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Byte by byte.
    for byte in &ASK.as_bytes()[..ASK.len() - 1] {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ok(answered(&mut stream, "\n").await);
    // Three at once, and one with half of the next behind it.
    stream.write_all(ASK.repeat(3).as_bytes()).await.unwrap();
    let mut said = String::new();
    while said.matches("HTTP/1.1 200").count() < 3 {
        said += &answered(&mut stream, "").await;
    }
    let (half, tail) = ASK.split_at(9);
    ok(answered(&mut stream, &format!("{ASK}{half}")).await);
    ok(answered(&mut stream, tail).await);
    // What is left of a body that nobody read is no request.
    let body = ASK.repeat(400);
    let head = format!("POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    assert!(answered(&mut stream, &head).await.starts_with("HTTP/1.1 405"));
    let _ = stream.write_all(body.as_bytes()).await;
    let (said, _) = rest(&mut stream).await;
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
    // A head longer than what is read ahead of the parser, and a WebSocket after an answer.
    let mut stream = TcpStream::connect(&stand.address).await.unwrap();
    let long = ASK.replace("\r\n\r\n", &format!("\r\nx-filler: {}\r\n\r\n", "x".repeat(9000)));
    ok(answered(&mut stream, &long).await);
    let upgrade = "GET /v1/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(answered(&mut stream, upgrade).await.starts_with("HTTP/1.1 101"));
    stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 0]);
    stand.close().await;
}

#[tokio::test]
async fn more_requests_than_are_answered_at_once_wait_for_their_turn() {
    let stand = Stand::with(Settings { max_in_flight: 2, ..Settings::default() }).await;
    let sql = stand._db.connect().await;
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(TcpStream::connect(&stand.address).await.unwrap());
    }
    // Whether there are keys is known after the first.
    assert!(answered(&mut crowd[0], "GET /v1/stores HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    sql.batch_execute("begin; lock table public.stores in access exclusive mode").await.unwrap();
    for stream in &mut crowd {
        stream.write_all(b"GET /v1/stores HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stand.state.permits.available_permits(), 0, "two are being answered");
    let mut other = TcpStream::connect(&stand.address).await.unwrap();
    assert!(answered(&mut other, ASK).await.starts_with("HTTP/1.1 200"), "operators do not wait");
    sql.batch_execute("rollback").await.unwrap();
    for stream in &mut crowd {
        assert!(answered(stream, "").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(stand.state.permits.available_permits(), 2);
    stand.close().await;
}

#[tokio::test]
async fn answers_that_take_long_and_open_streams_are_not_idle() {
    let (head, idle) = (Duration::from_millis(300), Duration::from_millis(300));
    let stand = Stand::open(Limits { head, idle, ..Limits::default() }).await;
    let sql = stand._db.connect().await;
    sql.batch_execute("begin; lock table public.stores in access exclusive mode").await.unwrap();
    let mut waits = TcpStream::connect(&stand.address).await.unwrap();
    waits.write_all(b"GET /v1/stores HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut stream = TcpStream::connect(&stand.address).await.unwrap();
    assert!(answered(&mut stream, "GET /v1/live HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    let mut socket = TcpStream::connect(&stand.address).await.unwrap();
    let upgrade = "GET /v1/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(answered(&mut socket, upgrade).await.starts_with("HTTP/1.1 101"));
    tokio::time::sleep(4 * idle).await;
    sql.batch_execute("rollback").await.unwrap();
    assert!(answered(&mut waits, "").await.starts_with("HTTP/1.1 200"));
    for open in [&mut stream, &mut socket] {
        let more = tokio::time::timeout(Duration::from_millis(200), open.read(&mut [0; 64])).await;
        assert!(more.is_err(), "the stream ended");
    }
    // A ping, masked as a client has to: bytes that are no head.
    socket.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut pong = [0; 2];
    socket.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 0]);
    tokio::time::sleep(2 * head).await;
    let more = tokio::time::timeout(Duration::from_millis(200), socket.read(&mut [0; 64])).await;
    assert!(more.is_err(), "the WebSocket ended");
    stand.close().await;
}

#[tokio::test]
async fn more_connections_than_may_be_are_told_so() {
    let stand = Stand::open(Limits { connections: 5, ..Limits::default() }).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(&stand.address).await.unwrap();
        assert!(answered(&mut stream, ASK).await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    let refused = raw(&stand.address, ASK).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("urn:pulso:problem:busy"), "{refused}");
    assert!(answered(&mut open[0], ASK).await.starts_with("HTTP/1.1 200"), "those that are in stay");
    assert_eq!(stand.metric("pulso_http_connections").await, "5");
    assert_eq!(stand.metric("pulso_http_refused_connections_total").await, "1");
    // Many at once, few of whom can be told.
    let mut crowd = JoinSet::new();
    for _ in 0..300 {
        let address = stand.address.clone();
        crowd.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let _ = stream.write_all(ASK.as_bytes()).await;
            let said = rest(&mut stream).await.0;
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 503 "), "{said}");
        });
    }
    while let Some(outcome) = crowd.join_next().await {
        outcome.unwrap();
    }
    drop(open);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !raw(&stand.address, &ASK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"))
        .await
        .starts_with("HTTP/1.1 200")
    {
        assert!(Instant::now() < deadline, "places are not given back");
    }
    stand.close().await;
}

/// The service as operators run it.
struct Real {
    child: Child,
    address: String,
    _home: Scratch,
}

impl Real {
    fn start(db: &Db) -> Self {
        let home = Scratch::new();
        let (child, address) = crate::stage::serve(|command| {
            command
                .args(["--rate-limit", "0", "--no-jobs"])
                .env("DATABASE_URL", db.url())
                .stderr(std::fs::File::create(home.0.join("log")).unwrap())
        });
        Self { child, address, _home: home }
    }

    /// Resident memory, in KiB: now, and at most so far.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Sends a head and a large body, and gives what is answered, however early.
async fn send_large(address: &str, head: &str, chunked: bool) -> String {
    const SIZE: usize = 10 * 1024 * 1024;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let length = if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {SIZE}") };
    let head = format!("{head} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
    let sending = async move {
        let piece = vec![b' '; 64 * 1024];
        to.write_all(head.as_bytes()).await?;
        for _ in 0..SIZE / piece.len() {
            if chunked {
                to.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            }
            to.write_all(&piece).await?;
            if chunked {
                to.write_all(b"\r\n").await?;
            }
        }
        to.write_all(if chunked { b"0\r\n\r\n" } else { b"" }).await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let reading = async {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read) = from.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..read]);
            if read == 0 || said.ends_with(b"}") {
                break;
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    let sending = tokio::spawn(sending);
    let said = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer");
    sending.abort();
    said
}

/// Routes of the document, by method, with a shop's id.
fn routes(method: &str) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    let all = document["paths"].as_object().unwrap().iter();
    all.filter(|(_, item)| item.get(method).is_some()).map(|(path, _)| path.replace("{id}", GROCERY)).collect()
}

async fn status(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    rest(&mut stream).await.0
}

async fn large_bodies(address: &str) {
    let posts = routes("post");
    assert!(!posts.is_empty());
    let mut sending = JoinSet::new();
    for path in posts.iter().cycle().take(8 * posts.len()) {
        for chunked in [false, true] {
            let (address, head) = (address.to_owned(), format!("POST {path}"));
            sending.spawn(async move {
                let said = send_large(&address, &head, chunked).await;
                assert!(said.starts_with("HTTP/1.1 413 "), "{head} {chunked}: {said}");
                assert!(said.contains("urn:pulso:problem:body-too-large"), "{said}");
            });
        }
    }
    for path in ["/v1/stores", "/health", "/v1/nothing"] {
        let (address, head) = (address.to_owned(), format!("GET {path}"));
        sending.spawn(async move {
            let said = send_large(&address, &head, false).await;
            assert!(said.starts_with("HTTP/1.1 413 "), "{head}: {said}");
        });
    }
    while let Some(outcome) = sending.join_next().await {
        outcome.unwrap();
    }
}

async fn no_text(address: &str) {
    let get = |path: &[u8], header: &[u8]| {
        [b"GET ", path, b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", header, b"\r\n\r\n"].concat()
    };
    let dashboard = format!("/v1/stores/{GROCERY}/dashboard");
    let with = |query: &[u8]| [dashboard.as_bytes(), b"?", query].concat();
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("bytes in the path", get(b"/v1/stores/\xff\xfe/dashboard", b"a: b"), &["400", "404"]),
        ("escaped in the path", get(b"/v1/stores/%ff%fe/dashboard", b"a: b"), &["400", "404"]),
        ("bytes in the query", get(&with(b"date=\xff"), b"a: b"), &["400"]),
        ("escaped in the query", get(&with(b"date=%ff%c0%af"), b"a: b"), &["400"]),
        ("a zero in the query", get(&with(b"date=%00"), b"a: b"), &["400"]),
        ("fields", get(&with(b"fields=%ed%a0%80"), b"a: b"), &["400"]),
        ("a key", get(&with(b"fields=net_usd"), b"authorization: Bearer \xff\xfe"), &["401"]),
        ("a header's name", get(b"/v1/stores", b"\xff\xfe: x"), &["400"]),
        (
            "a body",
            b"POST /v1/batch HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 31\r\n\r\n{\"requests\":[{\"path\":\"/v1/\xff\xfe\"}]}".to_vec(),
            &["400"],
        ),
    ];
    for (what, request, wanted) in cases {
        let said = status(address, &request).await;
        let code = said.split(' ').nth(1).unwrap_or_default();
        assert!(wanted.contains(&code), "{what}: {said}");
    }
    // Only names of a request that the log could not bear are replaced; the request is answered.
    let said = status(address, &get(b"/health", b"x-request-id: \xff\xfe")).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("x-request-id: "), "{said}");
    // As many characters as a cursor may have and one more, each as long as a character can be.
    let emoji = "%F0%9F%98%8D".repeat(4097);
    let said = status(address, &get(format!("/v1/stores?after={emoji}").as_bytes(), b"a: b")).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("\"after\""), "{said}");
    let long = vec![b'a'; 100_000];
    for request in
        [get(&[b"/v1/stores?after=", &long[..]].concat(), b"a: b"), get(b"/health", &[b"a: ", &long[..]].concat())]
    {
        let said = status(address, &request).await;
        assert!(said.starts_with("HTTP/1.1 431 ") || said.starts_with("HTTP/1.1 414 "), "{said}");
    }
}

async fn absurd_ranges(address: &str) {
    let mut asked = 0;
    let document: serde_json::Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let names = |name: &str| {
            item["get"]["parameters"].as_array().into_iter().flatten().any(|parameter| parameter["name"] == name)
        };
        let queries: &[&str] = if names("from") {
            &[
                "from=0001-01-01&to=9999-12-31",
                "from=1900-01-01&to=2999-12-31",
                "from=2026-07-30&to=2026-07-01",
                "from=-999999-01-01&to=2026-07-01",
                "from=2026-02-30&to=2026-03-01",
                "from=99999999999999999999&to=1",
            ]
        } else if names("days") {
            &["days=0", "days=-1", "days=99999999999999999999", "days=1e9"]
        } else if names("limit") {
            &["limit=0", "limit=-1", "limit=18446744073709551616", "limit=1e3"]
        } else {
            continue;
        };
        for query in queries {
            let path = path.replace("{id}", BAR);
            let said =
                raw(address, &format!("GET {path}?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
            assert!(said.starts_with("HTTP/1.1 400 "), "{path}?{query}: {said}");
            asked += 1;
        }
    }
    assert!(asked >= 60, "{asked}");
}

/// Half-sent requests that dribble on, while an honest client asks.
async fn slow_loris(address: &str, connections: usize) {
    let mut slow = JoinSet::new();
    for number in 0..connections {
        let address = address.to_owned();
        slow.spawn(async move {
            let began = Instant::now();
            let (mut from, mut to) = TcpStream::connect(&address).await.unwrap().into_split();
            let start: &[u8] = match number % 4 {
                0 => b"",
                1 => b"GET /v1/stores HTTP/1.1\r\nhost: x\r\n",
                2 => b"POST /v1/batch HTTP/1.1\r\nhost: x\r\nx-a: ",
                _ => b"PRI * HTTP/2.0\r\n",
            };
            let _ = to.write_all(start).await;
            let dribble = tokio::spawn(async move {
                // One letter of a header that never ends; a line each.
                while matches!(number % 4, 1 | 2) && to.write_all(b"x-b: c\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
                // Kept from closing its side.
                std::future::pending::<()>().await;
            });
            let mut said = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(60), from.read_to_end(&mut said)).await.expect("cut off");
            dribble.abort();
            (number % 4, String::from_utf8_lossy(&said).into_owned(), began.elapsed())
        });
    }
    let honest = tokio::spawn({
        let address = address.to_owned();
        async move {
            let (mut slowest, mut answers) = (Duration::ZERO, 0);
            loop {
                let began = Instant::now();
                let said = raw(&address, "GET /v1/stores HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
                assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
                slowest = slowest.max(began.elapsed());
                answers += 1;
                if answers == 100 {
                    return slowest;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    assert!(honest.await.unwrap() < Duration::from_secs(3), "an honest client waits");
    while let Some(outcome) = slow.join_next().await {
        let (kind, said, took) = outcome.unwrap();
        assert!(took > Duration::from_secs(8) && took < Duration::from_secs(20), "kind {kind} after {took:?}: {said}");
        if matches!(kind, 1 | 2) {
            assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_in_time_and_memory_stays_flat() {
    /// KiB. Bodies of one round, kept, would be 190 MiB.
    const BOUND: u64 = 24 * 1024;
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let service = Real::start(&db);
    let round = async |slow| {
        large_bodies(&service.address).await;
        no_text(&service.address).await;
        absurd_ranges(&service.address).await;
        slow_loris(&service.address, slow).await;
    };
    // The first fills pools and the allocator.
    round(100).await;
    let (before, _) = service.memory();
    round(400).await;
    let (after, most) = service.memory();
    assert!(after < before + BOUND && most < before + BOUND, "{before} KiB before, {after} after, {most} at most");
    println!("resident: {before} KiB before, {after} after, {most} at most");
    let health = raw(&service.address, &ASK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    service.stop();
}
