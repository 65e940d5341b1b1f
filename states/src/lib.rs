//! States of Python programs as frozen processes, behind the REST API of `snapshot-kernel`.
//!
//! A process of its own, `tithon states serve`: no supervisor, worker or session knows of it. It runs
//! no user's code itself; [`keeper`] starts the Python whose forks do, [`process`] talks to them, [`graph`]
//! knows which states there are, [`run`] runs code in them and [`questions`] asks about them; [`api`] says
//! what each request means, [`http`] what a request is. Everything is one thread's.

mod api;
mod body;
mod graph;
mod http;
mod keeper;
mod memory;
mod process;
mod questions;
mod refusal;
mod room;
mod run;
mod serve;
mod socket;
mod token;

pub use keeper::KeeperError;
pub use serve::{Limits, Listen, Listening, Options, StatesError, serve};
pub use token::{Token, TokenError};
