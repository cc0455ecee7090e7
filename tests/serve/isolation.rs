//! Who sees what over HTTP: keys and tokens × roles × routes, with two tenants that must never see each other.
//!
//! The routes and what they take come out of the OpenAPI document: a new one is in the matrix by itself, or fails it.
//! Of a shop that is not the caller's, every answer is that of a shop which does not exist; of its own, it is what it is
//! once the other tenant's rows are gone. What roles of the database see is in scope.rs.

use crate::access::{SECRET, now, token, tokens};
use crate::client::{Answer, Client};
use crate::live::{Events, Socket};
use crate::redis::Redis;
use crate::scope::two_tenants_in;
use crate::stage::{CHANNEL, Stage, change};
use axum::body::Body;
use axum::http::{Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey};
use pulso::migrate::Tier;
use pulso::serve::access::Settings as AccessSettings;
use pulso::serve::shared::Address;
use pulso::serve::{AppState, Service, Settings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

const UNKNOWN: &str = "00000000-0000-4000-8000-00000000dead";

/// What a caller is: who may see `shops` only.
struct Caller {
    name: String,
    secret: String,
    role: &'static str,
    shops: Vec<String>,
}

/// The document's routes by whose figures they tell.
#[derive(Default)]
struct Routes {
    /// Of one shop, each with every way of asking for it; `{id}` stands for the shop.
    of_a_shop: Vec<(String, Vec<String>)>,
    /// Of the caller's shops.
    of_shops: Vec<String>,
    /// Of the service, with nothing of a shop's.
    of_the_service: Vec<String>,
}

impl Routes {
    fn of_the_document(day: &str, from: &str) -> Self {
        let document: Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
        let mut routes = Self::default();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                match (method.as_str(), path.as_str()) {
                    ("get", path) if path.starts_with("/v1/stores/{id}/") => {
                        routes.of_a_shop.push((path.to_owned(), ways(&document, operation, day, from)));
                    }
                    ("get", "/v1/stores") => routes.of_shops.push(path.clone()),
                    ("get", "/v1/chain") => routes.of_shops.push(format!("{path}?from={from}&to={day}")),
                    ("get", "/" | "/health" | "/ready" | "/metrics" | "/openapi.json" | "/v1/freshness") => {
                        routes.of_the_service.push(path.clone());
                    }
                    // These have a part of their own below.
                    ("get", "/v1/live") | ("post", "/v1/batch") => {}
                    _ => panic!("{method} {path} is new: whose figures does it tell?"),
                }
            }
        }
        assert!(routes.of_a_shop.len() >= 13 && routes.of_shops.len() == 2 && routes.of_the_service.len() == 6);
        routes
    }
}

/// Queries that reach every kind of answer of a route: its range, and each choice that it offers.
fn ways(document: &Value, operation: &Value, day: &str, from: &str) -> Vec<String> {
    let (mut range, mut choices) = (Vec::new(), Vec::new());
    for parameter in operation["parameters"].as_array().unwrap() {
        let name = parameter["name"].as_str().unwrap();
        match (parameter["in"].as_str().unwrap(), name) {
            ("path", "id") | ("header", "Pulso-After-Lsn") | ("query", "fields") => {}
            ("query", "from") => range.push(format!("from={from}")),
            ("query", "to") => range.push(format!("to={day}")),
            ("query", "date") => range.push(format!("date={day}")),
            ("query", "days") => range.push("days=20".to_owned()),
            ("query", "limit") => range.push("limit=50".to_owned()),
            ("query", "least") => range.push("least=1".to_owned()),
            ("query", name) if parameter["schema"]["$ref"].is_string() => {
                let of = parameter["schema"]["$ref"].as_str().unwrap().trim_start_matches('#');
                let values = document.pointer(of).unwrap()["enum"].as_array().unwrap();
                choices.extend(values.iter().map(|value| format!("{name}={}", value.as_str().unwrap())));
            }
            (place, name) => panic!("{place} parameter {name} is new: what does it reach?"),
        }
    }
    let range = range.join("&");
    let mut ways = vec![String::new(), format!("?{range}")];
    ways.extend(choices.iter().map(|choice| format!("?{range}&{choice}")));
    ways
}

