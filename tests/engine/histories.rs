//! Random histories: any statements in any order, and the rollups equal their queries after each.
//!
//! `PULSO_SEED=<n>` repeats one history and prints its statements.

use crate::common::{Db, long};
use crate::sessions::patiently;
use crate::{assert_equal, differences};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

const ROLLUPS: [&str; 5] = [
    "select k, count(*) as n, sum(x) as sum_x, count(x) as count_x from public.h group by k",
    "select k, name, date_trunc('hour', at at time zone 'America/Caracas') as hour, count(*) as n, sum(i) as sum_i, sum(b) as sum_b,
            avg(i) as avg_i, avg(b) as avg_b, avg((case when abs(x) < 1e20 then x end)::numeric(30, 6)) as avg_x
       from public.h where keep group by 1, 2, 3",
    "select x as key, keep, count(*) filter (where k > 1) as n, sum(x * i) filter (where name <> '') as s, sum(length(name)) as l from public.h group by 1, 2",
    "select count(*) as n, sum(x) as s, sum(pulso.jsonb_numeric(j, 'v')) as v from public.h",
    // In every fourth history: it has seven companions.
    "select k, keep, count(distinct name) as names, count(distinct x) filter (where i > 0) as different, min(x) as least,
            max(name collate \"C\") as last, percentile_disc(0.5) within group (order by x desc) as middle,
            percentile_cont(0.3) within group (order by i::float8) as third, stddev(i) as spread, var_pop(b) as wide,
            bool_and(keep) as every, bool_or(name = 'a') as some
       from public.h group by k, keep",
];

struct History {
    rng: ChaCha8Rng,
    next_id: i32,
    /// Savepoints open in the current transaction; `None` outside one.
    depth: Option<u32>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), next_id: 1, depth: None }
    }

    fn pick<'a>(&mut self, values: &[&'a str]) -> &'a str {
        values.choose(&mut self.rng).copied().unwrap_or("null")
    }

    fn number(&mut self) -> String {
        match self.rng.random_range(0..12) {
            0 => "null".into(),
            1 => self.pick(&["'NaN'", "'Infinity'", "'-Infinity'"]).into(),
            2 => self.pick(&["1e30", "-1e-30", "12345678901234567890.123456789", "1.0", "1.00", "0", "0.000"]).into(),
            _ => format!("{}.{:02}", self.rng.random_range(-500..500), self.rng.random_range(0..100)),
        }
    }

    fn row(&mut self, id: i32) -> String {
        let k = self.pick(&["null", "1", "2", "3"]);
        let name = self.pick(&["null", "''", "'a'", "'b'", "'ñ'"]);
        let x = self.number();
        let i = self.pick(&["null", "0", "7", "-3", "2147483647"]);
        let b = self.pick(&["null", "1", "9223372036854775807", "-9223372036854775808"]);
        let hour = self.rng.random_range(0..5);
        let keep = self.pick(&["true", "true", "true", "false", "null"]);
        let j = self.pick(&["null", "'{\"v\": 2.5}'", "'{\"v\": \"x\"}'", "'[1]'", "'{}'"]);
        format!(
            "({id}, {k}, {name}, {x}, {i}, {b}, '2026-03-01 00:30+00'::timestamptz + {hour} * interval '40 min', {keep}, {j})"
        )
    }

    fn rows(&mut self, most: i32) -> String {
        let count = self.rng.random_range(1..=most);
        let rows: Vec<String> = (0..count)
            .map(|_| {
                let id = self.next_id;
                self.next_id += 1;
                self.row(id)
            })
            .collect();
        rows.join(", ")
    }

    fn some_ids(&mut self) -> String {
        let modulus = self.rng.random_range(1..8);
        format!("id % {modulus} = {}", self.rng.random_range(0..modulus))
    }

    fn statement(&mut self) -> String {
        let ids = self.some_ids();
        match self.rng.random_range(0..100) {
            0..25 => format!("insert into h values {}", self.rows(8)),
            25..30 => {
                let (first, count) = (self.next_id, self.rng.random_range(1..200));
                self.next_id += count + 1;
                format!(
                    "insert into h select {first} + g, g % 3, 'a', g * 0.5, g, g, '2026-03-01 02:00+00', true, null
                       from generate_series(1, {count}) g"
                )
            }
            30..40 => format!("update h set x = {}, i = i - 1 where {ids} and i > -100", self.number()),
            40..50 => format!(
                "update h set k = {}, name = {} where {ids}",
                self.pick(&["null", "1", "k + 1", "k"]),
                self.pick(&["null", "''", "name"])
            ),
            50..53 => "update h set x = x, k = k".into(),
            53..60 => format!("update h set keep = not keep, at = at + interval '20 min' where {ids}"),
            60..70 => format!("delete from h where {ids}"),
            70..76 => {
                let id = self.rng.random_range(1..=self.next_id);
                self.next_id += 1;
                let row = self.row(id);
                format!(
                    "insert into h values {row} on conflict (id) do {}",
                    self.pick(&["nothing", "update set k = excluded.k, x = excluded.x, keep = excluded.keep"])
                )
            }
            76..80 => {
                let id = self.rng.random_range(1..=self.next_id);
                let row = self.row(self.next_id);
                self.next_id += 1;
                format!(
                    "merge into h using (select {id} as id) m on m.id = h.id
                       when matched and h.k = 1 then delete when matched then update set k = 1, x = {}
                       when not matched then insert values {row}",
                    self.number()
                )
            }
            80..82 => "truncate h".into(),
            82..84 => format!(
                "with gone as (delete from h where {ids} returning *) insert into h select id % 1000000 + 1000000 * (1 + (random() * 1000)::int), k, name, x, i, b, at, keep, j from gone on conflict do nothing"
            ),
            84..90 => match self.depth {
                None => {
                    self.depth = Some(0);
                    "begin".into()
                }
                Some(_) => {
                    self.depth = None;
                    self.pick(&["commit", "commit", "rollback"]).into()
                }
            },
            90..95 => match self.depth {
                None => "select pulso.fold()".into(),
                Some(depth) if depth > 0 && self.rng.random() => format!("rollback to s{depth}"),
                Some(depth) => {
                    self.depth = Some(depth + 1);
                    format!("savepoint s{}", depth + 1)
                }
            },
            _ => "select pulso.fold()".into(),
        }
    }
}

