//! Random histories of one to four joined tables: up to eight sessions in any order, at any isolation level, with
//! savepoints, prepared transactions, and folds, builds, alters and repairs at any moment, also left open over other
//! sessions' steps. The rollups equal their queries after each step, in the session's own snapshot and in another's.
//!
//! `PULSO_SEED=<n>` repeats one history and prints its steps. No background worker folds here, so that it is the same.

use crate::common::{Db, long};
use crate::joins::{ROLLUPS as JOINED, SCHEMA};
use crate::sessions::{Session, code, end, finish_prepared, patiently, settle};
use crate::{assert_equal, comparison};
use pulso::cluster::{Cluster, Options};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use tokio_postgres::{Client, Statement};

const STEPS: usize = 24;
/// Histories at a time, each in a database of its own.
const LANES: u64 = 4;
/// Conflicts, and what the shop's own constraints refuse.
const EXPECTED: &[&str] = &["40001", "40P01", "23503", "23505"];
/// Who builds and folds also gives way to writers.
const OF_KEEPER: &[&str] = &["40001", "40P01", "55P03"];

/// Of one table each; and those of two to four.
const OF_ONE_TABLE: [(&str, &str); 2] = [
    (
        "public.by_product",
        "select product_id, count(*) as n, sum(qty) as units, count(sale_id) as sold, min(qty) as least
           from public.items where qty <> 7 group by product_id",
    ),
    ("public.by_status", "select status, count(*) as n, count(note) as notes from public.sales group by status"),
];

/// One that is built, altered to and fro and repaired during a history: its query is one of the two.
const LATE: &str = "public.late";
const LATE_QUERIES: [&str; 2] = [
    "select s.status, i.product_id, count(*) as n, sum(i.qty) as units
       from public.items i join public.sales s on s.id = i.sale_id group by 1, 2",
    "select s.status, i.product_id, count(*) as n, sum(i.qty) as units
       from public.items i join public.sales s on s.id = i.sale_id where i.qty > 2 and s.store_id = 1 group by 1, 2",
];

fn rollups() -> impl Iterator<Item = (&'static str, &'static str)> {
    OF_ONE_TABLE.into_iter().chain(JOINED)
}

/// What is known of a session's transaction.
#[derive(Clone, Default)]
struct Transaction {
    /// Savepoints; `None` outside a transaction.
    depth: Option<u32>,
    keeps_snapshot: bool,
    /// It has emptied a table, or is about to.
    truncates: bool,
    /// Its snapshot may be older than somebody's TRUNCATE, which Postgres does not hide from it.
    is_exempt: bool,
}

