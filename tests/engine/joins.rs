//! Rollups over joined tables, one session: whatever a statement does to any of the tables, the rollup equals its query.

use crate::common::Db;
use crate::{assert_equal, differences};
use tokio_postgres::Client;

pub const SCHEMA: &str = "
  create extension if not exists pulso;
  create table stores (id int primary key, name text, zone text not null default 'America/Caracas');
  create table products (id int primary key, category text, stock int not null default 0);
  create table sales (
    id int primary key, store_id int not null references stores on delete cascade on update cascade,
    status text not null default 'done', at timestamptz not null default '2026-03-01 12:00+00', note text);
  create table items (
    id int primary key, sale_id int references sales on delete cascade on update cascade,
    product_id int not null references products, qty numeric not null default 1);
  insert into stores values (1, 'north'), (2, 'south');
  insert into products values (1, 'food'), (2, 'food'), (3, null);
  insert into sales select i, 1 + i % 2, case when i % 5 = 0 then 'void' else 'done' end, timestamptz '2026-03-01 02:00+00' + i * interval '1 hour'
    from generate_series(1, 20) i;
  insert into items select i, 1 + i % 20, 1 + i % 3, i * 0.5 from generate_series(1, 60) i;";

/// Name and query: one header; a chain; a star with the condition in WHERE; everything, without groups.
pub const ROLLUPS: [(&str, &str); 4] = [
    (
        "public.by_sale_day",
        "select s.store_id, (s.at at time zone 'America/Caracas')::date as day, i.product_id, count(*) as n, sum(i.qty) as units
           from public.items i join public.sales s on s.id = i.sale_id where s.status = 'done' group by 1, 2, 3",
    ),
    (
        "public.by_store",
        "select t.name, count(*) as n, sum(i.qty) as units, count(s.note) as notes
           from public.items i join public.sales s on s.id = i.sale_id join public.stores t on t.id = s.store_id group by t.name",
    ),
    (
        "public.by_category",
        "select p.category, s.status, sum(i.qty) as units, count(*) filter (where s.store_id = 1) as first,
                count(distinct i.sale_id) as sales, max(i.qty) as most
           from public.sales s, public.products p, public.items i
          where i.product_id = p.id and s.id = i.sale_id and i.qty > 0 group by p.category, s.status",
    ),
    (
        "public.everything",
        "select count(*) as n, sum(i.qty * t.id) as weighted
           from public.sales s join public.stores t on s.store_id = t.id join public.items i on i.sale_id = s.id
           join public.products p on i.product_id = p.id and p.category <> t.name",
    ),
];

pub async fn create_all(client: &Client) {
    for (name, query) in ROLLUPS {
        client
            .execute("select pulso.create_rollup($1, $2)", &[&name, &query])
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

async fn shop() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    create_all(&client).await;
    (db, client)
}

pub async fn all_equal(client: &Client, when: &str) {
    for (name, query) in ROLLUPS {
        assert_equal(client, name, query, when).await;
    }
}

async fn check(client: &Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        all_equal(client, &format!("after {statement}")).await;
        if client.query_one("select pg_current_xact_id_if_assigned() is null", &[]).await.unwrap().get::<_, bool>(0) {
            client.batch_execute("select pulso.fold()").await.unwrap();
            all_equal(client, &format!("after {statement} and a fold")).await;
        }
    }
}

#[tokio::test]
async fn lines_come_change_move_and_go() {
    let (_db, client) = shop().await;
    check(
        &client,
        &[
            "insert into items values (100, 1, 1, 5), (101, 2, 2, 7), (102, null, 1, 9)",
            "insert into items select 200 + i, 1 + i % 20, 1 + i % 3, i from generate_series(1, 300) i",
            "update items set qty = qty + 1 where id < 10",
            "update items set sale_id = sale_id % 20 + 1 where id between 10 and 30",
            "update items set sale_id = null where id = 31",
            "update items set sale_id = 3 where id = 102",
            "update items set product_id = 3 where id = 102",
            "insert into items values (100, 9, 3, 1) on conflict (id) do update set qty = items.qty * 2, sale_id = excluded.sale_id",
            "merge into items using (values (101, 5), (900, 6)) as m (id, sale) on m.id = items.id
               when matched then update set sale_id = m.sale when not matched then insert values (m.id, m.sale, 1, 1)",
            "delete from items where id % 7 = 0",
        ],
    )
    .await;
}

