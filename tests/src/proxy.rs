//! A TCP proxy that misbehaves on request.

use crate::engine::Engine;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up = 0,
    /// From the server to the client.
    Down = 1,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    delay: [Duration; 2],
    /// Bytes per second.
    rate: [Option<u64>; 2],
    stalled: [bool; 2],
    /// Bytes that may still pass before every connection is cut.
    budget: [Option<u64>; 2],
    refused: bool,
    /// Whether new connections are refused once a budget is spent.
    refuse_then: bool,
    /// Counts the cuts; a connection ends when it sees the number change.
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<Faults>,
    passed: Mutex<[u64; 2]>,
    turns: Mutex<Turns>,
    accepted: Mutex<u64>,
}

/// How often the server has answered.
#[derive(Debug, Default)]
struct Turns {
    asked: bool,
    count: u64,
}

/// A proxy in front of one address. It runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FaultProxy {
    /// Listens on a loopback port and passes connections on to `target`.
    ///
    /// # Panics
    /// When the machine has no port or thread left.
    pub fn start(target: SocketAddr) -> Self {
        Self::launch(target, None)
    }

    /// As [`FaultProxy::start`], on the loopback of an engine's network namespace, where its registries are. Only
    /// root may enter it.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or it has no port left.
    pub fn beside(engine: &Engine, port: u16) -> Self {
        let pid = engine.pid().expect("the engine's process id");
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("the engine's namespace");
        Self::launch(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Some(namespace))
    }

    fn launch(target: SocketAddr, namespace: Option<std::fs::File>) -> Self {
        let shared = Arc::new(Shared {
            faults: watch::Sender::new(Faults::default()),
            passed: Mutex::default(),
            turns: Mutex::default(),
            accepted: Mutex::default(),
        });
        let (end, ended) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let inner = Arc::clone(&shared);
        // Namespaces belong to threads: only this one moves, and its sockets stay where they were made.
        let thread = std::thread::spawn(move || {
            if let Some(namespace) = namespace {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network).expect("the engine's namespace");
            }
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
            listener.set_nonblocking(true).expect("non-blocking listener");
            let address = listener.local_addr().expect("address of the proxy");
            tell.send(address).expect("somebody who waits for the address");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, target, inner) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address: told.recv().expect("address of the proxy"),
            shared,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// The port to connect to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds every byte of a direction back for `delay`; half a round trip each makes a round trip.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change(|faults| faults.delay[direction as usize] = delay);
    }

    /// Lets at most that many bytes per second pass on each connection.
    pub fn rate(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.change(|faults| faults.rate[direction as usize] = bytes_per_second);
    }

    /// Stops (or resumes) passing bytes while connections stay up: a black hole.
    pub fn stall(&self, stalled: bool) {
        self.change(|faults| faults.stalled = [stalled; 2]);
    }

    /// Stalls one direction only.
    pub fn stall_one(&self, direction: Direction, stalled: bool) {
        self.change(|faults| faults.stalled[direction as usize] = stalled);
    }

    /// Cuts every connection once `bytes` more have passed in a direction.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.change(|faults| faults.budget[direction as usize] = Some(bytes));
    }

    /// As [`FaultProxy::cut_after`], and refuses new connections from then on.
    pub fn end_after(&self, direction: Direction, bytes: u64) {
        self.change(|faults| {
            faults.budget[direction as usize] = Some(bytes);
            faults.refuse_then = true;
        });
    }

    /// Cuts every connection now, with a reset.
    pub fn cut(&self) {
        self.change(|faults| faults.cuts += 1);
    }

    /// Refuses (or accepts again) new connections: they are reset at once.
    pub fn refuse(&self, refused: bool) {
        self.change(|faults| faults.refused = refused);
    }

    /// Bytes that passed in a direction, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        lock(&self.shared.passed)[direction as usize]
    }

    /// How often the server has said something after the client had, over all connections: with a delay, about the
    /// round trips that one conversation took.
    pub fn turns(&self) -> u64 {
        lock(&self.shared.turns).count
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        *lock(&self.shared.accepted)
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Turns {
    fn note(&mut self, direction: Direction) {
        self.count += u64::from(self.asked && direction == Direction::Down);
        self.asked = direction == Direction::Up;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let _ = client.set_nodelay(true);
        if shared.faults.borrow().refused {
            reset(&client);
            continue;
        }
        *lock(&shared.accepted) += 1;
        tokio::spawn(connection(client, target, Arc::clone(&shared)));
    }
}

/// Makes the close of a socket a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

async fn connection(mut client: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    let mut faults = shared.faults.subscribe();
    let cuts = faults.borrow().cuts;
    let Ok(mut server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    let _ = server.set_nodelay(true);
    let cut = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let both = async {
            let up = pass(client_read, server_write, Direction::Up, &shared);
            let down = pass(server_read, client_write, Direction::Down, &shared);
            tokio::join!(up, down)
        };
        tokio::select! {
            _ = both => false,
            _ = faults.wait_for(|faults| faults.cuts != cuts) => true,
        }
    };
    if cut {
        reset(&client);
        reset(&server);
    }
}

/// Passes one direction: a reader stamps each piece with the moment it is due, a writer keeps to it.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, direction: Direction, shared: &Shared) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let reader = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + shared.faults.borrow().delay[direction as usize];
            if sender.send((due, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let writer = async {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if !write(&mut to, &piece, direction, shared).await {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reader, writer);
}

/// Writes a piece under the present faults; `false` when the connection is over.
async fn write(to: &mut WriteHalf<'_>, piece: &[u8], direction: Direction, shared: &Shared) -> bool {
    let way = direction as usize;
    let mut faults = shared.faults.subscribe();
    if faults.wait_for(|faults| !faults.stalled[way]).await.is_err() {
        return false;
    }
    let (allowed, rate) = {
        let faults = shared.faults.borrow();
        let allowed = faults.budget[way].map_or(piece.len(), |budget| piece.len().min(budget as usize));
        (allowed, faults.rate[way])
    };
    if to.write_all(&piece[..allowed]).await.is_err() {
        return false;
    }
    lock(&shared.passed)[way] += allowed as u64;
    lock(&shared.turns).note(direction);
    let spent = spend(shared, way, allowed as u64);
    if let Some(rate) = rate {
        tokio::time::sleep(Duration::from_secs_f64(allowed as f64 / rate.max(1) as f64)).await;
    }
    allowed == piece.len() && !spent
}

/// Takes bytes off the budget; `true` when that was its end, and with it the end of every connection.
fn spend(shared: &Shared, way: usize, bytes: u64) -> bool {
    let mut spent = false;
    shared.faults.send_if_modified(|faults| {
        let Some(budget) = faults.budget[way].as_mut() else {
            return false;
        };
        *budget = budget.saturating_sub(bytes);
        if *budget == 0 {
            faults.budget[way] = None;
            faults.refused |= std::mem::take(&mut faults.refuse_then);
            faults.cuts += 1;
            spent = true;
        }
        true
    });
    spent
}

#[cfg(test)]
mod tests;
