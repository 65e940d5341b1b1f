//! `tithon states serve`: the states API over HTTP, in the foreground.

use std::{
    env,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::Args;
use tithon_ipc::paths::Home;
use tithon_states::{Limits, Listen, Listening, Options, Token};
use tithon_worker::{kernel::checkpoint::total_memory, python::Wish};

use crate::{
    arguments::memory,
    commands::print,
    error::CliError,
    exit::Exit,
    logging::{self, Author, Echo, LogLevel},
};

/// Where the token may be, beside the command line.
const TOKEN_VARIABLE: &str = "TITHON_STATES_TOKEN";

const EXAMPLES: &str = "\
Examples:
  tithon states serve --token-file token              on $TITHON_HOME/run/states.sock
  TITHON_STATES_TOKEN=s3cret tithon states serve --bind 127.0.0.1:8080
  curl 'http://127.0.0.1:8080/states?token=s3cret'
  curl 'http://127.0.0.1:8080/openapi.json?token=s3cret'

The API is that of snapshot-kernel: a state is immutable, running code in one leaves
another. Everything ends with this process. docs/states-api.md describes it.";

/// Serve states of Python over HTTP until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Listen on a TCP port (0: any), or on a unix socket named by a path [default:
    /// $TITHON_HOME/run/states.sock]
    #[arg(long, value_name = "ADDR:PORT|PATH", value_parser = address)]
    bind: Option<Listen>,

    /// The secret that every request must name, as ?token=; every user of this machine can see it
    /// here: better in TITHON_STATES_TOKEN, or a file
    #[arg(long, value_name = "SECRET", conflicts_with = "token_file")]
    token: Option<String>,

    /// A file of yours (0600) that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Run the code with this Python: a path, an environment's directory, a command, or a version
    #[arg(long, value_name = "PYTHON")]
    python: Option<String>,

    /// How many states there may be
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_states: u32,

    /// How many executions and questions may run at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_executions: u32,

    /// What all states together may hold, such as 8G [default: half of the machine's memory]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory_max: Option<u64>,

    /// How much is logged: DEBUG, INFO, WARNING or ERROR
    #[arg(long, value_name = "LEVEL", default_value = "WARNING")]
    log_level: LogLevel,
}

fn address(text: &str) -> Result<Listen, String> {
    if text.contains('/') {
        let path = std::path::absolute(text).map_err(|err| err.to_string())?;
        return Ok(Listen::Unix(path));
    }
    text.parse::<SocketAddr>()
        .map(Listen::Tcp)
        .map_err(|_| "must be like 127.0.0.1:8080, [::1]:8080 or /path/to/socket".to_owned())
}

/// Serves until it is told to end.
///
/// # Errors
/// When there is no token, no Python, or the address cannot be had.
pub(crate) fn run(args: ServeArgs) -> Result<Exit, CliError> {
    let token = token(&args)?;
    let home = Home::from_env()?;
    home.prepare()?;
    let system = |doing| move |source| CliError::System { doing, source };
    logging::start(
        args.log_level,
        &home.root().join("states.log"),
        Echo::Stderr,
        &Author::Supervisor,
    )
    .map_err(system("open the log"))?;
    let options = Options {
        listen: args
            .bind
            .unwrap_or_else(|| Listen::Unix(home.run().join("states.sock"))),
        home,
        token,
        limits: Limits {
            states: args.max_states as usize,
            executions: args.max_executions as usize,
            memory: args.memory_max.unwrap_or_else(|| total_memory() / 2),
        },
        wish: Wish {
            python: args.python,
            kernel: None,
            workdir: env::current_dir().map_err(system("find the working directory"))?,
            // What is no text a Python could not be given either.
            env: env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        },
        hidden: &[TOKEN_VARIABLE],
    };
    tithon_states::serve(options, &mut say, &mut |listening| {
        announce(listening);
    })?;
    Ok(Exit::Success)
}

fn token(args: &ServeArgs) -> Result<Token, CliError> {
    if let Some(path) = &args.token_file {
        return Ok(Token::from_file(path)?);
    }
    if let Some(token) = &args.token {
        say(
            "warning: other users of this machine can see a token on the command line; use TITHON_STATES_TOKEN or --token-file",
        );
        return Ok(Token::new(token)?);
    }
    match env::var(TOKEN_VARIABLE) {
        Ok(token) => Ok(Token::new(&token)?),
        Err(_) => Err(CliError::Usage(format!(
            "a token is needed: whoever reaches this server runs code as you\nhint: {TOKEN_VARIABLE}, --token-file FILE or --token SECRET"
        ))),
    }
}

fn announce(listening: &Listening) {
    let Listening {
        address,
        python,
        public,
    } = listening;
    if *public {
        say(
            "warning: this address can be reached from other machines; the token and all code travel unencrypted",
        );
    }
    say(&format!("states run in {python}"));
    // Whoever reads it may be gone; the server is wanted all the same.
    drop(print(&format!("listening on {address}")));
}

fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
