//! Connections for reads: to the server itself, or through a pooler that gives a session away after each transaction.
//!
//! Straight to the server, a statement is prepared once per connection, and the session is set up when it is made. Behind
//! PgBouncer in transaction mode neither lasts, and what is set would stay behind for whoever gets that session next, so
//! each read is a transaction that brings its settings along: three messages on the way at once, one round trip. From
//! PgBouncer 1.21 on it keeps prepared statements itself; before that the statement has no name.

use super::reader::Reader;
use crate::error::{Error, Result};
use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Object, Pool as Connections, PoolError, RecyclingMethod, Runtime,
    Status, Timeouts,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row, SimpleQueryMessage, Statement};

/// A read waits this long for a free connection, and a connection this long for the server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a read runs under, whatever the role's own settings are. A read gets 5 s in the database.
///
/// Each has one shape whatever its parameters, and planning it costs more than running it (the dashboard, whose rollups
/// are unions of base and deltas: 10 ms against 2): a plan is made once and kept.
const SETTINGS: [(&str, &str); 6] = [
    ("statement_timeout", "5000"),
    ("lock_timeout", "2000"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO, YMD'"),
];

/// Whether what a session is told lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Straight to the server, or through a pooler in session mode.
    #[default]
    Session,
    /// Through a pooler in transaction mode.
    Transaction {
        /// It keeps prepared statements (PgBouncer 1.21, `max_prepared_statements`).
        prepared: bool,
    },
}

/// A statement and the name that it goes by, in metrics and logs.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    pub name: &'static str,
    pub text: &'static str,
}

/// The statement of a file in `sql/query`.
macro_rules! sql {
    ($name:literal) => {
        $crate::read::Sql {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/query/", $name, ".sql")),
        }
    };
}
pub(crate) use sql;

/// A statement that was run.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// As its file in `sql/query` is named.
    pub statement: &'static str,
    pub took: Duration,
    pub failed: bool,
}

/// Who is told of each statement, and whether a plan is to be fetched for it.
type Observer = Box<dyn Fn(Ran) -> bool + Send + Sync>;

struct Shared {
    pooling: Pooling,
    observer: OnceLock<Observer>,
    /// The transaction's beginning.
    begin: String,
    /// The parameters' types of each statement: one without a name has to bring them.
    types: RwLock<HashMap<&'static str, Arc<[Type]>>>,
}

/// A pool of sessions that only read.
#[derive(Clone)]
pub struct Pool {
    connections: Connections,
    shared: Arc<Shared>,
}

/// A session that only reads, until it is dropped.
pub(super) struct Session {
    client: Client,
    shared: Arc<Shared>,
}

/// At most `size` connections, none of them made yet.
pub fn pool(url: &str, size: usize, pooling: Pooling) -> Result<Pool> {
    let settings = |set: &str| SETTINGS.map(|(name, value)| format!("{set} {name} = {value}")).join("; ");
    let setup = format!("{}; set default_transaction_read_only = on", settings("set"));
    let manager =
        Manager::from_config(crate::db::config(url)?, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let connections = Connections::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(ACQUIRE_TIMEOUT),
            create: Some(ACQUIRE_TIMEOUT),
            recycle: Some(ACQUIRE_TIMEOUT),
        })
        .post_create(Hook::async_fn(move |client, _| {
            let setup = setup.clone();
            Box::pin(async move {
                match pooling {
                    Pooling::Session => client.batch_execute(&setup).await.map_err(HookError::Backend),
                    Pooling::Transaction { .. } => Ok(()),
                }
            })
        }))
        .build()
        .map_err(|error| Error::failed(format!("cannot make a connection pool: {error}")))?;
    let begin = format!("begin read only; {}", settings("set local"));
    Ok(Pool {
        connections,
        shared: Arc::new(Shared { pooling, observer: OnceLock::new(), begin, types: RwLock::default() }),
    })
}

impl Pool {
    pub async fn get(&self) -> Result<Reader, PoolError> {
        Ok(Reader::of(self.clone(), self.session().await?))
    }

    pub(super) async fn session(&self) -> Result<Session, PoolError> {
        let client = Box::pin(self.connections.get()).await?;
        Ok(Session { client, shared: Arc::clone(&self.shared) })
    }

    /// Tells `observer` of each statement; where it says so, the statement's plan goes to the log. Once.
    pub fn observe(&self, observer: impl Fn(Ran) -> bool + Send + Sync + 'static) {
        let _ = self.shared.observer.set(Box::new(observer));
    }

    pub fn status(&self) -> Status {
        self.connections.status()
    }

