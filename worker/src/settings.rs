//! The environment variables a worker reads (PROTOCOL §17).

use std::{env, str::FromStr, time::Duration};

/// How this worker behaves; the defaults are the protocol's.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `TITHON_SUB_QUEUE_MAX`: events kept in memory for subscribers.
    pub events_max: usize,
    /// `TITHON_SEND_TIMEOUT`: how long a client may accept nothing.
    pub send_timeout: Duration,
    /// `TITHON_SOCK_SNDBUF`: the socket's send buffer in bytes.
    pub send_buffer: usize,
    /// `TITHON_IDLE_BARRIER_TIMEOUT`: how long a reply waits for the idle that belongs to it.
    pub idle_barrier: Duration,
    /// `TITHON_KERNEL_IDLE_TIMEOUT`: how long an unused kernel lives; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// `TITHON_QUESTION_TIMEOUT`: how long a kernel may take to answer a client's question.
    pub question_limit: Duration,
    /// `TITHON_JUPYTER_LINKS`: whether other Jupyter programs are to find the kernels by themselves.
    pub jupyter_links: bool,
    /// `TITHON_GC_POLL`: how often that is looked at.
    pub idle_poll: Duration,
    /// `TITHON_CHECKPOINTS`: how many checkpoints of a kernel are kept; 0 is none.
    pub checkpoints: u32,
    /// `TITHON_CHECKPOINT_MEMORY`: what they may use together, in per cent of the machine's memory.
    pub checkpoint_memory: f64,
    /// `TITHON_AUTO_RESTORE`: whether a kernel that died goes on from its newest checkpoint by itself.
    pub auto_restore: bool,
    /// `TITHON_HISTORY_RETENTION_DAYS`: how old raw output of finished cells gets; 0 is for ever.
    pub retention_days: f64,
    /// `TITHON_HISTORY_TARGET_MIB`: how large a history may get before its oldest raw output goes; 0
    /// is any size.
    pub target_mib: f64,
    /// `TITHON_RETENTION_POLL`: how often both are looked at.
    pub retention_poll: Duration,
}

impl Settings {
    /// Reads the environment; a value that is no number counts as absent, with a warning.
    pub(crate) fn from_env() -> Self {
        Self {
            events_max: number("TITHON_SUB_QUEUE_MAX", 10_000),
            send_timeout: seconds("TITHON_SEND_TIMEOUT", 10.0),
            send_buffer: number("TITHON_SOCK_SNDBUF", 1 << 20),
            idle_barrier: seconds("TITHON_IDLE_BARRIER_TIMEOUT", 10.0),
            idle_timeout: Some(seconds("TITHON_KERNEL_IDLE_TIMEOUT", 0.0))
                .filter(|timeout| !timeout.is_zero()),
            question_limit: seconds("TITHON_QUESTION_TIMEOUT", 10.0),
            jupyter_links: number("TITHON_JUPYTER_LINKS", 0_u8) != 0,
            idle_poll: seconds("TITHON_GC_POLL", 60.0).max(Duration::from_millis(10)),
            checkpoints: number("TITHON_CHECKPOINTS", 0),
            checkpoint_memory: number("TITHON_CHECKPOINT_MEMORY", 10.0),
            auto_restore: number("TITHON_AUTO_RESTORE", 0_u8) != 0,
            retention_days: positive("TITHON_HISTORY_RETENTION_DAYS"),
            target_mib: positive("TITHON_HISTORY_TARGET_MIB"),
            retention_poll: seconds("TITHON_RETENTION_POLL", 60.0).max(Duration::from_millis(10)),
        }
    }
}

fn seconds(name: &str, default: f64) -> Duration {
    Duration::try_from_secs_f64(number(name, default)).unwrap_or(Duration::ZERO)
}

/// A number that means nothing where it is not above 0.
fn positive(name: &str) -> f64 {
    Some(number(name, 0.0_f64))
        .filter(|number| number.is_finite())
        .map_or(0.0, |number| number.max(0.0))
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    let Some(text) = env::var(name).ok().filter(|text| !text.trim().is_empty()) else {
        return default;
    };
    text.trim().parse().unwrap_or_else(|_| {
        tracing::warn!("{name} is not a number: its default is used");
        default
    })
}
