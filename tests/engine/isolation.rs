//! Isolation specs: what two or three sessions do to joined tables, step by step in a given order, at each isolation
//! level. A step that waits goes on when what it waits for is done; a transaction may end with 40001 (or, where two hold
//! what the other needs, 40P01); the rollups equal their queries, in every session's snapshot and at the end.

use crate::common::Db;
use crate::joins::{ROLLUPS, SCHEMA, create_all};
use crate::sessions::{Session, end, finish_prepared, settle};
use crate::{assert_equal, differences};
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

/// Sessions and their steps, and the orders in which the steps are run: `(session, step)` by number.
struct Spec {
    name: &'static str,
    setup: &'static str,
    sessions: &'static [&'static [&'static str]],
    /// Every order in which each session's own steps keep theirs, where none is given.
    orders: &'static [&'static [usize]],
}

const SPECS: &[Spec] = &[
    Spec {
        name: "a line comes while its header is voided",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line comes while its header is deleted",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["delete from sales where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a header is deleted with its lines, and its number comes back: newly, by conflict or from another",
        setup: "",
        sessions: &[
            &["delete from sales where id = 1", "commit"],
            &[
                "insert into sales values (1, 2) on conflict (id) do update set store_id = excluded.store_id",
                "insert into items values (100, 1, 1, 5)",
                "commit",
            ],
            &["update sales set id = 1 where id = 2", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line changes while its header is voided",
        setup: "",
        sessions: &[
            &["update items set qty = 50 where id = 20", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line goes while its header is voided",
        setup: "",
        sessions: &[
            &["delete from items where id = 20", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line goes while its header is deleted",
        setup: "",
        sessions: &[&["delete from items where id = 20", "commit"], &["delete from sales where id = 1", "commit"]],
        orders: &[],
    },
    Spec {
        name: "a line moves from one header to another while both are voided",
        setup: "",
        sessions: &[
            &["update items set sale_id = 2 where id = 20", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
            &["update sales set status = 'void' where id = 2", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a ticket comes while its store is renamed",
        setup: "",
        sessions: &[
            &["insert into sales values (100, 1)", "insert into items values (100, 100, 1, 5)", "commit"],
            &["update stores set name = 'east' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a header moves to another store while both are renamed",
        setup: "",
        sessions: &[
            &["update sales set store_id = 1 where id = 1", "commit"],
            &["update stores set name = 'east' where id = 1", "commit"],
            &["update stores set name = 'west' where id = 2", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line comes to a sale whose header and store change",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set store_id = 1 where id = 1", "commit"],
            &["update stores set name = 'west'", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a void and a new category of the product, two branches of a star",
        setup: "",
        sessions: &[
            &["update sales set status = 'void' where id = 1", "commit"],
            &["update products set category = 'new' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line comes while its product gets another category",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5), (101, 2, 2, 1)", "commit"],
            &[
                "update products set category = 'new' where id = 1",
                "update products set category = 'x' where id = 2",
                "commit",
            ],
        ],
        orders: &[],
    },
    Spec {
        name: "two tickets of two products in opposite orders, each decrementing the stock",
        setup: "",
        sessions: &[
            &[
                "with h as (insert into sales values (100, 1)) insert into items values (100, 100, 1, 1), (101, 100, 2, 1)",
                "update products set stock = stock - 1 where id in (1, 2)",
                "commit",
            ],
            &[
                "with h as (insert into sales values (101, 1)) insert into items values (102, 101, 2, 1), (103, 101, 1, 1)",
                "update products set stock = stock - 1 where id in (1, 2)",
                "commit",
            ],
        ],
        orders: &[],
    },
    Spec {
        name: "the key of a header changes while a line comes",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set id = 1001 where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a store goes with its sales while a ticket of it comes",
        setup: "",
        sessions: &[
            &["insert into sales values (100, 1)", "insert into items values (100, 100, 1, 5)", "commit"],
            &["delete from stores where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "voids of one header: one is undone",
        setup: "",
        sessions: &[
            &["update sales set status = 'a' where id = 1", "rollback"],
            &["update sales set status = 'b' where id = 1", "commit"],
            &["insert into items values (100, 1, 1, 5)", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a savepoint holds the change that a line waits for",
        setup: "",
        sessions: &[
            &["savepoint a", "update sales set status = 'a' where id = 1", "rollback to a", "commit"],
            &["insert into items values (100, 1, 1, 5)", "commit"],
        ],
        orders: &[],
    },
    // The header is locked by the transaction and changed in a savepoint, after a change of what the rollup does not read.
    Spec {
        name: "a header locked, then voided in a savepoint",
        setup: "",
        sessions: &[
            &["update sales set note = 'n' where id = 1", "commit"],
            &[
                "select from sales where id = 1 for update",
                "savepoint a",
                "update sales set status = 'void' where id = 1",
                "commit",
            ],
            &["insert into items values (100, 1, 1, 5)", "commit"],
        ],
        orders: &[
            &[2, 0, 0, 1, 1, 1, 1, 2, 2],
            &[0, 0, 1, 1, 1, 2, 1, 2],
            &[1, 1, 2, 1, 1, 2, 0, 0],
            &[0, 1, 0, 1, 2, 1, 1, 2],
        ],
    },
    Spec {
        name: "a truncate of the lines, a line and a void",
        setup: "",
        sessions: &[
            &["truncate items", "commit"],
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a fold between a line and the void of its header",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
            &["fold"],
        ],
        orders: &[],
    },
    Spec {
        name: "a rollup is filled anew between a line and the void of its header",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
            &["repair", "fold"],
        ],
        orders: &[],
    },
    Spec {
        name: "two change the same line, one of them to another header",
        setup: "",
        sessions: &[
            &["update items set qty = qty + 1, sale_id = 2 where id = 20", "commit"],
            &["update items set qty = qty * 2 where sale_id = 1", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a line is deleted while another takes it to another header",
        setup: "",
        sessions: &[
            &["delete from items where sale_id = 1", "commit"],
            &["update items set sale_id = 2 where id = 20", "update sales set status = 'void' where id = 2", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "lines come for a header that is not committed yet, and may never be",
        setup: "",
        sessions: &[
            &["insert into sales values (100, 1)", "update sales set status = 'void' where id = 100", "rollback"],
            &["insert into sales values (100, 2) on conflict do nothing", "commit"],
            &["insert into items values (100, 100, 1, 5)", "commit"],
        ],
        orders: &[],
    },
    Spec {
        name: "a merge voids or deletes the header of a line that comes",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &[
                "merge into sales using (values (1), (2), (100)) as m (id) on m.id = sales.id
                   when matched and sales.id = 2 then delete when matched then update set status = 'void'
                   when not matched then insert values (m.id, 1)",
                "commit",
            ],
        ],
        orders: &[],
    },
    Spec {
        name: "a prepared void of the header of a line that comes",
        setup: "",
        sessions: &[
            &["update sales set status = 'void' where id = 1", "prepare transaction 'spec'"],
            &["insert into items values (100, 1, 1, 5)", "commit"],
            &["commit prepared"],
        ],
        orders: &[&[0, 0, 1, 2, 1], &[0, 1, 0, 2, 1], &[1, 0, 1, 0, 2], &[1, 0, 0, 1, 2], &[0, 0, 2, 1, 1]],
    },
    Spec {
        name: "a prepared line whose header is voided",
        setup: "",
        sessions: &[
            &["insert into items values (100, 1, 1, 5)", "prepare transaction 'spec'"],
            &["update sales set status = 'void' where id = 1", "commit"],
            &["rollback prepared"],
        ],
        orders: &[&[0, 0, 1, 2, 1], &[0, 1, 0, 2, 1], &[1, 0, 1, 0, 2], &[1, 0, 0, 1, 2], &[0, 0, 2, 1, 1]],
    },
    Spec {
        name: "two look what is sold of a product, and then each sells the last one",
        setup: "",
        sessions: &[
            &[
                "select units from by_sale_day where product_id = 1",
                "insert into items values (100, 1, 1, 5)",
                "commit",
            ],
            &[
                "select units from by_sale_day where product_id = 1",
                "insert into items values (101, 2, 1, 5)",
                "commit",
            ],
        ],
        orders: &[],
    },
    Spec {
        name: "all lines go, by one TRUNCATE and one DELETE, while a header is voided",
        setup: "",
        sessions: &[
            &["truncate items", "rollback"],
            &["delete from items", "commit"],
            &["update sales set status = 'void' where id = 1", "commit"],
        ],
        orders: &[],
    },
];

/// All orders of the sessions' steps.
fn orders(lengths: &mut Vec<usize>, begun: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    if lengths.iter().all(|left| *left == 0) {
        found.push(begun.clone());
        return;
    }
    for session in 0..lengths.len() {
        if lengths[session] > 0 {
            lengths[session] -= 1;
            begun.push(session);
            orders(lengths, begun, found);
            begun.pop();
            lengths[session] += 1;
        }
    }
}

/// Runs one order; gives how many transactions ended with 40001 or the like.
async fn run(
    sessions: &mut [Session],
    watcher: &Client,
    spec: &Spec,
    level: &str,
    order: &[usize],
    context: &str,
) -> usize {
    // Names of prepared transactions are the cluster's, and other tests run their specs beside this one.
    let database: String = watcher.query_one("select current_database()::text", &[]).await.unwrap().get(0);
    let prepared = format!("spec_{database}");
    // Each transaction's snapshot is that of the beginning, where it keeps one.
    for session in sessions.iter_mut() {
        session.tell(format!("begin isolation level {level}; select count(*) from items"));
    }
    settle(watcher, sessions, context).await;
    let before: usize = sessions.iter().map(|session| session.failures).sum();
    let mut next = vec![0; sessions.len()];
    for (turn, number) in order.iter().enumerate() {
        let Some(step) = spec.sessions[*number].get(next[*number]) else { continue };
        next[*number] += 1;
        match *step {
            "fold" => watcher.batch_execute("select pulso.fold()").await.unwrap(),
            // Neither waits for writers, but for a TRUNCATE.
            "repair" => watcher.batch_execute(&format!("select pulso.repair('{}')", ROLLUPS[0].0)).await.unwrap(),
            "commit prepared" | "rollback prepared" => {
                finish_prepared(watcher, &prepared, step.split_once(' ').unwrap().0).await;
            }
            step => {
                // Within the transaction the rollup is right as well, wherever the session can still look.
                let is_end = ["commit", "rollback", "prepare"].iter().any(|end| step.starts_with(end));
                let look = if is_end { String::new() } else { look(turn) };
                let step = step.replace("'spec'", &format!("'{prepared}'"));
                sessions[*number].tell(format!("{step}{look}"));
            }
        }
        settle(watcher, sessions, context).await;
        // A TRUNCATE underway holds readers up: they look when it is done.
        if !spec.name.to_lowercase().contains("truncate") {
            let (name, query) = ROLLUPS[turn % ROLLUPS.len()];
            assert_eq!(differences(watcher, name, query).await, 0, "{context}: {name} after turn {turn}");
        }
    }
    for session in sessions.iter_mut() {
        session.tell("commit".into());
    }
    // A step that waited may have prepared its transaction only now.
    settle(watcher, sessions, context).await;
    finish_prepared(watcher, &prepared, "commit").await;
    end(sessions, context).await;
    for (name, query) in ROLLUPS {
        assert_eq!(differences(watcher, name, query).await, 0, "{context}: {name} at the end");
    }
    watcher.batch_execute("select pulso.fold()").await.unwrap();
    for (name, query) in ROLLUPS {
        assert_equal(watcher, name, query, &format!("{context}, after the fold")).await;
    }
    sessions.iter().map(|session| session.failures).sum::<usize>() - before
}

/// A statement that fails where a rollup differs from its query in the session's own snapshot.
fn look(turn: usize) -> String {
    let (name, _) = ROLLUPS[(turn + 1) % ROLLUPS.len()];
    format!("; select 1 / (pulso.verify('{name}') = 0)::int")
}

async fn at_every_level(from: usize, to: usize) {
    let db = Db::empty().await;
    let watcher = db.connect().await;
    watcher.batch_execute(SCHEMA).await.unwrap();
    create_all(&watcher).await;
    for spec in &SPECS[from..to.min(SPECS.len())] {
        let mut permutations: Vec<Vec<usize>> = spec.orders.iter().map(|order| order.to_vec()).collect();
        if permutations.is_empty() {
            let mut lengths = spec.sessions.iter().map(|steps| steps.len()).collect();
            orders(&mut lengths, &mut Vec::new(), &mut permutations);
        }
        let mut sessions = Vec::new();
        for _ in spec.sessions {
            // 23503: a line whose header is gone. 23505: a number that is taken.
            sessions.push(Session::new(&db, &["40001", "40P01", "23503", "23505"]).await);
        }
        // Three sessions have 90 orders and more: each level takes every fourth, unless there is time.
        let is_long = std::env::var_os("PULSO_TEST_LONG").is_some_and(|value| value == "1");
        let every = if permutations.len() > 24 && !is_long { 4 } else { 1 };
        for (first, level) in LEVELS.into_iter().enumerate() {
            let mut failed = 0;
            for order in permutations.iter().skip(first % every).step_by(every) {
                watcher.batch_execute(&reset(spec)).await.unwrap();
                let context = format!("{}, at {level}, {order:?}", spec.name);
                let here = run(&mut sessions, &watcher, spec, level, order, &context).await;
                let both_look_first = order[..2] == [0, 1] || order[..2] == [1, 0];
                if level == "serializable" && spec.name.starts_with("two look") && both_look_first {
                    assert_eq!(here, 1, "{context}: of two that cannot be put in an order, one must fail");
                }
                failed += here;
            }
            println!(
                "{}: every {every} of {} orders at {level}, {failed} transactions failed",
                spec.name,
                permutations.len()
            );
            if level == "read committed" && spec.name.contains("stock") {
                assert_eq!(failed, 0, "tickets of the same products must not deadlock");
            }
        }
    }
}

/// The tables as they were at first.
fn reset(spec: &Spec) -> String {
    let rows = SCHEMA.split("insert into stores").nth(1).unwrap();
    format!(
        "delete from items; delete from sales; delete from products; delete from stores; insert into stores{rows}; {}",
        spec.setup
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_and_headers() {
    at_every_level(0, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_and_products() {
    at_every_level(6, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_savepoints_truncates_and_folds() {
    at_every_level(12, SPECS.len()).await;
}

/// Tickets of the same two products in opposite orders, each decrementing their stock, while nobody changes a
/// category: no deadlock, and nobody fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_in_a_loop_do_not_deadlock() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    create_all(&client).await;
    let sellers: Vec<_> = (0..8i64)
        .map(|seller| {
            let connect = db.connect();
            async move {
                let client = connect.await;
                for ticket in 0..60 {
                    let id = 1000 + seller * 1000 + ticket * 10;
                    // The stock is taken in one order, as a shop must for its own sake; the lines come in any.
                    let (first, second) = if seller % 2 == 0 { (1, 2) } else { (2, 1) };
                    client
                        .batch_execute(&format!(
                            "begin; insert into sales values ({id}, 1);
                             insert into items values ({id}, {id}, {first}, 1);
                             insert into items values ({id} + 1, {id}, {second}, 1);
                             update products set stock = stock - 1 where id = 1; update products set stock = stock - 1 where id = 2; commit"
                        ))
                        .await
                        .unwrap_or_else(|error| panic!("seller {seller}: {error:?}"));
                }
            }
        })
        .collect();
    futures_util::future::join_all(sellers).await;
    for (name, query) in ROLLUPS {
        assert_equal(&client, name, query, "after the tickets").await;
    }
    let deadlocks: i64 = client
        .query_one("select deadlocks from pg_stat_database where datname = current_database()", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(deadlocks, 0);
}