struct History {
    rng: ChaCha8Rng,
    seed: u64,
    transactions: Vec<Transaction>,
    /// Names of prepared transactions, and whether they have emptied a table.
    prepared: Vec<(String, bool)>,
    next: u32,
    /// Whether a session with a snapshot of its own waits, and will look at a rollup then.
    somebody_will_look: bool,
    /// Whether the keeper has left a transaction open.
    keeping: bool,
    /// Whether this history has a rollup that comes late.
    has_late: bool,
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
        match self.below(36) {
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
            26 => format!("with h as (delete from sales where id = {sale}) update items set qty = 7 where id = {item}"),
            27 | 28 => format!("copy items from stdin\n{}", self.lines().replace("), (", "\n").replace(['(', ')'], "").replace(", ", "\t").replace("null", "\\N") + "\n"),
            29 => format!("update items set qty = qty, sale_id = sale_id where product_id = {product}; update sales set status = status where id < {other}"),
            30 => format!(
                "insert into items values ({item}, {sale}, {product}, 4) on conflict (id) do {}",
                self.pick(&["nothing", "update set qty = items.qty + excluded.qty, sale_id = excluded.sale_id", "update set product_id = excluded.product_id where items.qty > 3"])
            ),
            31 => format!(
                "merge into sales using (values ({sale}), ({fresh})) as m (id) on m.id = sales.id
                   when matched and sales.status = 'void' then delete when matched then update set status = {status} when not matched then insert values (m.id, {store})"
            ),
            32 => format!("insert into items select {fresh} * 1000 + row_number() over (), sale_id, product_id, -qty from items where sale_id in ({sale}, {other})"),
            33 => format!("delete from items where sale_id = {sale}"),
            34 if self.below(3) == 1 => self.pick(&["truncate items", "truncate items", "truncate sales cascade"]).to_owned(),
            _ => format!("update items set qty = qty + 1, product_id = {product} where id between {item} and {item} + 5"),
        }
    }

    /// What a session does next.
    fn step(&mut self, session: usize) -> String {
        let chance = self.below(100);
        match (self.transactions[session].depth, chance) {
            (None, 1..=70) => {
                let level = self.pick(&["read committed", "repeatable read", "serializable"]);
                let keeps_snapshot = level != "read committed";
                self.transactions[session] = Transaction::default();
                let is_exempt = keeps_snapshot && self.another_truncates(session);
                self.transactions[session] =
                    Transaction { depth: Some(0), keeps_snapshot, truncates: false, is_exempt };
                format!("begin isolation level {level}")
            }
            (None, _) => {
                self.transactions[session] = Transaction::default();
                self.noted(session)
            }
            (Some(depth), 1..=8) => {
                self.transactions[session].depth = Some(depth + 1);
                format!("savepoint s{}", depth + 1)
            }
            (Some(depth), 9..=14) if depth > 0 => {
                let to = self.below(depth);
                if self.below(4) == 1 {
                    self.transactions[session].depth = Some(to - 1);
                    return format!("release s{to}");
                }
                self.transactions[session].depth = Some(to);
                format!("rollback to s{to}")
            }
            (Some(_), 15..=33) => {
                self.transactions[session] = Transaction::default();
                self.pick(&["commit", "commit", "commit", "rollback"]).to_owned()
            }
            (Some(_), 34..=37) => {
                let number = self.fresh();
                let name = format!("h{}_{number}_{session}", self.seed);
                let ended = std::mem::take(&mut self.transactions[session]);
                self.prepared.push((name.clone(), ended.truncates));
                format!("prepare transaction '{name}'")
            }
            _ => self.noted(session),
        }
    }

    fn another_truncates(&self, session: usize) -> bool {
        let others = self.transactions.iter().enumerate().filter(|(other, _)| *other != session);
        others.map(|(_, other)| other.truncates).chain(self.prepared.iter().map(|(_, truncates)| *truncates)).any(|t| t)
    }

    /// A statement; if it empties a table, that is noted.
    fn noted(&mut self, session: usize) -> String {
        let mut statement = self.statement();
        while self.somebody_will_look && statement.starts_with("truncate") {
            statement = self.statement();
        }
        if statement.starts_with("truncate") {
            for transaction in self.transactions.iter_mut().filter(|other| other.keeps_snapshot) {
                transaction.is_exempt = true;
            }
            self.transactions[session].truncates = true;
            self.transactions[session].is_exempt = false;
        }
        statement
    }

    /// What the keeper does next.
    fn keep(&mut self) -> String {
        if self.keeping {
            self.keeping = false;
            return self.pick(&["commit", "commit", "rollback"]).to_owned();
        }
        let (name, _) = rollups().nth(self.rng.random_range(0..6)).unwrap_or(JOINED[0]);
        let late = self.pick(&LATE_QUERIES);
        let action = match self.below(12) {
            1 | 2 => "set pulso.fold_gently = off; select pulso.fold()".to_owned(),
            // As a background worker does, which compacts while a snapshot is kept.
            3 | 4 => "set pulso.fold_gently = on; select pulso.fold()".to_owned(),
            5 => format!("select pulso.fold('{name}')"),
            6 => "select pulso.announce()".to_owned(),
            7 => format!("select pulso.repair('{name}')"),
            _ if !self.has_late => "select pulso.fold()".to_owned(),
            8 | 9 => {
                format!("select pulso.create_rollup('{LATE}', $$ {late} $$, false) where to_regclass('{LATE}') is null")
            }
            10 => format!(
                "select pulso.alter_rollup('{LATE}', $$ {late} $$, false) where to_regclass('{LATE}') is not null"
            ),
            11 => format!("select pulso.repair('{LATE}') where to_regclass('{LATE}') is not null"),
            _ => format!("select pulso.build('{LATE}') where to_regclass('{LATE}') is not null"),
        };
        if self.below(4) == 1 {
            self.keeping = true;
            return format!("begin; {action}");
        }
        action
    }
}

/// A rollup, and its comparison with its query, planned once: planning takes most of the time of one.
struct Compared {
    name: &'static str,
    query: &'static str,
    differences: Statement,
}

impl Compared {
    async fn prepare(watcher: &Client, name: &'static str, query: &'static str) -> Self {
        Self { name, query, differences: watcher.prepare(&comparison(name, query)).await.unwrap() }
    }

