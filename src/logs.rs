//! Logs: to stderr, one line an event, a readable message and dotted fields with units in their names.

use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Sets the process's logger. `PULSO_LOG` (`info`, `pulso::access=warn,pulso=debug`) overrides `level`. A second call changes nothing.
pub fn init(level: &str, format: Format) {
    let filter = EnvFilter::try_from_env("PULSO_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,pulso={level}")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = match format {
        Format::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a logger is set already");
    }
}
