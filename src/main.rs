//! The executable: parses the configuration, starts the logger, serves, and sets the exit status.

use std::{env, io::Write as _, process::ExitCode};

use fibsrv::{
    config::{self, Command, Config},
    health, logging, start,
    sys::signals::{self, OnHangup},
};
use log::warn;

/// Exit status after an error in flags or environment; other errors are 1.
const USAGE: u8 = 2;

#[expect(clippy::disallowed_methods, reason = "argv is passed to config")]
fn main() -> ExitCode {
    // First of all, so that a signal is neither lost nor fatal.
    let on_hangup = match signals::init() {
        Ok(on_hangup) => on_hangup,
        Err(error) => return fail(&error, ExitCode::FAILURE),
    };
    match config::parse(env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Check(config, text)) => match start::check(&config) {
            Ok(limits) => print(&(text + &limits)),
            Err(error) => fail(&*error, ExitCode::FAILURE),
        },
        Ok(Command::Serve(config)) if config.is_rehearsal() => match start::rehearse(&config) {
            Ok(text) => print(&text),
            Err(error) => fail(&*error, ExitCode::FAILURE),
        },
        Ok(Command::Serve(config)) => serve(&config, on_hangup),
        Ok(Command::Health(addresses)) => {
            // It ends by itself, and Ctrl-C may end it earlier.
            if let Err(error) = signals::unblock() {
                return fail(&error, ExitCode::FAILURE);
            }
            match health::check(&addresses) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, ExitCode::FAILURE),
            }
        }
        Err(error) => fail(&error, USAGE.into()),
    }
}

fn serve(config: &Config, on_hangup: OnHangup) -> ExitCode {
    let outcome = logging::start(config.log).and_then(|()| {
        for warning in &config.warnings {
            warn!("{warning}");
        }
        match config.workers {
            None => start::run(config, on_hangup),
            Some(workers) => start::run_several(config, workers),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error, ExitCode::FAILURE),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// Prints an error on stderr, in one line. If that fails, the exit status still reports it.
fn fail(error: &dyn std::error::Error, status: ExitCode) -> ExitCode {
    drop(writeln!(std::io::stderr(), "fibsrv: {error}"));
    status
}
