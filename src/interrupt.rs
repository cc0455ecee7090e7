//! Ctrl-C and SIGTERM, as a token that long work looks at between two transactions.

use tokio_util::sync::CancellationToken;

/// Exit code of a command that a person stopped: 128 + SIGINT, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// A token cancelled by the first SIGINT or SIGTERM; the second ends the process at once.
pub fn token() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        signal().await;
        cancelled.cancel();
        signal().await;
        std::process::exit(i32::from(EXIT_CODE));
    });
    token
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut stream) => stream.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => if outcome.is_err() { std::future::pending().await },
        _ = terminated => (),
    }
}
