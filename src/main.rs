use clap::Parser;
use pulso::cli::Cli;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match pulso::cli::run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pulso: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            error.exit_code()
        }
    }
}
