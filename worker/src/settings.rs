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
        }
    }
}

fn seconds(name: &str, default: f64) -> Duration {
    Duration::try_from_secs_f64(number(name, default)).unwrap_or(Duration::ZERO)
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
