//! What is refused: SQLSTATE, the offending text, a hint; and nothing left behind.

use crate::common::Db;
use tokio_postgres::Client;

const SETUP: &str = "
  create extension pulso;
  create table t (id int primary key, k int, x numeric, f float8, i int, at timestamptz, j jsonb, p point);
  create table u (id int primary key, k int);
  create table keyed (id int, u int references u, t int references t, late int references u deferrable,
    unsure int);
  alter table keyed add constraint unsure foreign key (unsure) references u not valid;
  create unlogged table fleeting (k int);
  create view v as select * from t;
  create table parts (k int) partition by range (k);
  create table parts_1 partition of parts for values from (0) to (10);
  create table spilled (k int) partition by range (k);
  create unlogged table spilled_1 partition of spilled for values from (0) to (10);
  create table mother (k int); create table child () inherits (mother);
  create table guarded (k int); alter table guarded enable row level security;
  create table hidden (k int); alter table hidden enable row level security; alter table hidden force row level security;
  create function wobbly(int) returns int language sql stable return $1;
  create aggregate my_sum (int) (sfunc = int4pl, stype = int, initcond = '0')";

/// (query, SQLSTATE, part of the message, part of the hint)
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "select k, count(*) from t join u using (k) group by k",
        "0A000",
        "cannot join public.u: no foreign key",
        "view over",
    ),
    ("select t.k, count(*) from t, u group by t.k", "0A000", "cannot join public.u: no condition", "foreign key"),
    (
        "select t.k, count(*) from t join u on u.id > t.k group by 1",
        "0A000",
        "cannot join public.u: no foreign key",
        "key",
    ),
    (
        "select u.k, count(*) from keyed d join u on u.k = d.u group by 1",
        "0A000",
        "columns of a foreign key",
        "foreign key",
    ),
    ("select t.k, count(*) from keyed d join u on u.id = d.late group by 1", "42P01", "", ""),
    (
        "select u.k, count(*) from keyed d join u on u.id = d.late group by 1",
        "0A000",
        "keyed_late_fkey is deferrable",
        "not deferrable",
    ),
    (
        "select u.k, count(*) from keyed d join u on u.id = d.unsure group by 1",
        "0A000",
        "unsure is not validated",
        "validate constraint",
    ),
    ("select k, count(*) from t left join u using (k) group by k", "0A000", "an outer join", "inner join"),
    ("select u.k, count(*) from keyed d full join u on u.id = d.u group by 1", "0A000", "an outer join", "inner join"),
    ("select x.k, count(*) from t x join t y on x.id = y.id group by 1", "0A000", "joined to itself", "view over"),
    (
        "select h.j, count(*) from keyed d join t h on h.id = d.t group by 1",
        "0A000",
        "column j, of type jsonb",
        "generated always",
    ),
    (
        "select h.p::text, count(*) from keyed d join t h on h.id = d.t group by 1",
        "0A000",
        "column p, of type point",
        "generated always",
    ),
    (
        "select d.id, count(*) from keyed d join u on u.id = d.u and now() > 'today' group by 1",
        "0A000",
        "now()",
        "reads the rollup",
    ),
    (
        "select x is null, count(*) from keyed d join u x on x.id = d.u group by 1",
        "0A000",
        "whole row",
        "Name the columns",
    ),
    (
        "select s.k, count(*) from keyed d join (select * from u) s on s.id = d.u group by 1",
        "0A000",
        "anything but a table",
        "no subquery",
    ),
    ("select k, count(*) from v group by k", "0A000", "view public.v", "table under it"),
    ("select k, count(*) from fleeting group by k", "0A000", "unlogged table", "set logged"),
    ("select k, count(*) from parts_1 group by k", "0A000", "partition public.parts_1", "partitioned table"),
    ("select k, count(*) from spilled group by k", "0A000", "unlogged table public.spilled_1", "set logged"),
    ("select k, count(*) from mother group by k", "0A000", "inheritance", "Partition it"),
    ("select k, count(*) from child group by k", "0A000", "inheritance", "Partition it"),
    ("select k, count(*) from guarded group by k", "0A000", "row security", "pulso.allow_row_security = on"),
    ("select k, count(*) from hidden group by k", "0A000", "forced row security", "no force"),
    ("select relname, count(*) from pg_class group by 1", "0A000", "system table", "application"),
    ("select k, count(*) from (select * from t) s group by k", "0A000", "anything but a table", "no subquery"),
    ("select k, count(*) from generate_series(1, 3) k group by k", "0A000", "anything but a table", "function"),
    ("with w as (select 1) select k, count(*) from t group by k", "0A000", "WITH", "table itself"),
    ("select k, count(*) from t group by k union all select k, count(*) from t group by k", "0A000", "UNION", "view"),
    ("select distinct k, count(*) from t group by k", "0A000", "DISTINCT", "once"),
    ("select k, count(*) from t group by k having count(*) > 1", "0A000", "HAVING", "reads the rollup"),
    ("select k, count(*) from t group by k order by k", "0A000", "ORDER BY", "reads the rollup"),
    ("select k, count(*) from t group by k limit 1", "0A000", "LIMIT", "reads the rollup"),
    ("select k, count(*) from t group by rollup (k)", "0A000", "GROUPING SETS", "finest"),
    ("select k, count(*), sum(count(*)) over () from t group by k", "0A000", "window", "view over"),
    ("select k, generate_series(1, 2), count(*) from t group by 1, 2", "0A000", "set-returning", "one group"),
    ("select k, count(*) from t where k in (select k from u) group by k", "0A000", "subquery", "columns of the table"),
    ("select k from t group by k", "0A000", "no aggregate", "count(*)"),
    ("select k, x from t", "0A000", "no aggregate", "count(*)"),
    ("select count(*)", "0A000", "no table", "FROM"),
    ("select k, count(*) from t tablesample system (1) group by k", "0A000", "TABLESAMPLE", "every row"),
    ("select k, my_sum(i) from t group by k", "0A000", "my_sum(i)", "count, sum, avg, min"),
    ("select k, sum(distinct i) from t group by k", "0A000", "sum(DISTINCT i)", "count(distinct"),
    ("select k, array_agg(i order by i) from t group by k", "0A000", "array_agg", "Maintained are"),
    ("select k, mode() within group (order by i) from t group by k", "0A000", "mode()", "Maintained are"),
    ("select k, stddev(x) from t group by k", "0A000", "stddev(x)", "numeric(18,4)"),
    ("select k, variance(f) from t group by k", "0A000", "variance(f)", "cast the argument to numeric"),
    ("select k, min(now()) from t group by k", "0A000", "now()", "reads the rollup"),
    (
        "select k, percentile_cont(array[0.1, 0.9]) within group (order by f) from t group by k",
        "0A000",
        "percentile_cont",
        "one constant",
    ),
    (
        "select k, percentile_cont(1.5) within group (order by f) from t group by k",
        "0A000",
        "percentile_cont",
        "from 0 to 1",
    ),
    (
        "select k, percentile_disc(0.5) within group (order by k > 1) from t group by k",
        "0A000",
        "percentile_disc",
        "numbers, dates",
    ),
    ("select k, sum(f) from t group by k", "0A000", "sum(f)", "cast the argument to numeric"),
    ("select k, sum(at - at) from t group by k", "0A000", "sum(", "integers and numeric"),
    ("select k, avg(x) from t group by k", "0A000", "avg(x)", "numeric(18,4)"),
    ("select k + 1 + count(*) from t group by k", "0A000", "output", "view over the rollup"),
    ("select k, sum(x) / count(*) from t group by k", "0A000", "output", "view over the rollup"),
    ("select id, x, count(*) from t group by id", "0A000", "cannot output x", "view over"),
    (
        "select date_trunc('day', at), count(*) from t group by 1",
        "0A000",
        "date_trunc('day'::text, at)",
        "AT TIME ZONE",
    ),
    ("select at::date, count(*) from t group by 1", "0A000", "(at)::date", "AT TIME ZONE"),
    ("select k, count(*) from t where at > now() - interval '1 day' group by k", "0A000", "now()", "reads the rollup"),
    (
        "select k, count(*) filter (where at < current_timestamp) from t group by k",
        "0A000",
        "CURRENT_TIMESTAMP",
        "same row",
    ),
    ("select k, sum(wobbly(i)) from t group by k", "0A000", "wobbly(i)", "same result"),
    ("select k, count(t) from t group by k", "0A000", "whole row", "Name the columns"),
    ("select tableoid, count(*) from t group by 1", "0A000", "system column", "Name the columns"),
    ("delete from t", "42601", "single SELECT", "SELECT"),
    ("select k, count(*) from t group by k; drop table u", "42601", "single SELECT", "second statement"),
    ("select k, count(*) into w from t group by k", "42601", "single SELECT", "SELECT"),
    ("values (1)", "42601", "single SELECT", "SELECT"),
    ("", "42601", "single SELECT", "SELECT"),
    ("selec", "42601", "syntax error", ""),
    ("select k, count(*) from nowhere group by k", "42P01", "nowhere", ""),
];

