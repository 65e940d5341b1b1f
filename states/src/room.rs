//! Places for connections. Where none is left, whoever has kept the server waiting longest makes room: a client
//! that says nothing costs the others nothing.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// Most connections at a time; if all of them are being worked for, the next ones wait.
const CONNECTIONS_MAX: usize = 256;
/// Until another look for somebody who could make room.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// All connections.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    seats: RefCell<Vec<Weak<Seat>>>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _place: OwnedSemaphorePermit,
    /// Since when it is the client's turn; none while its request is worked on.
    waits_since: Cell<Option<Instant>>,
    turned_out: Notify,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            seats: RefCell::default(),
        }
    }

    /// A place for a connection, at another's expense if need be.
    pub(crate) async fn take(&self) -> Rc<Seat> {
        let place = loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                break place;
            }
            self.make_room();
            let place = self.places.clone().acquire_owned();
            if let Ok(Ok(place)) = timeout(LOOK_AGAIN, place).await {
                break place;
            }
        };
        let seat = Rc::new(Seat {
            _place: place,
            waits_since: Cell::new(Some(Instant::now())),
            turned_out: Notify::new(),
        });
        let mut seats = self.seats.borrow_mut();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Rc::downgrade(&seat));
        seat
    }

    fn make_room(&self) {
        let seats = self.seats.borrow();
        let waiting = seats.iter().filter_map(|seat| {
            let seat = seat.upgrade()?;
            Some((seat.waits_since.get()?, seat))
        });
        if let Some((_, seat)) = waiting.min_by_key(|(since, _)| *since) {
            seat.turned_out.notify_one();
        }
    }
}

impl Seat {
    /// Returns when the connection must end for another.
    pub(crate) async fn turned_out(&self) {
        self.turned_out.notified().await;
    }

    /// What is done for the client, during which nobody takes its place.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.waits_since.set(None);
        let done = work.await;
        self.waits_since.set(Some(Instant::now()));
        done
    }
}
