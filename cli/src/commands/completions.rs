//! `tithon completions`: what a shell needs to complete commands, flags and live sessions' names.

use clap::{Args, CommandFactory, ValueEnum};

use super::print;
use crate::{arguments::Arguments, error::CliError, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  tithon completions bash > ~/.local/share/bash-completion/completions/tithon
  tithon completions zsh  > ~/.zfunc/_tithon
  tithon completions fish > ~/.config/fish/completions/tithon.fish";

/// Lists living sessions; silent and quick when no supervisor runs.
const SESSIONS: &str = "tithon ps --quiet 2>/dev/null";

/// The shells there are completions for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print a shell's completions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, CliError> {
    print(script(args.shell).trim_end())?;
    Ok(Exit::Success)
}

/// The generated script, taught where to find the names of sessions.
fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => {
            let script = generated(clap_complete::Shell::Bash);
            let files = "--session)\n                    COMPREPLY=($(compgen -f \"${cur}\"))";
            let names = format!(
                "--session)\n                    COMPREPLY=($(compgen -W \"$({SESSIONS})\" -- \"${{cur}}\"))"
            );
            script.replace(files, &names)
        }
        Shell::Zsh => {
            let script = generated(clap_complete::Shell::Zsh);
            let functions = format!(
                "\n_tithon_sessions() {{\n    local -a names\n    names=(\"${{(@f)$({SESSIONS})}}\")\n    compadd -a names\n}}\n"
            );
            let script = script.replace(":NAME:_default'", ":NAME:_tithon_sessions'");
            match script.split_once('\n') {
                Some((first, rest)) => format!("{first}\n{functions}{rest}"),
                None => script,
            }
        }
        Shell::Fish => {
            let mut script = generated(clap_complete::Shell::Fish);
            script.push_str(&format!(
                "complete -c tithon -l session -x -a \"({SESSIONS})\"\n"
            ));
            script
        }
    }
}

fn generated(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tithon", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_the_names_of_living_sessions() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            assert!(script.contains("tithon ps --quiet"), "{shell:?}");
        }
        let bash = script(Shell::Bash);
        let (before, _) = bash
            .split_once("COMPREPLY=($(compgen -W \"$(tithon ps")
            .unwrap();
        assert!(before.trim_end().ends_with("--session)"));
        assert!(!script(Shell::Zsh).contains("NAME:_default"));
    }
}
