//! Lends an `ipykernel` to a Python that has none: one managed directory per kind of Python, made
//! once, tried before anybody depends on it, and shared by all sessions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::child;
use super::error::PythonError;
use super::install::{self, REQUIREMENT};
use super::place::{Lent, Place, Receipt, io};
use super::probe::Interpreter;

/// Changes when what is inside an environment changes its meaning.
const LAYOUT: u32 = 1;
/// For a freshly installed `ipykernel` to be imported once, from a cold disk.
const TRIAL: Duration = Duration::from_secs(60);
/// Imports what a kernel needs from the new site alone, compiled modules included, and says its
/// version.
const TRY_IT: &str = "import sys; sys.path.append(sys.argv[1]); \
                      import ipykernel.kernelapp, ipykernel_launcher, zmq; \
                      print(ipykernel.__version__)";

/// The site for this Python, made now if there is none yet.
pub(super) fn site(
    python: &Interpreter,
    env: &BTreeMap<String, String>,
    envs: &Path,
    limit: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Lent, PythonError> {
    let place = Place {
        envs,
        name: name(python),
    };
    if let Some(lent) = place.finished() {
        return Ok(lent);
    }
    let deadline = Instant::now() + limit;
    let _held = place.lock(limit, deadline, progress)?;
    if let Some(lent) = place.finished() {
        return Ok(lent);
    }
    progress(&format!(
        "making a place for ipykernel for {} (once) …",
        python.short_name()
    ));
    let new = place.begin()?;
    let site = new.path.join("site");
    let workshop = install::Workshop {
        python,
        env,
        dir: &new.path,
        site: &site,
        deadline,
    };
    workshop.install(progress)?;
    let receipt = Receipt {
        ipykernel: try_it(python, env, &new.path, &site)?,
        requirement: REQUIREMENT.to_owned(),
        python: python.answer.version.clone(),
        base_prefix: python.answer.base_prefix.clone(),
        platform: python.answer.platform.clone(),
        libc: python.answer.libc.clone(),
    };
    place.publish(new, &receipt)
}

/// Two Pythons share a name only if they stand in the same place, and compiled modules made for one
/// work in the other.
pub(super) fn name(python: &Interpreter) -> String {
    let answer = &python.answer;
    let differences = format!(
        "{LAYOUT}\n{REQUIREMENT}\n{}\n{}\n{}",
        answer.base_prefix.display(),
        answer.platform,
        answer.libc
    );
    let digest = Sha256::digest(differences.as_bytes());
    let digest: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    format!("{}-{digest}", answer.soabi.replace(|c| !plain(c), "_"))
}

/// Proves that the site works with the base Python, before anybody depends on it.
fn try_it(
    python: &Interpreter,
    env: &BTreeMap<String, String>,
    dir: &Path,
    site: &Path,
) -> Result<String, PythonError> {
    let mut command = Command::new(&python.program);
    // Without the user's packages (-I -S), which must neither help nor hinder.
    command
        .args(["-I", "-S", "-c", TRY_IT])
        .arg(site)
        .env_clear()
        .envs(env)
        .current_dir(dir);
    let ended =
        child::run(&mut command, TRIAL, &mut |_| {}).map_err(|source| io("run", site, source))?;
    let version = ended.stdout.lines().last().unwrap_or_default().trim();
    if ended.succeeded() && !version.is_empty() {
        return Ok(version.to_owned());
    }
    let words = format!(
        "what was installed does not work:\n    {}",
        ended.last_words(6).replace('\n', "\n    ")
    );
    Err(PythonError::Lend {
        python: python.short_name(),
        words,
        hint: install::OTHER_PYTHON.to_owned(),
    })
}
