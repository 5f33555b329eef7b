//! The command line: one file per command. Standard output is data, standard error is talk.

mod admin;
mod audit;
mod capture;
mod check;
mod config;
mod dev;
mod init;
mod out;
mod payload;
mod providers;
mod records;
mod routes;
mod run;
mod send;
mod sender;
mod test_key;
mod verify;

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use bytes::Bytes;
use clap::{CommandFactory as _, Parser, Subcommand};

// The exit codes, but for those of clap, systemd and signals.
pub(crate) const OK: u8 = 0; // done, or yes
pub(crate) const NO: u8 = 1; // it worked, but the answer is no, or a part of it failed
pub(crate) const NOT_FOUND: u8 = 3;
pub(crate) const NO_GATEWAY: u8 = 4; // no running gateway was reached
pub(crate) const TAMPERED: u8 = 6; // the record is not what was written
pub(crate) const NEEDS_ANSWER: u8 = 7; // and there is nobody to ask
pub(crate) const TEMPORARY: u8 = 75; // not yet: ask again
pub(crate) const CONFIG: u8 = 78; // the configuration is invalid (sysexits `EX_CONFIG`)

/// Webhook gateway: believes only signed events, passes each one on once, and keeps a record you can prove.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, after_help = EXITS, disable_help_subcommand = true)]
struct Cli {
    /// The configuration. Default: ./gatepost.yaml, then /etc/gatepost/gatepost.yaml.
    #[arg(short, long, global = true, env = "GATEPOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXITS: &str = "Exit codes: 0 done · 1 the answer is no · 2 usage · 3 not found · 4 no gateway reached · \
    6 integrity broken · 7 needs an answer · 75 try again · 78 configuration invalid · 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    #[command(
        about = "Write a commented gatepost.yaml    (gatepost init stripe --to http://app:3000)"
    )]
    Init(init::Args),
    /// Run the gateway in the foreground
    Run(run::Args),
    /// Validate configuration, references, secrets, ports, stores
    #[command(visible_alias = "validate")]
    Check(check::Args),
    /// Show the configuration in force and where each value came from
    #[command(subcommand)]
    Config(config::Command),
    /// List routes, or say which one takes an event and why not the others
    #[command(subcommand)]
    Routes(routes::Command),
    /// List presets, print one as YAML, or capture a secret that a provider sends
    #[command(subcommand)]
    Providers(providers::Command),
    /// Print the JSON Schema of the configuration
    Schema,
    #[command(visible_alias = "trigger")]
    Send(send::Args),
    Verify(verify::Args),
    /// Verify, search and export the record
    Audit(audit::Args),
    /// Load the configuration again: all of it or nothing
    Reload(admin::Args),
    /// Ask a running gateway whether it is ready; for containers
    Healthcheck(admin::Args),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// Parses the command line, does as it says, and returns the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let file = cli.config.as_deref();
    match cli.command {
        Command::Dev(args) => args.run(),
        Command::Init(args) => args.run(file),
        Command::Run(args) => args.run(file),
        Command::Check(args) => args.run(file),
        Command::Config(command) => command.run(file),
        Command::Routes(command) => command.run(file),
        Command::Providers(command) => command.run(file),
        Command::Schema => schema(),
        Command::Send(args) => args.run(file),
        Command::Verify(args) => args.run(file),
        Command::Audit(args) => args.run(|| run::audit_params(file)),
        Command::Reload(args) => args.reload(file),
        Command::Healthcheck(args) => args.healthcheck(file),
        Command::Completions { shell } => completions(shell),
        Command::Version => version(),
    }
}

/// The bytes of a file; `-` is standard input.
fn read(path: &Path) -> io::Result<Bytes> {
    if path != Path::new("-") {
        return std::fs::read(path).map(Bytes::from);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "gatepost", &mut io::stdout());
    ExitCode::SUCCESS
}

/// For editors and for CI; made from the structs that a configuration is read into.
fn schema() -> ExitCode {
    out::line(&format!("{:#}", crate::config::schema()));
    ExitCode::SUCCESS
}

fn version() -> ExitCode {
    out::line(&format!("gatepost {}", env!("CARGO_PKG_VERSION")));
    ExitCode::SUCCESS
}