#[tokio::test]
async fn headers_and_what_is_above_them_move_their_lines() {
    let (_db, client) = shop().await;
    check(
        &client,
        &[
            "update sales set status = 'void' where id = 1",
            "update sales set status = 'done'",
            "update sales set store_id = 3 - store_id where id < 8",
            "update sales set at = at + interval '7 hours' where id % 3 = 0",
            "update sales set note = 'x' where id = 4",
            "update stores set name = 'east' where id = 1",
            "update stores set name = 'south'",
            "update stores set name = null where id = 2",
            "update stores set zone = 'UTC'",
            "update products set category = coalesce(category || 's', 'new')",
            "update products set stock = stock - 1",
            "insert into sales values (50, 1), (51, 2)",
            "insert into sales values (50, 2) on conflict (id) do update set store_id = excluded.store_id, status = 'late'",
            "insert into items values (300, 50, 1, 2), (301, 51, 2, 3)",
            "merge into sales using (values (50), (52)) as m (id) on m.id = sales.id
               when matched then update set status = 'again' when not matched then insert values (m.id, 1)",
            "delete from sales where id = 52",
            "delete from items where sale_id = 51; delete from sales where id = 51",
        ],
    )
    .await;
}

#[tokio::test]
async fn cascades() {
    let (_db, client) = shop().await;
    check(
        &client,
        &[
            "delete from sales where id = 1",
            "delete from sales where id in (2, 3, 4)",
            "update sales set id = 107 where id = 7",
            "create table moved as select * from sales order by id desc; delete from sales; insert into sales select * from moved; insert into items select 500 + id, id, 1, 2 from moved",
            // Each header takes the number of the next, highest first, and its lines follow.
            "update sales set id = id + 1 where id < 100",
            "update sales set id = id + 1000",
            "update stores set id = id + 10",
            "delete from stores where id = 11",
            "begin; delete from stores; rollback",
            "begin; delete from stores",
            "commit",
        ],
    )
    .await;
}

#[tokio::test]
async fn set_null_and_no_action() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(&SCHEMA.replace(
            "sale_id int references sales on delete cascade on update cascade",
            "sale_id int references sales on delete set null",
        ))
        .await
        .unwrap();
    create_all(&client).await;
    check(
        &client,
        &[
            "delete from sales where id = 1",
            "delete from sales where id < 6",
            "with moved as (update items set sale_id = 107 where sale_id = 7) update sales set id = 107 where id = 7",
            "with moved as (update sales set id = 7 where id = 107) update items set sale_id = 7 where sale_id = 107",
        ],
    )
    .await;
}

#[tokio::test]
async fn several_tables_in_one_statement() {
    let (_db, client) = shop().await;
    check(
        &client,
        &[
            "with h as (insert into sales values (60, 1) returning id) insert into items select 600 + g, h.id, g, 1 from h, generate_series(1, 3) g",
            "with l as (insert into items values (610, 61, 1, 2)) insert into sales values (61, 2)",
            "with h as (insert into sales values (62, 1)) insert into items values (620, 62, 1, 2), (621, 62, 2, 2)",
            "with t as (insert into stores values (3, 'west')), h as (insert into sales values (63, 3)), p as (insert into products values (9, 'odd'))
               insert into items values (630, 63, 9, 4)",
            "with h as (update sales set status = 'void' where id = 60) update items set qty = qty * 10 where sale_id in (60, 61)",
            "with l as (update items set qty = qty * 10 where sale_id in (60, 61)) update sales set status = 'done' where id = 60",
            "with l as (delete from items where sale_id = 60) update sales set status = 'void', store_id = 2 where id = 60",
            "with h as (update sales set store_id = 1 where id = 61) delete from items where sale_id = 61",
            "with l as (delete from items where sale_id = 62) delete from sales where id = 62",
            "with h as (delete from sales where id = 63) delete from items where sale_id = 63",
            "with h as (update sales set store_id = 3 - store_id where store_id < 3), t as (update stores set name = name || '!'),
                  p as (update products set category = 'c' || id) update items set qty = qty + id, sale_id = sale_id % 5 + 5",
            "with h as (update sales set status = 'x' where id = 5) insert into items values (700, 5, 1, 1), (701, 6, 1, 1)",
        ],
    )
    .await;
}