    /// Compares, unless somebody holds a lock that readers wait for.
    async fn look(&self, watcher: &Client, context: &str) {
        match watcher.query_one(&self.differences, &[]).await {
            Ok(row) => assert_eq!(row.get::<_, i64>(0), 0, "{context}: {}", self.name),
            Err(error) => assert_eq!(code(&error), "55P03", "{context}: {error:?}"),
        }
    }

    /// Compares, and shows the rows that differ.
    async fn assert_equal(&self, watcher: &Client, context: &str) {
        let differences: i64 = watcher.query_one(&self.differences, &[]).await.unwrap().get(0);
        if differences != 0 {
            assert_equal(watcher, self.name, self.query, context).await;
        }
        assert_eq!(differences, 0, "{context}: {}", self.name);
    }
}

/// The rollup that comes late: its query is one of two, until an alter ends.
async fn look_at_late(watcher: &Client, context: &str) {
    let exists = format!("select to_regclass('{LATE}') is not null");
    if !watcher.query_one(&exists, &[]).await.unwrap().get::<_, bool>(0) {
        return;
    }
    let [first, second] = LATE_QUERIES.map(|query| {
        format!(
            "(select count(*) from (
               (select * from {LATE} except all ({query})) union all (({query}) except all select * from {LATE})) as d)"
        )
    });
    match watcher.query_one(&format!("select least({first}, {second})"), &[]).await {
        Ok(row) => assert_eq!(row.get::<_, i64>(0), 0, "{context}: {LATE}"),
        Err(error) => assert_eq!(code(&error), "55P03", "{context}: {error:?}"),
    }
}

/// Sessions of one lane, which serve one history after the other.
struct Lane {
    db: Db,
    watcher: Client,
    compared: Vec<Compared>,
    keeper: Vec<Session>,
    sessions: Vec<Session>,
}

impl Lane {
    async fn new(cluster: &Cluster) -> Self {
        let db = Db::empty_in(cluster).await;
        let watcher = db.connect().await;
        watcher.batch_execute(SCHEMA).await.unwrap();
        watcher.batch_execute("set plan_cache_mode = force_generic_plan").await.unwrap();
        let mut compared = Vec::new();
        for (name, query) in rollups() {
            watcher
                .execute("select pulso.create_rollup($1, $2)", &[&name, &query])
                .await
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
            compared.push(Compared::prepare(&watcher, name, query).await);
        }
        let mut keeper = Session::new(&db, OF_KEEPER).await;
        keeper.tell("set lock_timeout = '20ms'".into());
        let mut keeper = vec![keeper];
        settle(&watcher, &mut keeper, "the keeper").await;
        Self { db, watcher, compared, keeper, sessions: Vec::new() }
    }

    async fn settle(&mut self, count: usize, context: &str) {
        settle(&self.watcher, &mut self.sessions[..count], context).await;
    }
}

async fn live(lane: &mut Lane, seed: u64, print: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = rng.random_range(1..=8);
    let has_late = rng.random_range(0..4) == 0;
    let transactions = vec![Transaction::default(); count];
    let mut history = History {
        rng,
        seed,
        transactions,
        prepared: Vec::new(),
        next: 100,
        somebody_will_look: false,
        keeping: false,
        has_late,
    };
    let rows = SCHEMA.split("insert into stores").nth(1).unwrap();
    lane.watcher
        .batch_execute(&format!(
            "set lock_timeout = 0; delete from items; delete from sales; delete from products; delete from stores;
             insert into stores{rows}; set lock_timeout = '5ms'"
        ))
        .await
        .unwrap();
    while lane.sessions.len() < count {
        lane.sessions.push(Session::new(&lane.db, EXPECTED).await);
    }
    for step in 0..STEPS + 2 * count {
        let context = format!("PULSO_SEED={seed}, step {step}");
        history.somebody_will_look =
            (0..count).any(|session| lane.sessions[session].is_busy() && history.transactions[session].keeps_snapshot);
        let free: Vec<usize> = (0..count).filter(|session| !lane.sessions[*session].is_busy()).collect();
        if let Some(session) = free.choose(&mut history.rng).copied() {
            let sql = history.step(session);
            if print {
                eprintln!("{session}: {sql};");
            }
            let is_change =
                !["begin", "commit", "rollback", "prepare", "savepoint", "release"].iter().any(|w| sql.starts_with(w));
            let name = lane.compared[step % lane.compared.len()].name;
            let looks = is_change && !history.transactions[session].is_exempt;
            // The locks first: a snapshot from before the wait for a TRUNCATE would be exempt.
            let look =
                format!("lock table items, sales in access share mode; select 1 / (pulso.verify('{name}') = 0)::int");
            if looks && sql.starts_with("copy ") {
                lane.sessions[session].tell(sql);
                lane.sessions[session].tell(look);
            } else {
                lane.sessions[session].tell(if looks { format!("{sql}; {look}") } else { sql });
            }
        }
        lane.settle(count, &context).await;
        settle(&lane.watcher, &mut lane.keeper, &context).await;
        match history.below(12) {
            1..=3 if !lane.keeper[0].is_busy() => {
                let sql = history.keep();
                if print {
                    eprintln!("keeper: {sql};");
                }
                lane.keeper[0].tell(sql);
                settle(&lane.watcher, &mut lane.keeper, &context).await;
            }
            4 | 5 if !history.prepared.is_empty() => {
                let (name, _) = history.prepared.remove(0);
                let how = history.pick(&["commit", "rollback"]);
                if print {
                    eprintln!("{how} prepared '{name}';");
                }
                finish_prepared(&lane.watcher, &name, how).await;
                lane.settle(count, &context).await;
            }
            _ => {}
        }
        let compared = &lane.compared[history.rng.random_range(0..lane.compared.len())];
        compared.look(&lane.watcher, &context).await;
        if has_late && step % 3 == 0 {
            look_at_late(&lane.watcher, &context).await;
        }
    }
    finish(lane, history, count).await;
}

