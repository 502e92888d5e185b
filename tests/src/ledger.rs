//! A steady load whose every acknowledgement is written down, and the comparison of that book with the cluster.
//!
//! Each room has a writer, which posts numbered messages and sends numbered items through a session, and a reader, which
//! asks for the room's revision. A body can be made again from its number, so what comes back is compared byte by byte.
//! What was not answered is *unknown*: it may be there, once, or not. Bounded by its pace.
//!
//! Held by [`Ledger::compare`]: an acknowledged message stands at its revision and an acknowledged item at its place;
//! nothing is there that nobody wrote, or twice; acknowledged numbers ascend with their revisions; an item that was
//! acknowledged as done never comes again; no read is older than an acknowledgement before it.

mod account;
mod book;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conclave_client::Client;
use conclave_proto::v1::{CreateRoomRequest, ErrorReason, GetRoomRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::account::Account;
use self::book::Book;
use conclave_workload::patience::{POLL, eventually};

/// Between two reads of one room.
const READ_EVERY: Duration = Duration::from_millis(100);
/// A read that takes longer is given up; it says nothing.
const READ_WITHIN: Duration = Duration::from_secs(5);

pub struct Ledger {
    client: Client,
    books: Vec<Shelf>,
    /// By book: the last number that was asked for when somebody began to wait.
    marks: Vec<u64>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

/// A book with those who write and read in it.
type Shelf = Arc<Mutex<Book>>;

impl Ledger {
    /// Creates the rooms and begins to write in them.
    pub async fn open(client: Client, rooms: usize) -> Result<Ledger> {
        let (stop, stopped) = watch::channel(false);
        let mut ledger = Ledger { client, books: Vec::new(), marks: Vec::new(), stop, tasks: JoinSet::new() };
        for index in 0..rooms {
            let room = format!("rooms/ledger-{index}");
            create(&ledger.client, &room).await?;
            let book = Arc::new(Mutex::new(Book::new(room)));
            ledger.tasks.spawn(writer::write(ledger.client.clone(), book.clone(), stopped.clone()));
            ledger.tasks.spawn(read(ledger.client.clone(), book.clone(), stopped.clone()));
            ledger.books.push(book);
        }
        Ok(ledger)
    }

    /// Names of the rooms, without their collection.
    pub fn rooms(&self) -> Vec<String> {
        let name = |book: &Shelf| lock(book).room().trim_start_matches("rooms/").to_owned();
        self.books.iter().map(name).collect()
    }

    /// Waits until something that was asked after now is acknowledged in every room, and says how long that took.
    pub async fn flow(&mut self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        self.marks = self.books.iter().map(|book| lock(book).asked()).collect();
        loop {
            let flows = |(book, mark): (&Shelf, &u64)| lock(book).acknowledged() > *mark;
            if self.books.iter().zip(&self.marks).all(flows) {
                return Ok(began.elapsed());
            }
            if let Some(ended) = self.tasks.try_join_next() {
                ended.context("a writer or reader panicked")??;
                bail!("a writer or reader has ended");
            }
            if began.elapsed() > within {
                let rooms = self.books.iter().zip(&self.marks).filter(|both| !flows(*both));
                let rooms: Vec<String> = rooms.map(|(book, _)| lock(book).to_string()).collect();
                bail!("no write was acknowledged within {within:?} in {}", rooms.join(", "));
            }
            tokio::time::sleep(POLL / 5).await;
        }
    }

    /// Writes that were asked for after the last call of [`Ledger::flow`] began, and acknowledged since.
    pub fn acknowledged_since_flow(&self) -> u64 {
        let since = |(book, mark): (&Shelf, &u64)| lock(book).acknowledged().saturating_sub(*mark);
        self.books.iter().zip(&self.marks).map(since).sum()
    }

    /// The highest revision of a room that any answer has told so far.
    pub fn highest_revision(&self, room: &str) -> Result<u64> {
        let mut books = self.books.iter().map(|book| lock(book));
        let book = books.find(|book| book.room().trim_start_matches("rooms/") == room).context("no such room")?;
        Ok(book.highest_revision())
    }

    /// Longest time between two acknowledgements of one room since the last call.
    pub fn longest_pause(&self) -> Duration {
        self.books.iter().map(|book| lock(book).take_longest_pause()).max().unwrap_or_default()
    }

    /// Reads all rooms and takes all items, while writing goes on, and compares with what was acknowledged before.
    /// An error means that the cluster could not be read; losses are in the account.
    pub async fn compare(&self) -> Result<Account> {
        let mut sum = Account::default();
        for book in &self.books {
            sum += account::of_room(&self.client, book).await.with_context(|| lock(book).to_string())?;
        }
        Ok(sum)
    }

    /// The same, and fails if anything is wrong.
    pub async fn compare_clean(&self) -> Result<Account> {
        let account = self.compare().await?;
        account.check()?;
        Ok(account)
    }

    /// Stops writing and waits until everything is answered or given up.
    pub async fn close(mut self) -> Result<Account> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a writer or reader panicked")??;
        }
        self.compare().await
    }
}

async fn create(client: &Client, room: &str) -> Result<()> {
    eventually("a room", || async {
        match client.create_room(CreateRoomRequest { name: room.into(), ..Default::default() }).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason == Some(ErrorReason::RoomExists) => Ok(()),
            Err(error) => Err(anyhow::Error::from(error)),
        }
    })
    .await
}

/// Asks again and again how far a room has come: never less far than was acknowledged before the question.
async fn read(client: Client, book: Shelf, mut stop: watch::Receiver<bool>) -> Result<()> {
    let name = lock(&book).room().to_owned();
    let mut turns = tokio::time::interval(READ_EVERY);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = turns.tick() => {}
        }
        let known = lock(&book).highest_revision();
        let question = client.get_room(GetRoomRequest { name: name.clone(), ..Default::default() });
        if let Ok(Ok(answer)) = tokio::time::timeout(READ_WITHIN, question).await {
            lock(&book).note_read(known, answer.revision);
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
