//! Who is let in, and how far: keys, tokens, roles. What tenants see of each other is in isolation.rs.

use crate::client::{Answer, Client};
use crate::common::Db;
use crate::shop::{self, BAR, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pulso::serve::access::{Mode, Settings as AccessSettings, TokenArgs, Tokens};
use pulso::serve::{AppState, Service, Settings};
use serde_json::{Value, json};
use std::process::{Command, Output};
use tokio_util::sync::CancellationToken;

fn pulso(db: &Db, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pulso")).args(args).env("DATABASE_URL", db.url()).output().unwrap()
}

fn key(db: &Db, name: &str, more: &[&str]) -> String {
    let output = pulso(db, &[&["key", "create", name], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn ask(http: &Client, path: &str, secret: &str) -> Answer {
    http.send(Request::get(path).header("authorization", format!("Bearer {secret}")).body(Body::empty()).unwrap()).await
}

/// Each GET route of figures under one shop, out of the OpenAPI document: a new route is in the matrix by itself.
pub fn routes_of_a_shop() -> Vec<String> {
    let document: Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    paths.keys().filter(|path| path.contains("{id}")).cloned().collect()
}

fn query_of(route: &str) -> &'static str {
    match route.rsplit('/').next().unwrap() {
        "dashboard" => "date=2026-07-30",
        "inventory" => "days=30",
        _ => "from=2026-07-23&to=2026-07-31",
    }
}

#[tokio::test]
async fn roles_reach_as_far_as_they_say() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let http = Client::to(db.url());
    let keys = ["viewer", "manager", "admin"].map(|role| key(&db, role, &["--all-stores", "--role", role]));
    let of_managers = ["cashiers", "customers", "inventory", "rfm"];
    for route in routes_of_a_shop() {
        let path = format!("{}?{}", route.replace("{id}", GROCERY), query_of(&route));
        let guarded = of_managers.contains(&route.rsplit('/').next().unwrap());
        for (secret, status) in keys.iter().zip([if guarded { 403 } else { 200 }, 200, 200]) {
            assert_eq!(ask(&http, &path, secret).await.status, status, "{path}");
        }
    }
    for (secret, status) in keys.iter().zip([403, 403, 200]) {
        for path in ["/metrics", "/v1/freshness"] {
            let answer = ask(&http, path, secret).await;
            assert_eq!(answer.status, status, "{path}");
            if status == 403 {
                assert_eq!(answer.problem()["type"], "urn:pulso:problem:forbidden");
            }
        }
    }
}

#[tokio::test]
async fn without_a_good_key_there_is_nothing() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    shop::open(&sql).await;
    let http = Client::to(db.url());
    // Nobody has made a key: this machine's own programs may ask.
    assert_eq!(http.get("/v1/stores").await.status, 200);
    let good = key(&db, "good", &["--all-stores"]);
    let short = key(&db, "short", &["--all-stores", "--expires-in", "1s"]);
    let bad = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let http = Client::to(db.url());
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for path in ["/v1/stores", "/metrics", &format!("/v1/stores/{GROCERY}/dashboard"), "/v1/stores/nonsense/dashboard"]
    {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.problem()["type"], "urn:pulso:problem:unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"pulso\"");
        for secret in [bad.as_str(), "pulso_", &good[..20], &short, "x", "a.b.c", &"x".repeat(9000)] {
            let answer = ask(&http, path, secret).await;
            assert_eq!(answer.status, 401, "{path} {secret}");
            let told = secret.len() > 12 && String::from_utf8_lossy(&answer.body).contains(secret);
            assert!(!told, "the answer tells the secret");
        }
    }
    for header in ["Basic abc", "Bearer", "Bearer ", &good] {
        let request = Request::get("/v1/stores").header("authorization", header).body(Body::empty()).unwrap();
        assert_eq!(http.send(request).await.status, 401, "{header}");
    }
    for path in ["/health", "/ready", "/openapi.json", "/"] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
    }
    assert_eq!(ask(&http, "/v1/stores", &good).await.status, 200);

    // The database holds no key, and a revoked one ends.
    let kept = sql.query("select to_jsonb(k)::text from pulso.api_key k", &[]).await.unwrap();
    assert!(kept.iter().all(|row| !row.get::<_, &str>(0).contains(&good[12..])));
    assert!(pulso(&db, &["key", "revoke", "good"]).status.success());
    let anew = Client::to(db.url());
    assert_eq!(ask(&anew, "/v1/stores", &good).await.status, 401);
    // Even with none that is good left, nobody comes in without.
    assert_eq!(anew.get("/v1/stores").await.status, 401);
    let listed: Value = serde_json::from_slice(&pulso(&db, &["key", "list", "--json"]).stdout).unwrap();
    let states: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|k| (k["name"].as_str().unwrap(), k["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("good", "revoked"), ("short", "expired")]);
    for (args, words) in [
        (&["key", "create", "good", "--all-stores"][..], "a key good already"),
        (&["key", "create", "x", "--store", "00000000-0000-4000-8000-00000000ffff"], "there is no store"),
        (&["key", "create", "x"], "--store"),
        (&["key", "revoke", "nobody"], "there is no key nobody"),
    ] {
        let output = pulso(&db, args);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
    }
}

#[tokio::test]
async fn an_address_that_others_reach_asks_for_a_key() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let start = |mode| {
        let access = AccessSettings { mode, ..AccessSettings::default() };
        let state = AppState::with(db.url(), Settings { access, ..Settings::default() }).unwrap();
        Service::start(state, "0.0.0.0:0".parse().unwrap(), CancellationToken::new())
    };
    let refused = start(Mode::Auto).await.err().expect("there is no key");
    assert!(refused.hint().unwrap().contains("pulso key create"), "{refused}");
    assert!(start(Mode::None).await.is_ok());
    key(&db, "first", &["--all-stores"]);
    let service = start(Mode::Auto).await.expect("there is a key");
    assert!(service.url().starts_with("http://0.0.0.0:"));
    assert_eq!(
        Client::over(
            AppState::with(
                db.url(),
                Settings {
                    access: AccessSettings { mode: Mode::None, ..AccessSettings::default() },
                    ..Settings::default()
                }
            )
            .unwrap()
        )
        .get("/v1/stores")
        .await
        .status,
        200
    );
}

