//! The way to a server: the one named by `DATABASE_URL`, or a private cluster of Pulso's own.

use crate::cluster::{self, Cluster};
use crate::error::{Error, Result};
use crate::{migrate, pooler};
use clap::Args;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use std::path::PathBuf;
use tokio_postgres::{Client, Config, NoTls};

/// Which server a command works on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Server to work on; without it Pulso starts a private PostgreSQL of its own
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// The server itself, where DATABASE_URL leads through a pooler in transaction mode: for all but the reads of `pulso serve`
    #[arg(long, env = "PULSO_DIRECT_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub direct_url: Option<String>,

    /// Standbys that `pulso serve` may read figures from, separated by commas; needs DATABASE_URL
    #[arg(
        long = "read-url",
        env = "PULSO_READ_URLS",
        value_delimiter = ',',
        hide_env_values = true,
        global = true,
        value_name = "URL"
    )]
    pub read_urls: Vec<String>,

    /// Where the private PostgreSQL keeps its data [default: pulso/ under the XDG data directory; /var/lib/pulso for root]
    #[arg(long, env = "PULSO_DATA_DIR", global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Delete the private PostgreSQL's data first and begin anew
    #[arg(long, global = true, conflicts_with = "database_url")]
    pub fresh: bool,
}

/// A server to work on, for as long as this value lives; `close` stops a private one.
pub struct Server {
    url: String,
    direct: Option<String>,
    read_urls: Vec<String>,
    cluster: Option<Cluster>,
}

impl Server {
    pub async fn open(args: &DatabaseArgs) -> Result<Self> {
        if let Some(url) = &args.database_url {
            let (direct, read_urls) = (args.direct_url.clone(), args.read_urls.clone());
            return Ok(Self { url: url.clone(), direct, read_urls, cluster: None });
        }
        let options = cluster::Options { data_dir: args.data_dir.clone(), fresh: args.fresh, ..Default::default() };
        let cluster = Cluster::start(&options).await?;
        Ok(Self { url: cluster.url().to_owned(), direct: None, read_urls: Vec::new(), cluster: Some(cluster) })
    }

    /// Straight to the server. A connection string may hold a password, so it is never printed.
    pub fn url(&self) -> &str {
        self.direct.as_deref().unwrap_or(&self.url)
    }

    /// For reads, which may go through a pooler.
    pub fn url_of_reads(&self) -> &str {
        &self.url
    }

    /// Standbys that figures may be read from.
    pub fn read_urls(&self) -> &[String] {
        &self.read_urls
    }

    /// Refuses a pooler in transaction mode where the server itself has to be asked.
    pub async fn require_sessions(&self) -> Result<()> {
        match self.cluster {
            Some(_) => Ok(()),
            None => pooler::refuse(self.url()).await,
        }
    }

    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    pub async fn connect(&self) -> Result<Client> {
        connect(self.url()).await
    }

    /// A connection to a database that has every migration of this version; an error that names the first it lacks otherwise.
    pub async fn migrated(&self) -> Result<Client> {
        let client = self.connect().await?;
        migrate::require(&client).await?;
        Ok(client)
    }

    /// Stops a private cluster that this process started; leaves any other server alone.
    pub async fn close(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

pub(crate) fn config(url: &str) -> Result<Config> {
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        // What it quotes may be a piece of the password.
        let cause = cause.split('`').next().unwrap_or_default().trim_end();
        Error::usage(format!("DATABASE_URL cannot be read: {cause}")).with_hint(
            "Write it as postgresql://user:password@host:5432/database, with %40 for @, %3A for : and %3F for ? in the password",
        )
    })?;
    if config.get_application_name().is_none() {
        config.application_name("pulso");
    }
    Ok(config)
}

/// Whether there is a relation of this name, qualified and as SQL has it.
pub async fn has(client: &Client, relation: &str) -> std::result::Result<bool, tokio_postgres::Error> {
    client.query_one("select to_regclass($1) is not null", &[&relation]).await?.try_get(0)
}

/// One connection, driven by a task that ends with it.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = config(url)?.connect(NoTls).await.map_err(|error| {
        let cause = Error::from(error);
        Error::unavailable(format!("cannot connect to PostgreSQL: {cause}")).with_hint(
            "Check DATABASE_URL and that the server is up; without DATABASE_URL Pulso starts a server of its own.",
        )
    })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(client)
}

/// A pool of at most `size` connections.
pub fn pool(url: &str, size: usize) -> Result<Pool> {
    let manager = Manager::from_config(config(url)?, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .build()
        .map_err(|error| Error::failed(format!("cannot make a connection pool: {error}")))
}

/// Tables of ours that are locked as a vacuum locks them. Whether it is autovacuum only superusers see.
const VACUUMED: &str = "
  select c.oid::regclass::text from pg_class c
   where c.relkind in ('r', 'm') and pg_has_role(c.relowner, 'usage')
     and c.oid in (select l.relation from pg_locks l
                    where l.mode = 'ShareUpdateExclusiveLock' and l.granted and l.pid <> pg_backend_pid()
                      and l.database = (select d.oid from pg_database d where d.datname = current_database()))";

/// Autovacuum yields to whoever has waited for `deadlock_timeout`, and whoever asks for a lock for a moment never does. So
/// its own lock is waited for that long: nobody who reads or writes the table waits behind that. It comes again later, and
/// skips what is locked: so all are locked before any is let go. Somebody's own VACUUM does not yield.
pub async fn interrupt_autovacuum(client: &Client) {
    // What fails here does not matter: the caller finds its table busy once more.
    let _ = client.batch_execute("begin; set local lock_timeout = '3s'").await;
    while let Ok(tables) = client.query(VACUUMED, &[]).await {
        let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
        let lock = format!("lock table {} in share update exclusive mode", names.join(", "));
        if names.is_empty() || client.batch_execute(&lock).await.is_err() {
            break;
        }
        tracing::info!(lock, "autovacuum is out of the way");
    }
    let _ = client.batch_execute("rollback").await;
}