/// Triggers of the shop's own that change one table while another's statement runs.
#[tokio::test]
async fn triggers_between_the_tables() {
    let (_db, client) = shop().await;
    client
        .batch_execute(
            "create function touch() returns trigger language plpgsql as $$
             begin
               update sales set status = 'touched', note = coalesce(note, '') || '.' where id = new.sale_id and new.qty > 100;
               update products set stock = stock - 1 where id = new.product_id;
               return null;
             end $$;
             create trigger touch after insert or update on items for each row execute function touch();
             create function void_lines() returns trigger language plpgsql as $$
             begin
               if new.status = 'void' then update items set qty = 0 where sale_id = new.id; end if;
               return null;
             end $$;
             create trigger void_lines after update on sales for each row execute function void_lines();
             create function make_header() returns trigger language plpgsql as $$
             begin
               insert into sales values (new.sale_id, 1) on conflict do nothing;
               return new;
             end $$;
             create trigger make_header before insert on items for each row when (new.sale_id is not null) execute function make_header()",
        )
        .await
        .unwrap();
    check(
        &client,
        &[
            "insert into items values (800, 80, 1, 3), (801, 80, 2, 3), (802, 81, 1, 3)",
            "insert into items values (803, 80, 1, 300), (804, 82, 2, 300)",
            "update items set qty = 200 where id in (800, 802)",
            "update sales set status = 'void' where id in (80, 1, 2)",
            "update sales set status = 'void', store_id = 2 where id = 82",
            "begin; savepoint a; insert into items values (805, 83, 1, 500); rollback to a; insert into items values (806, 84, 1, 500)",
            "commit",
            "with h as (insert into sales values (85, 2)) update items set qty = 0 where sale_id = 84",
        ],
    )
    .await;
}

/// Lines that refer to two tables, one of which follows the other by a trigger: whichever cascade comes second finds nothing.
#[tokio::test]
async fn two_cascades_to_the_same_lines() {
    let (_db, client) = shop().await;
    client
        .batch_execute(
            "create table keys as select id from sales; alter table keys add primary key (id);
             create function keep_keys() returns trigger language plpgsql as $$
             begin
               delete from keys where id = old.id;
               return null;
             end $$;
             create trigger zz_keys after delete on sales for each row execute function keep_keys();
             alter table items add foreign key (sale_id) references keys on delete cascade",
        )
        .await
        .unwrap();
    check(
        &client,
        &["delete from sales where id = 3", "delete from sales where id in (4, 5, 999)", "delete from sales"],
    )
    .await;
}

#[tokio::test]
async fn truncates() {
    let (_db, client) = shop().await;
    check(
        &client,
        &[
            "begin; truncate items; rollback",
            "truncate items",
            "insert into items values (1, 1, 1, 1)",
            "truncate sales cascade",
            "insert into sales values (1, 1); insert into items values (1, 1, 1, 1)",
            "begin; truncate stores cascade; insert into stores values (5, 'five'); insert into sales values (5, 5); insert into items values (5, 5, 1, 1)",
            "commit",
            "truncate items, products, sales, stores",
        ],
    )
    .await;
}

#[tokio::test]
async fn savepoints_and_prepared_transactions() {
    let (db, client) = shop().await;
    let other = db.connect().await;
    check(
        &client,
        &[
            "begin",
            "savepoint a; insert into sales values (70, 1); insert into items values (701, 70, 1, 1)",
            "savepoint b; update sales set status = 'void' where id = 70",
            "rollback to b",
            "insert into items values (702, 70, 2, 1)",
            "rollback to a",
            "update sales set store_id = 2 where id = 1",
            "savepoint c; delete from sales where id = 2",
            "release c",
            "insert into items values (703, 1, 2, 1)",
            "commit",
        ],
    )
    .await;
    client
        .batch_execute(
            "begin; insert into items values (710, 3, 1, 1); update sales set status = 'q' where id = 4; prepare transaction 'joins_2pc'",
        )
        .await
        .unwrap();
    // The prepared transaction's line keeps its header from changing, and its void the lines of that from coming.
    for blocked in ["update sales set status = 'z' where id = 3", "insert into items values (711, 4, 1, 1)"] {
        let error = other.batch_execute(&format!("set lock_timeout = '50ms'; {blocked}")).await.expect_err(blocked);
        assert_eq!(error.code().map(|c| c.code()), Some("55P03"), "{error:?}");
    }
    for statement in ["select pulso.fold()", "commit prepared 'joins_2pc'", "select pulso.fold()"] {
        other.batch_execute(statement).await.unwrap();
    }
    all_equal(&other, "after the prepared transaction").await;
    other
        .batch_execute("update sales set status = 'z' where id = 3; insert into items values (711, 4, 1, 1)")
        .await
        .unwrap();
    all_equal(&other, "after what waited for it").await;
}

