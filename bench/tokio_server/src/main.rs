//! The receiver of "500K pps with tokio" for tokio 1.x, to be compared with: one task receives and parses, a channel of
//! 100 hands over, another task counts. Two differences: it prints each second instead of each million, and it ends on
//! a datagram that cannot be parsed with a word instead of a panic.
//!
//! `tokio-server ADDR:PORT` prints `received N handled N` once a second until it is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// What the clients send; bytes behind it are left unread, as bincode leaves them.
#[derive(Deserialize)]
struct MovementUpdate {
    id: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:31234".to_owned());
    let socket = UdpSocket::bind(&address).await?;
    let (tx, rx) = mpsc::channel::<MovementUpdate>(100);
    let (received, handled) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    tokio::spawn(report(Arc::clone(&received), Arc::clone(&handled)));
    let handler = tokio::spawn(handle(rx, handled));
    receive(socket, tx, received).await?;
    handler.await?;
    Ok(())
}

async fn receive(
    socket: UdpSocket,
    tx: mpsc::Sender<MovementUpdate>,
    received: Arc<AtomicU64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut buf = [0; 512];
    loop {
        socket.recv_from(&mut buf).await?;
        let update = bincode::deserialize(&buf[..])?;
        received.fetch_add(1, Ordering::Relaxed);
        tx.send(update).await?;
    }
}

async fn handle(mut rx: mpsc::Receiver<MovementUpdate>, handled: Arc<AtomicU64>) {
    while let Some(update) = rx.recv().await {
        std::hint::black_box(update.id);
        handled.fetch_add(1, Ordering::Relaxed);
    }
}

async fn report(received: Arc<AtomicU64>, handled: Arc<AtomicU64>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        println!("received {} handled {}", received.load(Ordering::Relaxed), handled.load(Ordering::Relaxed));
    }
}
