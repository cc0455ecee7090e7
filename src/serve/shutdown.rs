//! SIGTERM and Ctrl-C.

use crate::error::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, heard from `listen` on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The first of them.
pub async fn interrupted() -> Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}
