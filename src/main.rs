//! fibsrv: reads flags and environment, starts the logger, serves, and says how it ended.

use std::{env, io::Write as _, process::ExitCode};

use fibsrv::{
    config::{self, Command, Config},
    health, logging, start,
};

/// The exit status for wrong flags or a wrong environment; other errors are 1.
const USAGE: u8 = 2;

#[expect(clippy::disallowed_methods, reason = "argv goes from here to config")]
fn main() -> ExitCode {
    match config::parse(env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Serve(config)) => serve(&config),
        Ok(Command::Health(addresses)) => match health::ask(&addresses) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, ExitCode::FAILURE),
        },
        Err(error) => complain(&error, USAGE.into()),
    }
}

fn serve(config: &Config) -> ExitCode {
    let outcome = logging::start(config.log_level).and_then(|()| match config.workers {
        None => start::run(config),
        Some(workers) => start::run_several(config, workers),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&*error, ExitCode::FAILURE),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, ExitCode::FAILURE),
    }
}

/// One line on stderr. If even that fails, the status has to say it all.
fn complain(error: &dyn std::error::Error, status: ExitCode) -> ExitCode {
    drop(writeln!(std::io::stderr(), "fibsrv: {error}"));
    status
}
