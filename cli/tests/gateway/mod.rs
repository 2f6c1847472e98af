//! A gateway with the blocks of a store that falls silent.

use backup_agent::repositories::{BlockSource, EmbeddedStore};
use std::{
	io::{BufRead, BufReader, Write},
	net::{TcpListener, TcpStream},
	sync::{
		Arc,
		atomic::{AtomicUsize, Ordering},
		mpsc::{Receiver, channel},
	},
	thread,
};

/// A gateway on a port of its own.
pub(crate) struct Gateway {
	pub(crate) url: String,
	/// Told each time that somebody asks and gets no answer.
	pub(crate) stalled: Receiver<()>,
	/// How often it was asked.
	pub(crate) asked: Arc<AtomicUsize>,
}

impl Gateway {
	/// One that gives so many blocks and then says nothing more.
	pub(crate) fn giving(blocks: usize, store: Arc<EmbeddedStore>) -> Self {
		let listener = TcpListener::bind("127.0.0.1:0").unwrap();
		let url = format!("http://{}", listener.local_addr().unwrap());
		let (stalls, stalled) = channel();
		let asked = Arc::new(AtomicUsize::new(0));
		let counted = Arc::clone(&asked);
		thread::spawn(move || {
			let mut open = Vec::new();
			for stream in listener.incoming() {
				let mut stream = stream.unwrap();
				if counted.fetch_add(1, Ordering::Relaxed) < blocks {
					give(&store, &mut stream);
				} else {
					// Kept, and never answered. The test may have seen enough.
					open.push(stream);
					let _ = stalls.send(());
				}
			}
		});
		Self { url, stalled, asked }
	}
}

fn give(store: &EmbeddedStore, stream: &mut TcpStream) {
	let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
	let request = lines.next().unwrap().unwrap();
	while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
	let cid = request.split(['/', '?']).nth(2).unwrap();
	let block = store.get(&cid.parse().unwrap()).unwrap().unwrap();
	let head =
		format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", block.len());
	stream.write_all(head.as_bytes()).unwrap();
	stream.write_all(&block).unwrap();
}
