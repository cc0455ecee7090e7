//! A private PostgreSQL of Pulso's own.

use crate::error::Result;
use std::path::PathBuf;

/// How to run the private cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub data_dir: Option<PathBuf>,
    pub fresh: bool,
    /// Settings beyond the defaults, as `postgresql.conf` would have them.
    pub settings: Vec<(String, String)>,
}

pub struct Cluster {
    url: String,
}

impl Cluster {
    pub async fn start(_options: &Options) -> Result<Self> {
        unimplemented!()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn stop(self) -> Result<()> {
        Ok(())
    }
}