async fn expect(client: &Client, sql: &str, state: &str, message: &str, hint: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().expect("an error of the server's");
    assert_eq!(error.code().code(), state, "{sql}: {}", error.message());
    assert!(error.message().contains(message), "{sql}: message is {:?}", error.message());
    assert!(error.hint().unwrap_or_default().contains(hint), "{sql}: hint is {:?}", error.hint());
}

async fn objects(client: &Client) -> i64 {
    client
        .query_one(
            "select count(*) from pg_class where relnamespace in ('pulso'::regnamespace, 'public'::regnamespace)",
            &[],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn each_construct_is_refused_by_name_with_a_cure_and_nothing_is_left() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SETUP).await.unwrap();
    let before = objects(&client).await;
    for (query, state, message, hint) in REFUSED {
        expect(&client, &format!("select pulso.create_rollup('public.r', $q${query}$q$)"), state, message, hint).await;
    }
    assert_eq!(objects(&client).await, before, "a refusal left something behind");
}

#[tokio::test]
async fn calls_at_the_wrong_place_are_refused() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SETUP).await.unwrap();
    let create = "select pulso.create_rollup('public.r', 'select k, count(*) from t group by k'";
    expect(&client, "select pulso.create_rollup('a.b.c', 'select 1')", "42602", "a.b.c", "schema.name").await;
    expect(
        &client,
        &format!("begin isolation level repeatable read; {create})"),
        "25001",
        "isolation level",
        "READ COMMITTED",
    )
    .await;
    client.batch_execute("rollback").await.unwrap();
    expect(
        &client,
        "select pulso.create_rollup('public.t', 'select k, count(*) from t group by k')",
        "42P07",
        "exists already",
        "another name",
    )
    .await;
    expect(&client, "select pulso.drop_rollup('public.none')", "42P01", "public.none", "pulso.rollups").await;
    expect(&client, "select pulso.verify('public.none')", "42P01", "public.none", "pulso.rollups").await;
    expect(&client, "select pulso.fold('public.none')", "42P01", "public.none", "pulso.rollups").await;
    expect(
        &client,
        "begin isolation level serializable; select pulso.fold()",
        "25001",
        "isolation level",
        "READ COMMITTED",
    )
    .await;
    client.batch_execute("rollback").await.unwrap();
    expect(&client, "create temporary table z (k int); select pulso.create_rollup('public.r', 'select k, count(*) from z group by k')", "0A000", "temporary table", "permanent").await;
}

