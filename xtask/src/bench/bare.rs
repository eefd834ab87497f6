//! The least that a broker can do with what it is sent: one thread reads frames from a socket and writes them to a file.
//!
//! Its CPU time for each GB is what the brokers' figures are held against: nobody who takes bytes from a socket and puts them
//! into a file can do with less.

use super::folder;
use crate::Outcome;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::thread;

/// Names for `--only`, what stands in the table, and the frame's bytes.
pub(super) const ROWS: [(&str, &str, usize); 3] = [
    ("bare-16K", "frames of 16 KiB", 16 << 10),
    ("bare-128K", "frames of 128 KiB", 128 << 10),
    ("bare-1M", "frames of 1 MiB", 1 << 20),
];

/// CPU seconds of the receiving thread for each GB.
pub(super) fn seconds_per_gb(frame_bytes: usize, quick: bool) -> Outcome<f64> {
    let total: u64 = if quick { 500_000_000 } else { 4_000_000_000 };
    let frames = total / frame_bytes as u64;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    let path = folder().join("bare");
    let file = File::create(&path)?;
    let received = thread::spawn(move || receive(receiver, &file, frames));
    let mut frame = vec![b'w'; 4 + frame_bytes];
    frame[..4].copy_from_slice(&u32::try_from(frame_bytes)?.to_be_bytes());
    for _ in 0..frames {
        sender.write_all(&frame)?;
    }
    let seconds = received.join().map_err(|_| "the receiving thread died")??;
    fs::remove_file(path)?;
    Ok(seconds / (frames as f64 * frame_bytes as f64 / 1e9))
}

fn receive(mut socket: TcpStream, file: &File, frames: u64) -> std::io::Result<f64> {
    let mut buffer = Vec::new();
    let mut position = 0;
    let began = cpu_seconds();
    for _ in 0..frames {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        buffer.resize(u32::from_be_bytes(length) as usize, 0);
        socket.read_exact(&mut buffer)?;
        file.write_all_at(&buffer, position)?;
        position += buffer.len() as u64;
    }
    Ok(cpu_seconds() - began)
}

/// Of this thread, user and system.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
