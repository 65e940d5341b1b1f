//! The server from its start to its end.

use std::{io, net::SocketAddr, path::PathBuf, pin::pin, rc::Rc, time::Duration};

use tithon_ipc::paths::{Home, HomeError};
use tithon_worker::{
    python::Wish,
    standing::{Group, Standing},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    graph::{Graph, INITIAL},
    http,
    keeper::{Keeper, KeeperError},
    memory,
    room::Room,
    run::make_initial,
    socket::{Listener, is_public},
    token::Token,
};

/// Between two looks at what the states hold.
const WEIGH_INTERVAL: Duration = Duration::from_secs(1);
/// Out of descriptors, for example: what there is ends some time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Listen {
    /// On a unix socket that only we can connect to.
    Unix(PathBuf),
    /// On a TCP port; 0 is any.
    Tcp(SocketAddr),
}

/// What all states together may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there may be.
    pub states: usize,
    /// How many executions and questions run at a time.
    pub executions: usize,
    /// What they may hold, in bytes.
    pub memory: u64,
}

/// What a server is started with.
#[derive(Debug)]
pub struct Options {
    /// Whose `envs/` lends packages to Pythons.
    pub home: Home,
    /// Where to listen.
    pub listen: Listen,
    /// What every request must name.
    pub token: Token,
    /// Bounds.
    pub limits: Limits,
    /// Which Python, where, with which environment.
    pub wish: Wish,
    /// Variables of the environment that Python is not to see.
    pub hidden: &'static [&'static str],
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StatesError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Another server has the socket.
    #[error(
        "another server listens on {0}\nhint: end it, or choose another address: --bind 127.0.0.1:0, --bind /path/to/socket"
    )]
    AlreadyServed(PathBuf),
    /// The address cannot be had.
    #[error("failed to listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
    /// There is no Python.
    #[error("failed to {0}")]
    Keeper(#[from] KeeperError),
    /// The first state cannot be made.
    #[error("{0}")]
    Initial(String),
    /// The Python that everything descends from is gone, and all states with it.
    #[error(
        "the process that keeps the states ended; all states are lost\nhint: start the server again"
    )]
    KeeperEnded,
    /// The system refuses something.
    #[error("failed to {doing}: {source}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
}

/// What a person should know of a server that listens.
#[derive(Debug)]
pub struct Listening {
    /// How clients name it: `http://127.0.0.1:8080`, or the socket's path.
    pub address: String,
    /// Which Python runs the code.
    pub python: String,
    /// Others than this machine's users can reach it.
    pub public: bool,
}

/// Serves until SIGTERM, SIGINT or SIGHUP. Everything that was started has ended when it returns.
///
/// `progress` receives lines for a person while a Python is being made ready, `listening` is called once.
///
/// # Errors
/// Any [`StatesError`].
pub fn serve(
    options: Options,
    progress: &mut dyn FnMut(&str),
    listening: &mut dyn FnMut(&Listening),
) -> Result<(), StatesError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StatesError::System {
            doing: "set up the event loop",
            source,
        })?;
    LocalSet::new().block_on(&runtime, run(options, progress, listening))
}

async fn run(
    options: Options,
    progress: &mut dyn FnMut(&str),
    listening: &mut dyn FnMut(&Listening),
) -> Result<(), StatesError> {
    let system = |doing| move |source| StatesError::System { doing, source };
    let listener = Listener::open(&options.listen).await?;
    let asked = || -> io::Result<_> {
        Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ))
    };
    let (mut term, mut int, mut hup) = asked().map_err(system("handle signals"))?;
    let standing = Standing::Detached("a server of states".to_owned());
    let place = options
        .home
        .root()
        .join("states")
        .join(std::process::id().to_string());
    let group = Group::settle(&standing, &place);
    let leaf = group.as_ref().map(Group::kernel);
    let mut keeper = Keeper::start(
        &options.home,
        &options.wish,
        leaf.as_ref(),
        options.hidden,
        progress,
    )
    .await?;
    let graph = Rc::new(Graph::new(
        keeper.root.clone(),
        keeper.pid(),
        keeper.forgetting.clone(),
        options.limits,
    ));
    make_initial(&graph, INITIAL)
        .await
        .map_err(StatesError::Initial)?;
    listening(&Listening {
        address: listener.address().map_err(system("find the address"))?,
        python: keeper.python.clone(),
        public: matches!(&options.listen, Listen::Tcp(address) if is_public(address)),
    });
    let mut weigh = interval(WEIGH_INTERVAL);
    weigh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = {
        let mut accepting = pin!(accept(&listener, graph.clone(), Rc::new(options.token)));
        loop {
            tokio::select! {
                () = &mut accepting => {}
                _ = weigh.tick() => {
                    keeper.forget(!graph.is_busy());
                    memory::bound(&graph).await;
                }
                () = keeper.ended() => break Err(StatesError::KeeperEnded),
                _ = term.recv() => break Ok(()),
                _ = int.recv() => break Ok(()),
                _ = hup.recv() => break Ok(()),
            }
        }
    };
    graph.clear();
    end(keeper, graph, group).await;
    drop(listener);
    ended
}

async fn end(keeper: Keeper, graph: Rc<Graph>, group: Option<Group>) {
    // Executions hold the graph until they see that they were ended; the keeper's channel must close before.
    graph.root.hang_up();
    drop(graph);
    keeper.end().await;
    if let Some(group) = group {
        group.kernel().kill(&[]).await;
        group.dissolve();
    }
}

/// Takes connections for ever.
async fn accept(listener: &Listener, graph: Rc<Graph>, token: Rc<Token>) {
    let room = Room::new();
    loop {
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                stream.set_nodelay(true).ok();
                Some(Box::pin(stream) as http::Stream)
            }),
            Listener::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| {
                let me = rustix::process::getuid().as_raw();
                let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == me);
                ours.then(|| Box::pin(stream) as http::Stream)
            }),
        };
        match accepted {
            Ok(None) => {}
            Ok(Some(stream)) => {
                let seat = room.take().await;
                spawn_local(http::serve(stream, seat, graph.clone(), token.clone()));
            }
            Err(err) => {
                tracing::warn!(%err, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
