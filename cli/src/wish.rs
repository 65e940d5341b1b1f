//! How a session's kernel is to be started: flags that every command has which may start one.

use clap::Args;

use crate::{
    arguments::memory,
    link::{Bound, Link},
};

/// What a kernel that is started is to be.
#[derive(Debug, Default, Args)]
pub(crate) struct WishArgs {
    /// The Python to start the session's kernel with, if it has none yet
    #[arg(long, value_name = "PYTHON", conflicts_with = "kernel")]
    python: Option<String>,

    /// The kernelspec to start the session's kernel from, if it has none yet
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,

    /// Bound the session's memory, as 20G or 512M; kept for later kernels until told otherwise (infinity)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory_max: Option<u64>,
}

impl WishArgs {
    /// The session as this process would start it.
    pub(crate) fn bound(&self, link: &Link, session: &str) -> Bound {
        link.bound(session, self.python.as_deref(), self.kernel.as_deref())
            .limited(self.memory_max)
    }
}