/// Keys of two columns, of different types, and a table reached from two others.
#[tokio::test]
async fn composite_keys_and_other_types() {
    let db = Db::empty().await;
    let client = db.connect().await;
    let query = "select h.kind, d.label, count(*) as n, sum(l.q) as q
                   from public.l join public.h on (h.a, h.b) = (l.ha, l.hb) join public.d on d.code = h.d_code and d.code = l.d_code
                  group by 1, 2";
    client
        .batch_execute(&format!(
            r#"create extension pulso;
               create table d (code varchar(10) primary key, label text);
               create table h (a bigint, b text, kind text, d_code varchar(10) references d, primary key (b, a));
               create table l (id int primary key, ha int, hb text, q int, d_code varchar(10) references d, foreign key (ha, hb) references h (a, b));
               insert into d values ('x', 'X'), ('y', 'Y');
               insert into h values (1, 'one', 'k', 'x'), (2, 'two', 'k', 'y'), (3, 'three', null, null);
               select pulso.create_rollup('public.r', $${query}$$)"#
        ))
        .await
        .unwrap();
    for statement in [
        "insert into l values (1, 1, 'one', 5, 'x'), (2, 2, 'two', 5, 'y'), (3, 2, 'two', 5, 'x'), (4, null, 'two', 1, 'x'), (5, 3, 'three', 2, 'x')",
        "update h set kind = 'z' where b = 'two'",
        "update h set d_code = 'x' where b = 'two'",
        "update h set d_code = 'x' where b = 'three'",
        "update d set label = code || label",
        "update l set ha = 1, hb = 'one', q = 9 where id = 3",
        "delete from l where id = 1",
        "select pulso.fold()",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert_equal(&client, "public.r", query, &format!("after {statement}")).await;
    }
}