#[tokio::test]
async fn a_key_asks_as_often_as_it_may() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let slow = key(&db, "slow", &["--all-stores", "--per-minute", "3"]);
    let other = key(&db, "other", &["--all-stores"]);
    let access = AccessSettings { per_minute: 1000, ..AccessSettings::default() };
    let http = Client::over(AppState::with(db.url(), Settings { access, ..Settings::default() }).unwrap());
    // Across the turn of a minute four may pass: begin away from it.
    let first = ask(&http, "/v1/stores", &slow).await;
    assert_eq!(
        (first.status.as_u16(), first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (200, "3", "2")
    );
    let body =
        json!({"requests": [{"path": "/v1/stores"}, {"path": "/v1/stores"}, {"path": "/v1/stores"}]}).to_string();
    let batch =
        Request::post("/v1/batch").header("authorization", format!("Bearer {slow}")).body(Body::from(body)).unwrap();
    assert_eq!(http.send(batch).await.status, 429, "each request of a batch counts");
    assert_eq!(ask(&http, "/v1/stores", &slow).await.status, 200);
    let refused = ask(&http, "/v1/stores", &slow).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.problem()["type"], "urn:pulso:problem:too-many-requests");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 60);
    // A name that the client makes up helps nobody.
    let forged = Request::get("/v1/stores")
        .header("authorization", format!("Bearer {slow}"))
        .header("x-forwarded-for", "1.2.3.4")
        .body(Body::empty())
        .unwrap();
    assert_eq!(http.send(forged).await.status, 429);
    assert_eq!(ask(&http, "/v1/stores", &other).await.status, 200);
}

pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub fn token(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    jsonwebtoken::encode(&Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }, claims, key).unwrap()
}