    pub fn close(&self) {
        self.connections.close();
    }
}

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement as this session takes it.
pub(super) enum Ready {
    Prepared(Statement),
    Unnamed(&'static str, Arc<[Type]>),
}

impl Session {
    /// All rows of a statement.
    pub async fn query(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let began = Instant::now();
        let run = async {
            let ready = self.ready(sql).await?;
            self.alone(self.send(&ready, parameters)).await
        };
        let outcome = run.await;
        self.ran(sql, parameters, began, outcome.is_err()).await;
        outcome
    }

    /// Tells the observer of a statement.
    pub async fn ran(&self, sql: Sql, parameters: Parameters<'_>, began: Instant, failed: bool) {
        let ran = Ran { statement: sql.name, took: began.elapsed(), failed };
        if self.shared.observer.get().is_some_and(|observer| observer(ran)) {
            self.log_plan(sql, parameters).await;
        }
    }

    pub async fn ready(&self, sql: Sql) -> Result<Ready, tokio_postgres::Error> {
        Ok(match self.shared.pooling {
            Pooling::Session | Pooling::Transaction { prepared: true } => {
                Ready::Prepared(self.client.prepare_cached(sql.text).await?)
            }
            Pooling::Transaction { prepared: false } => Ready::Unnamed(sql.text, self.types(sql).await?),
        })
    }

    /// On its way from the first poll on; several in the order in which they are polled.
    pub async fn send(&self, ready: &Ready, parameters: Parameters<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        match ready {
            Ready::Prepared(statement) => self.client.query(statement, parameters).await,
            Ready::Unnamed(text, types) => {
                let typed: Vec<_> = parameters.iter().copied().zip(types.iter().cloned()).collect();
                self.client.query_typed(text, &typed).await
            }
        }
    }

    /// What is sent, by one session of the server and under the settings of reads.
    pub async fn alone<T, E: From<tokio_postgres::Error>>(
        &self,
        sent: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.shared.pooling {
            Pooling::Session => sent.await,
            Pooling::Transaction { .. } => self.in_transaction(sent).await,
        }
    }

    /// Ends the connection: what is still to come over it would hold up the next one to use it.
    pub fn discard(self) {
        drop(Object::take(self.client));
    }

    /// How the server runs a statement with these parameters; it is planned, and not run again.
    async fn log_plan(&self, sql: Sql, parameters: Parameters<'_>) {
        let explained = match self.types(sql).await {
            Ok(types) => {
                let typed: Vec<_> = parameters.iter().copied().zip(types.iter().cloned()).collect();
                let text = format!("explain (verbose, settings) {}", sql.text);
                self.alone(self.client.query_typed(&text, &typed)).await
            }
            Err(error) => Err(error),
        };
        match explained {
            Ok(rows) => {
                let lines: Vec<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
                let plan = lines.join("\n");
                tracing::warn!(target: "pulso::slow", statement = sql.name, plan, "plan of a slow statement");
            }
            Err(error) => tracing::debug!(statement = sql.name, %error, "no plan of a slow statement"),
        }
    }

    async fn in_transaction<T, E: From<tokio_postgres::Error>>(
        &self,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let around = |sql| async move { self.client.batch_execute(sql).await.map_err(E::from) };
        // All three are sent at the first poll, in this order: even a read that is given up leaves no transaction open.
        let ((), read, ()) = futures_util::try_join!(around(&self.shared.begin), read, around("commit"))?;
        Ok(read)
    }

    /// Asked once per statement, in one message, so that nothing stays behind.
    async fn types(&self, sql: Sql) -> Result<Arc<[Type]>, tokio_postgres::Error> {
        if let Some(known) = self.shared.types.read().unwrap_or_else(PoisonError::into_inner).get(sql.name) {
            return Ok(Arc::clone(known));
        }
        let ask = format!(
            "begin read only; prepare pulso_types as\n{}\n;
             select t.type from pg_catalog.pg_prepared_statements s
              cross join lateral unnest(s.parameter_types::oid[]) with ordinality as t (type, n)
              where s.name = 'pulso_types' order by t.n;
             deallocate pulso_types; rollback",
            sql.text
        );
        let answer = self.client.simple_query(&ask).await?;
        let oids = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        let types: Arc<[Type]> = oids.map(|oid| Type::from_oid(oid).unwrap_or(Type::UNKNOWN)).collect();
        self.shared.types.write().unwrap_or_else(PoisonError::into_inner).insert(sql.name, Arc::clone(&types));
        Ok(types)
    }
}