#[tokio::test]
async fn hostile_names_in_joins() {
    let db = Db::empty().await;
    let client = db.connect().await;
    let query = r#"select "H"."select" as "order", sum("a b"."x""y") as "group" from "S;--"."L" as "a b" join "S;--"."H" on "H"."from" = "a b"."where" group by 1"#;
    client
        .batch_execute(&format!(
            r#"create extension pulso; create schema "S;--";
               create table "S;--"."H" ("from" int primary key, "select" text, "order" int);
               create table "S;--"."L" ("where" int references "S;--"."H", "x""y" numeric);
               insert into "S;--"."H" values (1, 'a'), (2, 'b');
               select pulso.create_rollup('"S;--"."R'' r"', $q${query}$q$)"#
        ))
        .await
        .unwrap();
    let rollup = r#""S;--"."R' r""#;
    for statement in [
        r#"insert into "S;--"."L" values (1, 2), (2, 3)"#,
        r#"update "S;--"."H" set "select" = 'c'"#,
        r#"alter table "S;--"."L" rename to "M;"; alter table "S;--"."H" rename column "select" to "se""lect"; alter schema "S;--" rename to "T""t""#,
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    client.batch_execute(r#"insert into "T""t"."M;" values (1, 5); update "T""t"."H" set "se""lect" = 'd' where "from" = 1; select pulso.fold()"#).await.unwrap();
    let (rollup, query) = (
        rollup.replace("S;--", "T\"\"t"),
        query.replace("S;--", "T\"\"t").replace("\"L\"", "\"M;\"").replace("\"select\"", "\"se\"\"lect\""),
    );
    assert_equal(&client, &rollup, &query, "after renames").await;
    client.execute("select pulso.drop_rollup($1)", &[&rollup]).await.unwrap();
}

/// A change of a joined table's columns that the rollup does not read waits for nobody, one that it reads waits for
/// the lines; and the index that makes it so goes with the last rollup that needs it.
#[tokio::test]
async fn the_guarding_index() {
    let (_db, client) = shop().await;
    let made = "select count(*) from pg_class where relname ~ '^pulso_.*_key$' and relkind = 'i'";
    let count: i64 = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(count, 4, "sales twice, since the second rollup reads one more column, stores and products");
    let index: String = client
        .query_one("select indexrelid::regclass::text from pg_index where indrelid = 'products'::regclass and not indisprimary", &[])
        .await
        .unwrap()
        .get(0);
    for statement in [
        format!("drop index {index}"),
        "alter table items drop constraint items_sale_id_fkey".to_owned(),
        "alter table sales drop constraint sales_pkey cascade; select 1 / 0".to_owned(),
    ] {
        let error = client.batch_execute(&statement).await.expect_err(&statement);
        assert!(matches!(error.code().map(|c| c.code()), Some("2BP01" | "22012")), "{statement}: {error:?}");
    }
    for (name, _) in ROLLUPS {
        client.execute("select pulso.drop_rollup($1)", &[&name]).await.unwrap();
    }
    let left: i64 = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    let triggers: i64 =
        client.query_one("select count(*) from pg_trigger where tgname like 'pulso%'", &[]).await.unwrap().get(0);
    assert_eq!(triggers, 0);
}

/// What one rollup needs stays when another goes.
#[tokio::test]
async fn a_dropped_rollup_leaves_the_others_guarded() {
    let (_db, client) = shop().await;
    for left in 1..ROLLUPS.len() {
        let (gone, _) = ROLLUPS[left - 1];
        client.execute("select pulso.drop_rollup($1)", &[&gone]).await.unwrap();
        client
            .batch_execute(
                "insert into sales values (90, 1); insert into items values (900, 90, 1, 1); update sales set status = 'w' where id = 90;
                 update stores set name = name || '.'; delete from sales where id = 90",
            )
            .await
            .unwrap();
        for (name, query) in &ROLLUPS[left..] {
            assert_equal(&client, name, query, &format!("without {gone}")).await;
        }
    }
}

#[tokio::test]
async fn a_cashier_can_sell() {
    let (_db, client) = shop().await;
    client
        .batch_execute(
            "create role joins_cashier; grant insert, select on sales, items to joins_cashier; grant update (stock), select on products to joins_cashier;
             set role joins_cashier;
             begin; insert into sales values (95, 1); insert into items values (950, 95, 1, 1), (951, 95, 2, 1);
             update products set stock = stock - 1 where id in (1, 2); commit;
             with h as (insert into sales values (96, 1)) insert into items values (960, 96, 1, 1)",
        )
        .await
        .unwrap();
    client.batch_execute("reset role; drop owned by joins_cashier; drop role joins_cashier").await.unwrap();
    all_equal(&client, "after the cashier's tickets").await;
}

#[tokio::test]
async fn a_change_that_would_move_too_much_is_refused() {
    let (_db, client) = shop().await;
    client.batch_execute("set pulso.max_moved_rows = 10").await.unwrap();
    let error = client.batch_execute("update stores set name = 'x'").await.expect_err("the rename");
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "54000", "{error:?}");
    assert!(error.message().contains("public.stores"), "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("max_moved_rows"), "{error:?}");
    check(
        &client,
        &["update sales set status = 'void' where id = 1", "reset pulso.max_moved_rows; update stores set name = 'x'"],
    )
    .await;
}

#[tokio::test]
async fn functions_of_the_users_over_joined_rows() {
    let db = Db::empty().await;
    let client = db.connect().await;
    let query = "select public.label(s.status, i.product_id) as l, sum(i.qty) as q
                   from public.items i join public.sales s on s.id = i.sale_id group by 1";
    client
        .batch_execute(&format!(
            "{SCHEMA} create function label(text, int) returns text language plpgsql immutable as $f$ begin return $1 || $2; end $f$;
             select pulso.create_rollup('public.r', $${query}$$)"
        ))
        .await
        .unwrap();
    for statement in [
        "insert into items values (100, 1, 1, 5)",
        "update sales set status = 'v' where id < 5",
        "delete from sales where id = 2",
    ] {
        client.batch_execute(statement).await.unwrap();
        assert_equal(&client, "public.r", query, &format!("after {statement}")).await;
    }
}

#[tokio::test]
async fn a_truncate_of_lines_at_repeatable_read_that_its_snapshot_cannot_explain() {
    let (db, client) = shop().await;
    let other = db.connect().await;
    client.batch_execute("begin isolation level repeatable read; select count(*) from items").await.unwrap();
    other.batch_execute("insert into items values (100, 1, 1, 5)").await.unwrap();
    let error = client.batch_execute("truncate items").await.expect_err("the truncate");
    assert_eq!(error.code().map(|c| c.code()), Some("40001"), "{error:?}");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(differences(&client, ROLLUPS[0].0, ROLLUPS[0].1).await, 0);
}

#[tokio::test]
async fn all_sources_are_shown() {
    let (_db, client) = shop().await;
    let sources: String =
        client.query_one("select source from pulso.rollups where name = 'by_store'", &[]).await.unwrap().get(0);
    assert_eq!(sources, "items, sales, stores");
}
