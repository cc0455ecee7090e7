//! Aggregates without an inverse: count(distinct), min, max and percentiles, through the companions that count values;
//! and those that are made of sums: variance, standard deviation, bool_and, bool_or.

use crate::common::Db;
use crate::{assert_equal, differences};
use tokio_postgres::Client;

const QUERY: &str = "
  select g, count(*) as n, count(distinct x) as different, count(distinct u) filter (where i > 3) as some,
         min(t) as first, max(t) as last, min(d) filter (where ok) as earliest, max(f) as highest,
         percentile_cont(0.5) within group (order by f) as median,
         percentile_cont(0.9) within group (order by f desc) filter (where ok) as low,
         percentile_cont(0) within group (order by d) as shortest, percentile_cont(0.37) within group (order by d) as d37,
         percentile_disc(0.5) within group (order by x) as mid, percentile_disc(1) within group (order by t) as top,
         percentile_disc(0.25) within group (order by i desc) as q,
         stddev(x) as sx, stddev_pop(i) as si, variance(b) as vb, var_samp(s) as vs, var_pop(x) filter (where ok) as vx,
         bool_and(ok) as a, every(i > 0) as e, bool_or(ok and i > 4) as o
    from public.v group by g";

async fn table() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso;
             create table v (id int generated always as identity primary key, g int, x numeric(14, 3), t text, i int, s smallint,
                             b bigint, f float8, d interval, u uuid, ok bool);
             -- Groups of 1 to 12 rows, with ties, NULLs, and numbers that a square root does not end for.
             insert into v (g, x, t, i, s, b, f, d, u, ok)
             select g, (n * g) % 5 + 0.125 * g, chr(97 + (n * 7 + g) % 6), n - g % 4, n % 3, n * 3000000007::bigint, (n * g % 7) / 3.0::float8,
                    make_interval(mins => n * g % 11, days => g % 2), md5((n % 4)::text)::uuid, nullif(n % 4, 3) > 0
               from generate_series(1, 12) g, generate_series(1, 12) n where n <= g",
        )
        .await
        .unwrap();
    (db, client)
}

const CHANGES: &[&str] = &[
    "update v set x = x + 0.001 where id % 3 = 0",
    "update v set t = null, i = -i, ok = null where id % 7 = 0",
    "delete from v where g = 5",
    "delete from v where g = 11 and ok",
    "update v set g = 5 where g = 4",
    "insert into v (g) values (null), (13)",
    "insert into v (g, f, d, b, x) values (14, 'NaN', '1 mon', 9223372036854775807, 99999999999.999), (14, 'Infinity', '-1 mon', -9223372036854775808, -99999999999.999)",
    "insert into v (g, f) values (15, 'Infinity'), (15, 'Infinity'), (15, '-Infinity')",
    "insert into v (g, x) values (16, 'NaN'), (16, 1)",
    "update v set x = 2 where x = 'NaN'",
    "truncate v",
    "insert into v (g, x, t, i) values (1, 1, 'z', 4)",
];

#[tokio::test]
async fn they_equal_their_query_after_every_change_folded_or_not() {
    for fold in [false, true] {
        let (_db, client) = table().await;
        client.execute("select pulso.create_rollup('public.r', $1)", &[&QUERY]).await.unwrap();
        let whole = QUERY.replacen("g, ", "", 1).replace("group by g", "");
        client.execute("select pulso.create_rollup('public.w', $1)", &[&whole]).await.unwrap();
        assert_equal(&client, "public.r", QUERY, "at first").await;
        for change in CHANGES {
            client.batch_execute(&format!("begin; {change}")).await.unwrap();
            assert_equal(&client, "public.r", QUERY, &format!("within its transaction, after {change}")).await;
            client
                .batch_execute(&format!(
                    "savepoint s; delete from v where id % 2 = 0; update v set x = -x; rollback to s; commit; {}",
                    if fold { "select pulso.fold()" } else { "" }
                ))
                .await
                .unwrap();
            assert_equal(&client, "public.r", QUERY, &format!("after {change}")).await;
            assert_equal(&client, "public.w", &whole, &format!("without groups, after {change}")).await;
        }
    }
}

#[tokio::test]
async fn they_are_built_altered_repaired_and_dropped_with_the_rollup() {
    let (_db, client) = table().await;
    client.execute("select pulso.create_rollup('public.r', $1, with_data => false)", &[&QUERY]).await.unwrap();
    let live = "select bool_and(live), count(*) from pulso.rollups where name = 'r' or companion_of = 'r'";
    let before = client.query_one(live, &[]).await.unwrap();
    assert_eq!((before.get::<_, bool>(0), before.get::<_, i64>(1)), (false, 9));
    client.batch_execute("delete from v where id % 5 = 0").await.unwrap();
    assert_equal(&client, "public.r", QUERY, "before it is built").await;
    client.batch_execute("select pulso.build('public.r')").await.unwrap();
    assert!(client.query_one(live, &[]).await.unwrap().get::<_, bool>(0));
    assert_equal(&client, "public.r", QUERY, "built").await;

    let altered = QUERY.replace("bool_or(ok and i > 4) as o", "bool_or(ok and i > 4) as o, max(i) as added");
    client.execute("select pulso.alter_rollup('public.r', $1)", &[&altered]).await.unwrap();
    client.batch_execute("update v set i = i * 2 where g > 3; select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", &altered, "altered").await;
    let parts: i64 = client.query_one("select count(*) from pulso.rollups", &[]).await.unwrap().get(0);
    assert_eq!(parts, 9, "the companions of the earlier query are gone");

    // A companion that does not tell the truth is found by verify, and mended by repair.
    let companion: String = client
        .query_one("select r.delta::text from pulso.rollup r where r.companion_of is not null order by id limit 1", &[])
        .await
        .unwrap()
        .get(0);
    client
        .batch_execute(&format!(
            "insert into {companion} select (select last_value from pulso.generation), 2, -12345.5, 1"
        ))
        .await
        .unwrap();
    assert_ne!(client.query_one("select pulso.verify('public.r')", &[]).await.unwrap().get::<_, i64>(0), 0);
    client.batch_execute("select pulso.repair('public.r')").await.unwrap();
    assert_equal(&client, "public.r", &altered, "repaired").await;

    let part: String = client
        .query_one("select name from pulso.rollups where companion_of is not null limit 1", &[])
        .await
        .unwrap()
        .get(0);
    for call in ["select pulso.drop_rollup($1)", "select pulso.alter_rollup($1, 'select count(*) from public.v')"] {
        let error = client.execute(call, &[&part]).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("2BP01"), "{error:?}");
    }
    client.batch_execute("select pulso.drop_rollup('public.r')").await.unwrap();
    let left: i64 = client.query_one("select count(*) from pg_class c where c.relnamespace = 'pulso'::regnamespace and c.relname ~ '_[0-9]+_(base|delta|query|values)'", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_read_of_one_group_reads_that_group_of_the_companions() {
    let (_db, client) = table().await;
    client.batch_execute("insert into v (g, x) select i, i from generate_series(100, 5000) i").await.unwrap();
    client.batch_execute("select pulso.create_rollup('public.r', 'select g, count(distinct x) as n, max(x) as most from public.v group by g')").await.unwrap();
    let plan = client.query("explain select * from r where g = 77", &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(!plan.iter().any(|line| line.contains("Seq Scan on r_") && line.contains("_base")), "{}", plan.join("\n"));
    assert_eq!(
        differences(&client, "public.r", "select g, count(distinct x) as n, max(x) as most from public.v group by g")
            .await,
        0
    );
}
