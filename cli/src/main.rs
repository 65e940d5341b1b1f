//! The `tithon` binary: command line, supervisor and worker in one executable.

mod arguments;
mod commands;
mod doctor;
mod error;
mod exit;
mod follow;
mod frames;
mod history;
mod link;
mod logging;
mod logs;
mod pager;
mod platform;
mod remote;
mod render;
mod repl;
mod replay;
mod service;
mod start;
mod stopped;
mod wish;
mod workers;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    render::settle_colours();
    let arguments = arguments::Arguments::parse();
    commands::run(arguments).unwrap_or_else(|err| {
        if let Some(words) = err.words() {
            render::words::fail(&words);
        }
        err.exit().into()
    })
}