async fn live(client: &Client, folder: &Client, seed: u64, print: bool) {
    let mut history = History::new(seed);
    let columns =
        "id int primary key, k int, name text, x numeric, i int, b bigint, at timestamptz, keep boolean, j jsonb";
    let table = match seed % 3 {
        0 => format!(
            "create table h ({columns}) partition by range (id);
             create table h_1 (j jsonb, gone text, keep boolean, at timestamptz, b bigint, i int, x numeric, name text, k int, id int not null);
             alter table h_1 drop column gone;
             alter table h attach partition h_1 for values from (10) to (60);
             create table h_2 partition of h default"
        ),
        _ => format!("create table h ({columns})"),
    };
    client.batch_execute(&table).await.unwrap();
    let late = history.rng.random_range(0..20);
    let all = if seed.is_multiple_of(4) { ROLLUPS.len() } else { ROLLUPS.len() - 1 };
    let mut made = 0;
    for step in 0..40 {
        while made < all && (made < 2 || step >= late) && history.depth.is_none() {
            client
                .execute("select pulso.create_rollup($1, $2, true)", &[&format!("public.h{made}"), &ROLLUPS[made]])
                .await
                .unwrap();
            made += 1;
        }
        let statement = history.statement();
        if print {
            eprintln!("{statement};");
        }
        client
            .batch_execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, step {step}: {statement}: {error:?}"));
        if history.rng.random_range(0..4) == 0 {
            folder.batch_execute("select pulso.fold()").await.unwrap();
        }
        // One of them after each statement, all of them now and then: a difference does not go away by itself.
        let one = history.rng.random_range(0..made);
        for (number, query) in ROLLUPS.iter().enumerate().take(made) {
            if number == one || step % 8 == 7 {
                let found = differences(client, &format!("public.h{number}"), query).await;
                assert_eq!(found, 0, "h{number} differs at step {step} of PULSO_SEED={seed}, after {statement}");
            }
        }
    }
    if history.depth.is_some() {
        client.batch_execute("commit").await.unwrap();
    }
    client.batch_execute("select pulso.fold()").await.unwrap();
    for (number, query) in ROLLUPS.iter().enumerate().take(made) {
        let name = format!("public.h{number}");
        assert_equal(client, &name, query, &format!("at the end of PULSO_SEED={seed}")).await;
        patiently(client, &format!("select pulso.drop_rollup('{name}')")).await;
    }
    client.batch_execute("drop table h").await.unwrap();
}

async fn run(count: u64) {
    let seeds: Vec<u64> = match std::env::var("PULSO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let first = rand::rng().random_range(0..1_000_000_000);
            (first..first + count).collect()
        }
    };
    let db = Db::empty().await;
    let (client, folder) = (db.connect().await, db.connect().await);
    client.batch_execute("create extension pulso").await.unwrap();
    println!("{} histories from seed {}", seeds.len(), seeds[0]);
    for seed in &seeds {
        live(&client, &folder, *seed, seeds.len() == 1).await;
    }
    println!("{} histories, 0 differences", seeds.len());
}

#[tokio::test]
async fn two_hundred_random_histories() {
    run(200).await;
}

#[tokio::test]
async fn five_thousand_random_histories() {
    if long() {
        run(5_000).await;
    }
}
