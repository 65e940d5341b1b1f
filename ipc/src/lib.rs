//! What two Tithon processes must agree on: paths under TITHON_HOME, the control protocol between
//! supervisor and worker, the client protocol's types and the client that speaks it.
//!
//! No business logic: nothing here starts, stops or decides anything.

pub mod client;
pub mod control;
pub mod files;
pub mod ids;
pub mod json;
pub mod jupyter;
pub mod lock;
pub mod logs;
pub mod marks;
pub mod naming;
pub mod paths;
pub mod platform;
pub mod process;
pub mod python_kernel;
pub mod readiness;
pub mod systemd;
