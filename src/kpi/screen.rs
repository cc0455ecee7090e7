//! Frames that replace one another in place on a terminal, and follow one another anywhere else.

use crate::error::Result;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};

/// The alternate screen, until it is dropped.
pub struct Screen {
    live: bool,
    last: Vec<String>,
}

impl Screen {
    pub fn open() -> Self {
        let live = std::io::stdout().is_terminal();
        if live {
            // Alternate screen; no cursor; lines too long for the terminal are cut, not wrapped.
            let _ = emit("\x1b[?1049h\x1b[?25l\x1b[?7l");
        }
        Self { live, last: Vec::new() }
    }

    /// Whether the reader is still there.
    pub fn draw(&mut self, lines: Vec<String>) -> Result<bool> {
        let mut frame = String::new();
        if self.live {
            // One write inside a synchronized update. Each line is placed, so that a low terminal never scrolls.
            frame.push_str("\x1b[?2026h");
            for (i, line) in lines.iter().enumerate() {
                let _ = write!(frame, "\x1b[{};1H{line}\x1b[K", i + 1);
            }
            frame.push_str("\x1b[J\x1b[?2026l");
        } else {
            frame = page(&lines);
            frame.push('\n');
        }
        self.last = lines;
        emit(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live {
            // The last frame stays to be read.
            let _ = emit(&format!("\x1b[?7h\x1b[?25h\x1b[?1049l{}", page(&self.last)));
        }
    }
}

pub fn page(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Writes to stdout; false when nobody reads it any more.
pub fn emit(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