#[tokio::test]
async fn a_role_that_does_not_own_the_table_is_refused_and_one_that_does_is_not() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SETUP).await.unwrap();
    client
        .batch_execute(
            "create role engine_keeper; create role engine_stranger;
             grant create, usage on schema public to engine_keeper, engine_stranger;
             alter table t owner to engine_keeper; grant select on t to engine_stranger",
        )
        .await
        .unwrap();
    let create = "select pulso.create_rollup('public.r', 'select k, count(*) as n from t group by k')";
    expect(&client, &format!("set role engine_stranger; {create}"), "42501", "must own table public.t", "owner").await;
    client.batch_execute(&format!("set role engine_keeper; {create}; reset role")).await.unwrap();
    expect(&client, "set role engine_stranger; select pulso.drop_rollup('public.r')", "42501", "must own", "owner")
        .await;
    // A cashier with INSERT alone can sell, and sees nothing of the rollup.
    client.batch_execute("reset role; create role engine_cashier; grant insert on t to engine_cashier; set role engine_cashier; insert into t (id, k) values (1, 1)").await.unwrap();
    expect(&client, "select * from public.r", "42501", "permission denied", "").await;
    client.batch_execute("set role engine_keeper").await.unwrap();
    assert_eq!(client.query_one("select n from public.r", &[]).await.unwrap().get::<_, i64>(0), 1);
    client
        .batch_execute("select pulso.fold('public.r'); select pulso.drop_rollup('public.r'); reset role")
        .await
        .unwrap();
    client.batch_execute("drop owned by engine_keeper, engine_stranger, engine_cashier cascade; drop role engine_keeper, engine_stranger, engine_cashier").await.unwrap();
}

/// Row security is not bypassed in silence, whichever comes first.
#[tokio::test]
async fn row_security_is_acknowledged_or_refused() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso; create table t (k int, tenant text); insert into t values (1, 'a'), (2, 'b');
             create policy own on t using (tenant = current_user);
             select pulso.create_rollup('public.r', 'select k, count(*) as n from public.t group by k')",
        )
        .await
        .unwrap();
    let enable = "alter table t enable row level security";
    expect(&client, enable, "0A000", "all rows", "pulso.allow_row_security").await;
    client.batch_execute(&format!("begin; set local pulso.allow_row_security = on; {enable}; commit")).await.unwrap();
    // Said once: later changes of the table need not say it again.
    client.batch_execute("alter table t add column c int; insert into t values (1, 'c', 1)").await.unwrap();
    expect(&client, "alter table t force row level security", "0A000", "forced row security", "Drop it").await;
    let another = "select pulso.create_rollup('public.s', 'select count(*) as n from public.t')";
    expect(&client, another, "0A000", "row security", "pulso.allow_row_security").await;
    client
        .batch_execute(&format!("set pulso.allow_row_security = on; {another}; select pulso.repair('public.r')"))
        .await
        .unwrap();
    let figures = client.query_one("select (select sum(n) from r)::bigint, (select n from s)", &[]).await.unwrap();
    assert_eq!((figures.get::<_, i64>(0), figures.get::<_, i64>(1)), (3, 3));
}
