//! Random histories of joined tables: up to five sessions in any order, at any isolation level, with savepoints, prepared
//! transactions and folds at any moment, and the rollups equal their queries after each step, in the session's own
//! snapshot and in another's.
//!
//! `PULSO_SEED=<n>` repeats one history and prints its steps.

use crate::common::{Db, long};
use crate::joins::{ROLLUPS, SCHEMA, create_all};
use crate::sessions::{Session, end, settle};
use crate::{assert_equal, differences};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

const STEPS: usize = 30;
/// Conflicts, and what the shop's own constraints refuse.
const EXPECTED: &[&str] = &["40001", "40P01", "23503", "23505"];

struct History {
    rng: ChaCha8Rng,
    seed: u64,
    /// Savepoints of each session's transaction; `None` outside one.
    depths: Vec<Option<u32>>,
    prepared: Vec<String>,
    next: u32,
}

impl History {
    fn pick<'a>(&mut self, values: &[&'a str]) -> &'a str {
        values.choose(&mut self.rng).copied().unwrap_or_default()
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(1..=limit)
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn sale(&mut self) -> u32 {
        let newest = self.next;
        if self.rng.random_range(0..4) == 0 && newest > 100 {
            self.rng.random_range(101..=newest)
        } else {
            self.below(12)
        }
    }

    fn lines(&mut self) -> String {
        let count = self.below(3);
        let lines: Vec<String> = (0..count)
            .map(|_| {
                let (id, sale, product, qty) = (self.fresh(), self.sale(), self.below(3), self.below(9));
                let sale = if self.below(12) == 1 { "null".to_owned() } else { sale.to_string() };
                format!("({id}, {sale}, {product}, {qty})")
            })
            .collect();
        lines.join(", ")
    }

    fn statement(&mut self) -> String {
        let (sale, other, item) = (self.sale(), self.sale(), self.below(60));
        let (store, product, fresh) = (self.below(2), self.below(3), self.fresh());
        let status = self.pick(&["'done'", "'void'", "'late'", "status"]);
        match self.below(26) {
            1..=5 => format!("insert into items values {}", self.lines()),
            6 => format!("update items set qty = qty + 1 where sale_id = {sale}"),
            7 => format!("update items set sale_id = {other} where id = {item}"),
            8 => format!("update items set product_id = {product}, qty = qty * -1 where id = {item}"),
            9 => format!("delete from items where id = {item}"),
            10 | 11 => format!("update sales set status = {status} where id = {sale}"),
            12 => format!("update sales set store_id = {store}, at = at + interval '5 hours' where id = {sale}"),
            13 => format!("update sales set note = coalesce(note || 'x', 'y') where id in ({sale}, {other})"),
            14 => format!("delete from sales where id = {sale}"),
            15 => format!("update sales set id = {fresh} where id = {sale}"),
            16 => {
                let line = self.fresh();
                format!(
                    "with h as (insert into sales values ({fresh}, {store}, {status_new})) insert into items values ({line}, {fresh}, {product}, 2)",
                    status_new = if status == "status" { "'done'" } else { status }
                )
            }
            17 => format!("insert into sales values ({fresh}, {store}); insert into items select {fresh} * 1000 + g, {fresh}, g, g from generate_series(1, 3) g"),
            18 => format!("update stores set name = name || '.' where id = {store}"),
            19 => format!("update products set category = {} where id = {product}", self.pick(&["null", "'food'", "'x'", "category"])),
            20 => format!("update products set stock = stock - 1 where id = {product}"),
            21 => format!("insert into sales values ({sale}, {store}) on conflict (id) do update set status = excluded.status, store_id = excluded.store_id"),
            22 => format!(
                "merge into items using (values ({item}, {sale})) as m (id, sale) on m.id = items.id
                   when matched and items.qty > 5 then delete when matched then update set sale_id = m.sale when not matched then insert values (m.id, m.sale, {product}, 1)"
            ),
            23 => format!("with l as (delete from items where sale_id = {sale}) update sales set status = {status} where id in ({sale}, {other})"),
            24 => format!("with h as (update sales set status = {status} where id = {sale}) insert into items values ({fresh}, {sale}, {product}, 3)"),
            25 => format!("select from sales where id = {sale} for {}", self.pick(&["update", "no key update", "share", "key share"])),
            _ => format!("with h as (delete from sales where id = {sale}) update items set qty = 7 where id = {item}"),
        }
    }

    /// What a session does next.
    fn step(&mut self, session: usize) -> String {
        let chance = self.below(100);
        match (self.depths[session], chance) {
            (None, 1..=70) => {
                self.depths[session] = Some(0);
                format!("begin isolation level {}", self.pick(&["read committed", "repeatable read", "serializable"]))
            }
            (None, _) => self.statement(),
            (Some(depth), 1..=8) => {
                self.depths[session] = Some(depth + 1);
                format!("savepoint s{}", depth + 1)
            }
            (Some(depth), 9..=13) if depth > 0 => {
                let to = self.below(depth);
                self.depths[session] = Some(to);
                format!("rollback to s{to}")
            }
            (Some(_), 14..=32) => {
                self.depths[session] = None;
                self.pick(&["commit", "commit", "commit", "rollback"]).to_owned()
            }
            (Some(_), 33..=36) => {
                self.depths[session] = None;
                let number = self.fresh();
                let name = format!("h{}_{number}_{session}", self.seed);
                self.prepared.push(name.clone());
                format!("prepare transaction '{name}'")
            }
            _ => self.statement(),
        }
    }
}

