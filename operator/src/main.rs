//! `weir-operator`: the operator, what it would do, and Weir without Kubernetes.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use weir_operator::{kubernetes, local, plan};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(arguments) => {
            cli::log_to_stderr(arguments.log_format);
            run(arguments).await
        }
        Command::Plan(arguments) => {
            cli::log_to_stderr(cli::LogFormat::Quiet);
            plan::run(&arguments.files, arguments.target(), &mut std::io::stdout())
                .await
                .map_err(|error| error.to_string())
        }
        Command::Local(arguments) => {
            cli::log_to_stderr(cli::LogFormat::Quiet);
            local::run(
                arguments.into_options(),
                cli::stop_signal(),
                &mut std::io::stdout(),
            )
            .await
            .map_err(|error| error.to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: cli::Run) -> Result<(), String> {
    kubernetes::run(arguments.into_options(), cli::stop_signal())
        .await
        .map_err(|error| error.to_string())
}
