//! Processes that hold states, and the copies of them in which something runs.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    process::ExitStatus,
    rc::{Rc, Weak},
    time::Duration,
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tithon_ipc::{
    control::FdStream,
    platform::sockets,
    process::{ProcessHandle, ProcessIdentity, WatchedProcess},
};
use tokio::{
    net::{UnixStream, unix::pipe},
    time::timeout,
};

use crate::keeper::Forgetting;

/// How long a fork may take; page tables of a hundred gigabytes need a second, and a loaded machine more.
const FORK_PATIENCE: Duration = Duration::from_secs(30);
/// The longest frame of a state, in bytes.
const FRAME_MAX: usize = 256 << 20;

/// Why no copy came of a fork.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForkError {
    /// Its process is gone.
    #[error("its process has ended, killed from outside or for memory")]
    Gone,
    /// The system said no.
    #[error("{0}")]
    Refused(String),
    /// A library's fork handler waits for ever.
    #[error("it cannot be forked: the fork did not come back within {} s", FORK_PATIENCE.as_secs())]
    Stuck,
    /// No sockets or pipes are left.
    #[error("it cannot be forked: {0}")]
    Io(#[from] io::Error),
}

/// The life of a process: it ends, with its process group, when nobody holds this any more.
#[derive(Debug)]
pub(crate) struct Life {
    watched: WatchedProcess,
    parent: Weak<Process>,
    forgetting: Forgetting,
}

impl Life {
    pub(crate) fn pid(&self) -> i32 {
        self.handle().identity().pid
    }

    fn handle(&self) -> &ProcessHandle {
        self.watched.handle()
    }

    /// Asks it to stop what it does, as Ctrl-C would.
    pub(crate) fn interrupt(&self) {
        self.handle().signal(Signal::INT).ok();
    }

    /// Ends it and all that is in its process group.
    pub(crate) fn kill(&self) {
        let identity = self.handle().identity();
        // Its number is its own as long as it was not waited for; its group may outlive it.
        let is_there =
            ProcessIdentity::of(self.pid()).is_ok_and(|it| it.as_ref() == Some(identity));
        if let Some(group) = Pid::from_raw(self.pid()).filter(|_| is_there) {
            rustix::process::kill_process_group(group, Signal::KILL).ok();
        }
        self.handle().signal(Signal::KILL).ok();
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) {
        self.watched.ended().await;
    }

    /// How it ended.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.handle().exit_status()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill();
        self.forgetting.push(self.parent.clone(), self.pid());
    }
}

/// A process that holds a state.
#[derive(Debug)]
pub(crate) struct Process {
    channel: StdStream,
    /// None of the keeper, whose life is nobody else's matter.
    life: Option<Rc<Life>>,
}

impl Process {
    /// The keeper: a state in which nothing has run.
    pub(crate) fn keeper(channel: StdStream) -> Self {
        Self {
            channel,
            life: None,
        }
    }

    /// A copy whose code succeeded, as a state.
    pub(crate) fn of(copy: Copy) -> io::Result<Self> {
        Ok(Self {
            channel: copy.channel.into_stream().into_std()?,
            life: Some(copy.life),
        })
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.life.as_ref().map(|life| life.pid())
    }

    /// Tells it, whoever still holds this, that nobody wants it any more.
    pub(crate) fn hang_up(&self) {
        self.channel.shutdown(std::net::Shutdown::Both).ok();
    }

    /// Sends an order. A state waits for nothing else, so its socket has room.
    pub(crate) fn order(&self, letter: u8, number: u32, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = [letter, 0, 0, 0, 0];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            beside.push(SendAncillaryMessage::ScmRights(fds));
        }
        let flags = sockets::SEND | SendFlags::DONTWAIT;
        let data = [io::IoSlice::new(&bytes)];
        match sendmsg(&self.channel, &data, &mut beside, flags)? {
            5 => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Forks it into a copy that waits for what it is to do.
    pub(crate) async fn fork(self: &Rc<Self>, forgetting: &Forgetting) -> Result<Copy, ForkError> {
        let (mine, its) = StdStream::pair()?;
        mine.set_nonblocking(true)?;
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        self.order(b'F', 0, &[its.as_fd(), out.as_fd(), err.as_fd()])
            .map_err(|_| ForkError::Gone)?;
        // Or the end of the copy would never be seen.
        drop((its, out, err));
        let mut channel = FdStream::new(UnixStream::from_std(mine)?);
        let hello = receive(&mut channel);
        let hello = timeout(FORK_PATIENCE, hello)
            .await
            .map_err(|_| ForkError::Stuck)?
            .map_err(|_| ForkError::Gone)?;
        match serde_json::from_slice(&hello).map_err(io::Error::other)? {
            Hello {
                refused: Some(why), ..
            } => Err(ForkError::Refused(why)),
            Hello { pid, .. } => {
                // It waits for us: whoever has this number is it.
                let process = ProcessIdentity::of(pid)?.ok_or(ForkError::Gone)?;
                let process = process.open()?.ok_or(ForkError::Gone)?;
                let life = Life {
                    watched: WatchedProcess::new(process)?,
                    parent: Rc::downgrade(self),
                    forgetting: forgetting.clone(),
                };
                Ok(Copy {
                    channel,
                    stdout,
                    stderr,
                    life: Rc::new(life),
                })
            }
        }
    }

    /// Lets the process itself answer a question: what cannot be forked is never run in again either.
    pub(crate) async fn ask_itself<A: DeserializeOwned>(
        &self,
        question: &impl Serialize,
    ) -> io::Result<A> {
        let (mine, its) = StdStream::pair()?;
        mine.set_nonblocking(true)?;
        self.order(b'H', 0, &[its.as_fd()])?;
        drop(its);
        let mut channel = FdStream::new(UnixStream::from_std(mine)?);
        send(&mut channel, question).await?;
        Ok(serde_json::from_slice(&receive(&mut channel).await?)?)
    }
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    pid: i32,
    refused: Option<String>,
}

fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}

/// A copy of a state, in which something runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) channel: FdStream,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    pub(crate) life: Rc<Life>,
}

impl Copy {
    /// Says what it is to do.
    pub(crate) async fn perform(&mut self, order: &impl Serialize) -> io::Result<()> {
        send(&mut self.channel, order).await
    }

    /// Gives it a descriptor.
    pub(crate) async fn give(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.channel.send(b"d", &[fd]).await
    }
}

async fn send(channel: &mut FdStream, content: &impl Serialize) -> io::Result<()> {
    let content = serde_json::to_vec(content)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    channel.send(&length.to_le_bytes(), &[]).await?;
    channel.send(&content, &[]).await
}

/// The next frame of a channel.
pub(crate) async fn receive(channel: &mut FdStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    channel.receive(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::other("the answer is larger than 256 MiB"));
    }
    let mut frame = vec![0; length];
    channel.receive(&mut frame).await?;
    Ok(frame)
}
