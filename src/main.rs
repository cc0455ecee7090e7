use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match pulso::config::command_line(std::env::args_os()) {
        Ok(cli) => pulso::cli::run(cli).await,
        Err(error) => Err(error),
    };
    match outcome {
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