/// Ends what is open, and compares everything, before and after a fold.
async fn finish(lane: &mut Lane, mut history: History, count: usize) {
    let context = format!("PULSO_SEED={}, at the end", history.seed);
    for (name, _) in std::mem::take(&mut history.prepared) {
        finish_prepared(&lane.watcher, &name, "commit").await;
    }
    lane.keeper[0].tell("commit".into());
    for session in &mut lane.sessions[..count] {
        session.tell("commit".into());
    }
    // A session that was waiting may have prepared its transaction only now.
    for _ in 0..3 {
        lane.settle(count, &context).await;
        let left = "select gid from pg_prepared_xacts where database = current_database()";
        for row in lane.watcher.query(left, &[]).await.unwrap() {
            finish_prepared(&lane.watcher, row.get(0), "commit").await;
        }
    }
    end(&mut lane.sessions[..count], &context).await;
    end(&mut lane.keeper, &context).await;
    lane.watcher.batch_execute("set lock_timeout = 0").await.unwrap();
    for compared in &lane.compared {
        compared.assert_equal(&lane.watcher, &context).await;
    }
    look_at_late(&lane.watcher, &context).await;
    lane.watcher
        .batch_execute(&format!(
            "select pulso.fold(); select pulso.build('{LATE}') where to_regclass('{LATE}') is not null"
        ))
        .await
        .unwrap();
    for compared in &lane.compared {
        compared.assert_equal(&lane.watcher, &format!("{context}, folded")).await;
    }
    look_at_late(&lane.watcher, &format!("{context}, built")).await;
    // A vacuum by Postgres itself may have one of its tables, or for a moment one of the catalog's.
    let drop = format!("select pulso.drop_rollup('{LATE}') where to_regclass('{LATE}') is not null");
    patiently(&lane.watcher, &drop).await;
    let reasons: Option<String> = lane
        .watcher
        .query_one("select string_agg(name || ': ' || reason, '; ') from pulso.rollups", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(reasons, None, "{context}: the rollups are live to the end");
    lane.watcher.batch_execute("set lock_timeout = '5ms'").await.unwrap();
}

async fn run(count: u64) {
    let (first, count) = match std::env::var("PULSO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed, 1),
        None => (rand::rng().random_range(0..1_000_000_000), count),
    };
    println!("{count} joined histories from seed {first}");
    let options = Options::temporary().set("pulso.fold", "off").set("pulso.feed_interval", "0");
    let cluster = Arc::new(Cluster::start(&options).await.unwrap());
    let lanes = (0..LANES.min(count)).map(|number| {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let mut lane = Lane::new(&cluster).await;
            for seed in (first + number..first + count).step_by(LANES as usize) {
                live(&mut lane, seed, count == 1).await;
                let done = seed - first + 1;
                if done % 1000 == 0 {
                    println!("{done} of {count}");
                }
            }
        })
    });
    for lane in futures_util::future::join_all(lanes).await {
        lane.unwrap();
    }
    println!("{count} joined histories, 0 differences");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_histories_of_joined_tables() {
    run(500).await;
}

/// Of these, `PULSO_HISTORIES=<n>` runs another number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_histories_of_joined_tables() {
    if long() {
        run(std::env::var("PULSO_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000)).await;
    }
}