/// Commits or rolls back a prepared transaction, if there is one by that name.
async fn finish_prepared(watcher: &Client, name: &str, how: &str) {
    if let Err(error) = watcher.batch_execute(&format!("{how} prepared '{name}'")).await {
        assert_eq!(error.code().map(|code| code.code()), Some("42704"), "{error:?}");
    }
}

async fn live(db: &Db, watcher: &Client, sessions: &mut Vec<Session>, seed: u64, print: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = rng.random_range(1..=5);
    let mut history = History { rng, seed, depths: vec![None; count], prepared: Vec::new(), next: 100 };
    let rows = SCHEMA.split("insert into stores").nth(1).unwrap();
    watcher
        .batch_execute(&format!(
            "delete from items; delete from sales; delete from products; delete from stores; insert into stores{rows}"
        ))
        .await
        .unwrap();
    while sessions.len() < count {
        sessions.push(Session::new(db, EXPECTED).await);
    }
    let sessions = &mut sessions[..count];
    for step in 0..STEPS {
        let context = format!("PULSO_SEED={seed}, step {step}");
        let free: Vec<usize> = (0..count).filter(|session| !sessions[*session].is_busy()).collect();
        if let Some(session) = free.choose(&mut history.rng).copied() {
            let sql = history.step(session);
            if print {
                eprintln!("{session}: {sql};");
            }
            let is_change =
                !["begin", "commit", "rollback", "prepare", "savepoint"].iter().any(|word| sql.starts_with(word));
            let (name, _) = ROLLUPS[step % ROLLUPS.len()];
            let look =
                if is_change { format!("; select 1 / (pulso.verify('{name}') = 0)::int") } else { String::new() };
            sessions[session].tell(format!("{sql}{look}"));
        }
        settle(watcher, sessions, &context).await;
        match history.below(12) {
            1 | 2 => watcher.batch_execute("select pulso.fold()").await.unwrap(),
            3 | 4 if !history.prepared.is_empty() => {
                let name = history.prepared.remove(0);
                let how = history.pick(&["commit", "rollback"]);
                finish_prepared(watcher, &name, how).await;
                settle(watcher, sessions, &context).await;
            }
            _ => {}
        }
        let (name, query) = ROLLUPS[history.rng.random_range(0..ROLLUPS.len())];
        assert_eq!(differences(watcher, name, query).await, 0, "{context}: {name}");
    }
    let context = format!("PULSO_SEED={seed}, at the end");
    for name in std::mem::take(&mut history.prepared) {
        finish_prepared(watcher, &name, "commit").await;
    }
    for session in sessions.iter_mut() {
        session.tell("commit".into());
    }
    // A session that was waiting may have prepared its transaction only now.
    for _ in 0..3 {
        settle(watcher, sessions, &context).await;
        for row in
            watcher.query("select gid from pg_prepared_xacts where database = current_database()", &[]).await.unwrap()
        {
            finish_prepared(watcher, row.get(0), "commit").await;
        }
    }
    end(sessions, &context).await;
    for (name, query) in ROLLUPS {
        assert_equal(watcher, name, query, &context).await;
    }
    watcher.batch_execute("select pulso.fold()").await.unwrap();
    for (name, query) in ROLLUPS {
        assert_equal(watcher, name, query, &format!("{context}, folded")).await;
    }
}

async fn run(count: u64) {
    let (first, count) = match std::env::var("PULSO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed, 1),
        None => (rand::rng().random_range(0..1_000_000_000), count),
    };
    println!("{count} joined histories from seed {first}");
    const LANES: u64 = 3;
    let lanes = (0..LANES.min(count)).map(|lane| {
        tokio::spawn(async move {
            let db = Db::empty().await;
            let watcher = db.connect().await;
            watcher.batch_execute(SCHEMA).await.unwrap();
            create_all(&watcher).await;
            let mut sessions = Vec::new();
            for seed in (first + lane..first + count).step_by(LANES as usize) {
                live(&db, &watcher, &mut sessions, seed, count == 1).await;
            }
        })
    });
    for lane in futures_util::future::join_all(lanes).await {
        lane.unwrap();
    }
    println!("{count} joined histories, 0 differences");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_histories_of_joined_tables() {
    run(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_histories_of_joined_tables() {
    if long() {
        run(20_000).await;
    }
}