/// What a service believes with these flags.
pub fn tokens(flags: &[String]) -> pulso::error::Result<Tokens> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }
    let line = std::iter::once("x".to_owned()).chain(flags.iter().cloned());
    Tokens::load(&<Line as clap::Parser>::parse_from(line).args)
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn tokens_are_believed_only_when_a_trusted_issuer_signed_them() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let dir = crate::common::Scratch::new();
    let openssl = |args: &[&str]| Command::new("openssl").args(args).current_dir(&dir.0).output();
    if openssl(&["genrsa", "-out", "key.pem", "2048"]).is_err() {
        crate::common::skip("openssl is not here to make an RSA key");
        return;
    }
    openssl(&["rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]).unwrap();
    openssl(&["genrsa", "-out", "other.pem", "2048"]).unwrap();
    std::fs::write(dir.0.join("secret"), SECRET).unwrap();
    let modulus = String::from_utf8(openssl(&["rsa", "-in", "key.pem", "-noout", "-modulus"]).unwrap().stdout).unwrap();
    std::fs::write(dir.0.join("jwks"), json!({"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "n": base64url(&modulus), "e": "AQAB"}]}).to_string()).unwrap();

    let args = |line: &[&str]| {
        let line: Vec<String> = line.iter().map(|a| a.replace("DIR", dir.0.to_str().unwrap())).collect();
        tokens(&line)
    };
    let open = |tokens: Tokens| {
        let access = AccessSettings { tokens, ..AccessSettings::default() };
        Client::over(AppState::with(db.url(), Settings { access, ..Settings::default() }).unwrap())
    };
    let claims =
        json!({"sub": "ana", "role": "viewer", "stores": [GROCERY], "exp": now() + 60, "iss": "caja", "aud": "pulso"});
    let hs = EncodingKey::from_secret(SECRET);
    let rs = EncodingKey::from_rsa_pem(&std::fs::read(dir.0.join("key.pem")).unwrap()).unwrap();
    let foreign = EncodingKey::from_rsa_pem(&std::fs::read(dir.0.join("other.pem")).unwrap()).unwrap();
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");

    let http = open(args(&["--jwt-secret-file", "DIR/secret"]).unwrap());
    assert_eq!(http.get(&path).await.status, 401, "with an issuer there is no open door");
    assert_eq!(ask(&http, &path, &token(Algorithm::HS256, &hs, None, &claims)).await.status, 200);
    let with = |change: Value| {
        let mut claims = claims.clone();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        token(Algorithm::HS256, &hs, None, &claims)
    };
    assert_eq!(ask(&http, &format!("/v1/stores/{BAR}/dashboard"), &with(json!({}))).await.status, 404);
    assert_eq!(ask(&http, &format!("/v1/stores/{BAR}/dashboard"), &with(json!({"stores": "*"}))).await.status, 200);
    assert_eq!(ask(&http, "/metrics", &with(json!({"stores": "*"}))).await.status, 403);
    assert_eq!(ask(&http, "/metrics", &with(json!({"role": "admin"}))).await.status, 200);
    for (why, change) in [
        ("expired", json!({"exp": now() - 60})),
        ("not yet", json!({"nbf": now() + 120})),
        ("no end", json!({"exp": null})),
        ("no role", json!({"role": null})),
        ("odd role", json!({"role": "root"})),
        ("no stores", json!({"stores": null})),
        ("odd stores", json!({"stores": "all"})),
        ("no subject", json!({"sub": ""})),
        ("long subject", json!({"sub": "x".repeat(300)})),
    ] {
        assert_eq!(ask(&http, &path, &with(change)).await.status, 401, "{why}");
    }
    let good = with(json!({}));
    let (head, rest) = good.split_once('.').unwrap();
    let none = format!("{}.{}.", base64_text(br#"{"alg":"none","typ":"JWT"}"#), rest.split('.').next().unwrap());
    for forged in [none, format!("{head}.{}x", &rest[..rest.len() - 1]), format!("{head}.{rest}x")] {
        assert_eq!(ask(&http, &path, &forged).await.status, 401, "{forged}");
    }

    for with_key in [&["--jwt-public-key", "DIR/public.pem"][..], &["--jwks", "DIR/jwks"]] {
        let http = open(args(with_key).unwrap());
        assert_eq!(
            ask(&http, &path, &token(Algorithm::RS256, &rs, Some("k1"), &claims)).await.status,
            200,
            "{with_key:?}"
        );
        assert_eq!(ask(&http, &path, &token(Algorithm::RS256, &foreign, Some("k1"), &claims)).await.status, 401);
        assert_eq!(ask(&http, &path, &token(Algorithm::HS256, &hs, None, &claims)).await.status, 401);
        // The public key taken for a secret, which a verifier that lets the token choose would believe.
        let public = std::fs::read(dir.0.join("public.pem")).unwrap();
        let confused = token(Algorithm::HS256, &EncodingKey::from_secret(&public), None, &claims);
        assert_eq!(ask(&http, &path, &confused).await.status, 401);
    }
    let strict =
        open(args(&["--jwt-secret-file", "DIR/secret", "--jwt-issuer", "caja", "--jwt-audience", "pulso"]).unwrap());
    assert_eq!(ask(&strict, &path, &good).await.status, 200);
    for change in [json!({"iss": "other"}), json!({"aud": "other"}), json!({"iss": null}), json!({"aud": null})] {
        assert_eq!(ask(&strict, &path, &with(change.clone())).await.status, 401, "{change}");
    }
    std::fs::write(dir.0.join("short"), "short").unwrap();
    for bad in [
        &["--jwt-secret-file", "DIR/short"][..],
        &["--jwt-secret-file", "DIR/none"],
        &["--jwt-public-key", "DIR/secret"],
        &["--jwks", "DIR/secret"],
    ] {
        assert_eq!(args(bad).expect_err("a bad file").kind(), pulso::error::Kind::Usage, "{bad:?}");
    }
}

fn base64_text(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(LETTERS[(number >> (18 - 6 * i) & 63) as usize] as char);
        }
    }
    text
}

/// `Modulus=…` in hexadecimal, as a key set has it.
fn base64url(modulus: &str) -> String {
    let hex = modulus.trim().trim_start_matches("Modulus=");
    let bytes: Vec<u8> = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    base64_text(&bytes)
}