async fn send(node: &Client, method: Method, path: &str, secret: &str, more: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {secret}"));
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    node.send(request.body(Body::empty()).unwrap()).await
}

async fn get(node: &Client, path: &str, secret: &str) -> Answer {
    send(node, Method::GET, path, secret, &[]).await
}

async fn batch(node: &Client, paths: &[&str], secret: &str) -> Vec<Value> {
    let requests: Vec<Value> = paths.iter().map(|path| json!({ "path": path })).collect();
    let request = Request::post("/v1/batch").header("authorization", format!("Bearer {secret}"));
    let answer = node.send(request.body(Body::from(json!({ "requests": requests }).to_string())).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["responses"].as_array().unwrap().clone()
}

/// All that an answer tells, but for what names the request.
fn told(answer: &Answer, shop: &str) -> String {
    let mut headers = answer.headers.clone();
    let id = answer.header("x-request-id").to_owned();
    headers.remove("x-request-id");
    let text = format!("{} {headers:?} {}", answer.status, String::from_utf8_lossy(&answer.body));
    text.replace(&id, "…").replace(shop, "…")
}

/// The figures of each shop, as whoever may see all gets them.
struct Truth {
    figures: BTreeMap<String, Answer>,
    lists: BTreeMap<String, Value>,
    place: String,
}

impl Truth {
    async fn of(node: &Client, routes: &Routes, shops: &[String], secret: &str) -> Self {
        let mut figures = BTreeMap::new();
        for (route, ways) in &routes.of_a_shop {
            for way in ways {
                for shop in shops {
                    let path = format!("{}{way}", route.replace("{id}", shop));
                    let answer = get(node, &path, secret).await;
                    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
                    figures.insert(path, answer);
                }
                if let [one, other] = shops {
                    let of = |shop: &str| &figures[&format!("{}{way}", route.replace("{id}", shop))];
                    assert_ne!(
                        told(of(one), one),
                        told(of(other), other),
                        "{route}{way}: both shops alike proves nothing"
                    );
                }
            }
        }
        let mut lists = BTreeMap::new();
        for path in &routes.of_shops {
            lists.insert(path.clone(), get(node, path, secret).await.json());
        }
        let place =
            get(node, "/v1/stores?limit=1", secret).await.json()["next"].as_str().unwrap_or_default().to_owned();
        Self { figures, lists, place }
    }

    /// A list as a caller of these shops gets it.
    fn list(&self, path: &str, shops: &[String]) -> Value {
        let mut list = self.lists[path].clone();
        list["stores"]
            .as_array_mut()
            .unwrap()
            .retain(|shop| shops.iter().any(|id| shop["id"] == **id || shop["store_id"] == **id));
        list
    }
}

const MANAGERS: [&str; 4] = ["cashiers", "customers", "customers/rfm", "inventory"];

/// One caller against every route of every shop. What others may see has been asked for just before, so that it is kept
/// where answers are.
async fn sees_only_its_own(node: &Client, routes: &Routes, truth: &Truth, shops: &[String], caller: &Caller) {
    let Caller { name, secret, role, shops: own } = caller;
    for (route, ways) in &routes.of_a_shop {
        let guarded = *role == "viewer" && MANAGERS.iter().any(|end| route.ends_with(&format!("}}/{end}")));
        for (number, way) in ways.iter().enumerate() {
            let unknown = format!("{}{way}", route.replace("{id}", UNKNOWN));
            for shop in shops {
                let path = format!("{}{way}", route.replace("{id}", shop));
                let known = &truth.figures[&path];
                let (tag, held) = (known.header("etag").to_owned(), known.header("pulso-lsn").to_owned());
                let answer = get(node, &path, secret).await;
                if own.contains(shop) {
                    assert_eq!(answer.status, if guarded { 403 } else { 200 }, "{path} as {name}");
                    // Without a date it is that of the moment.
                    if !guarded && !way.is_empty() {
                        assert_eq!(answer.json(), known.json(), "{path} as {name}");
                    }
                    continue;
                }
                assert_eq!(answer.status, 404, "{path} as {name}");
                if number > 1 {
                    continue;
                }
                // As if the shop was not there, whatever the caller has got hold of.
                for (method, more) in [
                    (Method::GET, vec![]),
                    (Method::HEAD, vec![]),
                    (Method::GET, vec![("if-none-match", tag.as_str())]),
                    (Method::GET, vec![("if-none-match", "*")]),
                    (Method::GET, vec![("pulso-after-lsn", held.as_str())]),
                    (Method::GET, vec![("cache-control", "no-cache")]),
                ] {
                    let more: Vec<_> = more.into_iter().filter(|(_, value)| !value.is_empty()).collect();
                    let is = send(node, method.clone(), &path, secret, &more).await;
                    let wanted = send(node, method.clone(), &unknown, secret, &more).await;
                    assert_eq!(told(&is, shop), told(&wanted, UNKNOWN), "{method} {path} {more:?} as {name}");
                }
                let part = if way.is_empty() { "?fields=store_name" } else { "&fields=store_name" };
                let (is, wanted) = (
                    get(node, &format!("{path}{part}"), secret).await,
                    get(node, &format!("{unknown}{part}"), secret).await,
                );
                assert_eq!(told(&is, shop), told(&wanted, UNKNOWN), "{path}{part} as {name}");
                let both = batch(node, &[&path, &unknown], secret).await;
                assert_eq!(
                    both[0].to_string().replace(shop, "…"),
                    both[1].to_string().replace(UNKNOWN, "…"),
                    "{path} in a batch as {name}"
                );
                for spelling in [
                    shop.to_uppercase(),
                    shop.replace('-', ""),
                    format!("%7B{shop}%7D"),
                    format!("{UNKNOWN}%2F..%2F{shop}"),
                ] {
                    let path = format!("{}{way}", route.replace("{id}", &spelling));
                    assert!(get(node, &path, secret).await.status.is_client_error(), "{path} as {name}");
                }
            }
        }
    }
    for path in &routes.of_shops {
        let wanted = truth.list(path, own);
        assert_eq!(get(node, path, secret).await.json(), wanted, "{path} as {name}");
        assert_eq!(batch(node, &[path], secret).await[0]["body"], wanted, "{path} in a batch as {name}");
    }
    // Another's place in the list opens nothing.
    let page = get(node, &format!("/v1/stores?after={}", truth.place), secret).await;
    assert_eq!(page.status, 200);
    for shop in page.json()["stores"].as_array().unwrap() {
        assert!(own.iter().any(|id| shop["id"] == **id), "{shop} by another's cursor as {name}");
    }
    for path in &routes.of_the_service {
        let answer = get(node, path, secret).await;
        let admin = ["/metrics", "/v1/freshness"].contains(&&**path);
        assert_eq!(answer.status.as_u16(), if admin && *role != "admin" { 403 } else { 200 }, "{path} as {name}");
        let text = String::from_utf8_lossy(&answer.body);
        for shop in truth.lists["/v1/stores"]["stores"].as_array().unwrap() {
            // The document's own examples are of no shop here.
            let (id, shop_name) = (shop["id"].as_str().unwrap(), shop["name"].as_str().unwrap());
            assert!(!text.contains(id), "{path} tells of {id}");
            assert!(path.starts_with("/openapi") || !text.contains(shop_name), "{path} tells of {shop_name}");
        }
    }
}

/// A list's tag, sent by whoever gets another list, says nothing.
async fn tags_are_their_own(node: &Client, routes: &Routes, callers: &[Caller]) {
    for path in &routes.of_shops {
        let mut lists = Vec::new();
        for caller in callers {
            lists.push(get(node, path, &caller.secret).await);
        }
        for (caller, own) in callers.iter().zip(&lists) {
            for other in &lists {
                let tag = other.header("etag");
                assert!(!tag.is_empty());
                let status = send(node, Method::GET, path, &caller.secret, &[("if-none-match", tag)]).await.status;
                assert_eq!(status, if own.body == other.body { 304 } else { 200 }, "{path} as {}", caller.name);
            }
        }
    }
}

/// Every stream of every caller, while each shop and all at once change.
async fn streams_tell_of_their_own(stage: &Stage, state: AppState, shops: &[String], callers: &[Caller], day: &str) {
    let stop = CancellationToken::new();
    let service = Service::start(state, "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let address = service.url().trim_start_matches("http://").to_owned();
    let mut streams = Vec::new();
    for caller in callers {
        let bearer = format!("Bearer {}", caller.secret);
        let header = format!("authorization: {bearer}\r\n");
        streams.push((caller, Events::open(&address, "/v1/live?kpis=sales,dashboard", &header).await, None));
        let (socket, _) = Socket::open(&address, "/v1/live", &[("authorization", &bearer)]).await.unwrap();
        streams.push((caller, Events::open(&address, "/v1/live", &header).await, Some(socket)));
        for shop in shops.iter().filter(|shop| !caller.shops.contains(shop)) {
            let ask = format!("GET /v1/live?stores={shop} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
            let refused = crate::client::raw(&address, &ask).await;
            assert!(refused.starts_with("HTTP/1.1 400"), "{shop} as {}: {refused}", caller.name);
        }
    }
    let (one, other) = (shops[0].as_str(), shops[1].as_str());
    stage.notify(3, change(one, day)).await;
    stage.notify(4, change(other, day)).await;
    stage.notify(5, json!([{"rollup": "analytics.sales_daily_totals", "keys": null}])).await;
    for (caller, mut events, socket) in streams {
        events.until("\nid: 5").await;
        // Whoever comes back with another's place hears of its own, too.
        let header = format!("authorization: Bearer {}\r\nlast-event-id: 2\r\n", caller.secret);
        let mut back = Events::open(&address, "/v1/live", &header).await;
        back.until("\nid: 5").await;
        let mut heard = String::new();
        if let Some(mut socket) = socket {
            loop {
                let event = socket.event().await;
                heard.push_str(&event.to_string());
                if event["id"] == 5 {
                    break;
                }
            }
        }
        for (id, shop) in [(3, one), (4, other)] {
            let own = caller.shops.iter().any(|own| own == shop);
            for text in [&events.1, &back.1] {
                assert_eq!(text.contains(shop), own, "{shop} as {}: {text}", caller.name);
                assert_eq!(text.contains(&format!("\nid: {id}\n")), own, "{shop} as {}: {text}", caller.name);
            }
            assert!(heard.is_empty() || heard.contains(shop) == own, "{shop} as {}: {heard}", caller.name);
        }
    }
    stop.cancel();
    service.finished().await.unwrap();
}

/// Keys of every role and tokens, of each shop, of both and of all.
async fn callers(sql: &tokio_postgres::Client, shops: &[String]) -> Vec<Caller> {
    let mut callers = Vec::new();
    for (scope, own) in [("all", shops), ("one", &shops[..1]), ("other", &shops[1..]), ("both", shops)] {
        for role in ["admin", "manager", "viewer"] {
            let (name, secret) = (format!("{scope} {role}"), format!("{}{scope}{role}", pulso::key::PREFIX));
            let insert = "insert into pulso.api_key (name, hint, hash, role, stores) values ($1, 'pulso_', $2, $3, $4::text[]::uuid[])";
            let list = (scope != "all").then_some(own);
            sql.execute(insert, &[&name, &pulso::key::hash(&secret), &role, &list]).await.unwrap();
            callers.push(Caller { name, secret, role, shops: own.to_vec() });
        }
        let stores = if scope == "all" { json!("*") } else { json!(own) };
        let claims = json!({"sub": scope, "role": "manager", "stores": stores, "exp": now() + 3600});
        let secret = token(Algorithm::HS256, &EncodingKey::from_secret(SECRET), None, &claims);
        callers.push(Caller { name: format!("{scope} token"), secret, role: "manager", shops: own.to_vec() });
    }
    callers
}

/// Figures of now are compared: neither shop's day, which turn at 04:00 and 08:00 UTC, may turn meanwhile.
async fn away_from_the_turn_of_a_day() {
    let second = now().rem_euclid(86_400);
    for turn in [4 * 3600, 8 * 3600] {
        let left = turn - second;
        if (0..120).contains(&left) {
            tokio::time::sleep(std::time::Duration::from_secs(left.unsigned_abs() + 1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_crosses_between_two_tenants_by_any_key_or_route() {
    away_from_the_turn_of_a_day().await;
    let (db, sql, shops) = two_tenants_in(Stage::database().await, Tier::Extension).await;
    let date = "select to_char(max(sale_date) - $1::int, 'YYYY-MM-DD') from analytics.sales_daily_totals";
    let mut dates = Vec::new();
    for back in [1, 15] {
        dates.push(sql.query_one(date, &[&back]).await.unwrap().get::<_, String>(0));
    }
    let [day, from] = dates.as_slice() else { unreachable!() };
    let routes = Routes::of_the_document(day, from);
    let callers = callers(&sql, &shops).await;
    let stage = Stage::over(db, sql).await;
    let dir = crate::common::Scratch::new();
    std::fs::write(dir.0.join("secret"), SECRET).unwrap();
    let flags = ["--jwt-secret-file".to_owned(), dir.0.join("secret").display().to_string()];
    let state = |redis: Option<&Redis>| {
        let access = AccessSettings { tokens: tokens(&flags).unwrap(), ..AccessSettings::default() };
        let redis = redis.map(|redis| Address::parse(&redis.url()).unwrap());
        AppState::with(stage.db.url(), Settings { access, redis, pool_size: 4, ..Settings::default() }).unwrap()
    };
    let everybody = callers[0].secret.as_str();

    // Where nothing is kept.
    let alone = Client::over(state(None));
    let truth = Truth::of(&alone, &routes, &shops, everybody).await;
    for caller in callers.iter().filter(|caller| caller.role == "manager") {
        sees_only_its_own(&alone, &routes, &truth, &shops, caller).await;
    }
    // Where answers are kept, and where another node has kept them.
    let redis = Redis::start().await;
    let keeping = [state(redis.as_ref()), state(redis.as_ref())];
    for (state, seq) in keeping.iter().zip(1_u64..) {
        state.follow(stage.db.url(), CHANNEL, stage.stop.clone());
        stage.listening(seq.cast_signed() + 1).await;
        stage.notify(seq, json!([])).await;
    }
    let [one, two] = keeping.clone().map(Client::over);
    Truth::of(&one, &routes, &shops, everybody).await;
    let dashboard = format!("/v1/stores/{}/dashboard?date={day}", shops[0]);
    assert_eq!(get(&one, &dashboard, everybody).await.header("x-pulso-cache"), "hit");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    for caller in &callers {
        sees_only_its_own(&one, &routes, &truth, &shops, caller).await;
    }
    tags_are_their_own(&one, &routes, &callers).await;
    if redis.is_some() {
        for caller in callers.iter().filter(|caller| caller.name.ends_with("manager")).rev() {
            sees_only_its_own(&two, &routes, &truth, &shops, caller).await;
        }
        let text = String::from_utf8(get(&two, "/metrics", everybody).await.body).unwrap();
        let hits =
            text.lines().find_map(|line| line.strip_prefix("pulso_cache_hits_total{layer=\"redis\"} ")?.parse().ok());
        assert!(hits >= Some(4_u32), "what Redis held was not what the second node answered: {hits:?}");
    }
    let [state, _] = keeping;
    streams_tell_of_their_own(&stage, state, &shops, &callers, day).await;

    // The figures of the other shop are what they are without this one's rows.
    stage.stop.cancel();
    forget(&stage.sql, &shops[0]).await;
    stage.sql.batch_execute("select analytics.refresh_analytics_views()").await.unwrap();
    let left = Truth::of(&alone, &routes, &shops[1..], everybody).await;
    for (path, answer) in &left.figures {
        assert_eq!(answer.json(), truth.figures[path].json(), "{path} once the other tenant is gone");
    }
    for path in &routes.of_shops {
        assert_eq!(left.lists[path], truth.list(path, &shops[1..]), "{path} once the other tenant is gone");
    }
}

/// Takes a shop away with all that refers to it.
pub async fn forget(sql: &tokio_postgres::Client, shop: &str) {
    let tables = "select c.oid::regclass::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'store_id'
                   where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by c.relname = 'sales' desc, c.relname in ('products', 'cashiers')";
    for row in sql.query(tables, &[]).await.unwrap() {
        sql.execute(&format!("delete from {} where store_id = $1::text::uuid", row.get::<_, &str>(0)), &[&shop])
            .await
            .unwrap();
    }
    assert_eq!(sql.execute("delete from public.stores where id = $1::text::uuid", &[&shop]).await.unwrap(), 1);
}
