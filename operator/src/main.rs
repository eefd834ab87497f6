//! `weir-operator`: the operator, what it would do, Weir without Kubernetes, and `kubectl weir`.

mod cli;

use std::process::ExitCode;

use cli::Command;
use weir_operator::{kubectl, kubernetes, local, plan};

#[tokio::main]
async fn main() -> ExitCode {
    let result = match cli::parse() {
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
        Command::Kubectl(asked) => {
            cli::log_to_stderr(cli::LogFormat::Quiet);
            let outcome = kubectl::run(asked, &mut std::io::stdout()).await;
            if let Err(error) = &outcome {
                cli::complain(&error.to_string());
            }
            // Not by returning: a thread may wait for standard input, and nobody is to press a key first.
            std::process::exit(i32::from(outcome.is_err()));
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
