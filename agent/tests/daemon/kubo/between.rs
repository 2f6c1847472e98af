//! Who stands between an agent and its daemon, and can keep a request from it.

use std::{
	io::{self, BufRead, BufReader, Read, Write},
	net::{Shutdown, TcpListener, TcpStream},
	sync::{
		Arc, Mutex,
		mpsc::{Receiver, Sender, channel},
	},
	thread,
};

/// Passes on what it is sent, one request to a connection.
pub(super) struct Between {
	pub(super) url: String,
	/// Heads of requests that were kept.
	pub(super) kept: Receiver<String>,
	/// What a request begins with that is kept.
	verb: Arc<Mutex<Option<&'static str>>>,
}

impl Between {
	/// To a daemon, keeping this from it.
	pub(super) fn start(daemon: &str, verb: &'static str) -> Self {
		let listener = TcpListener::bind("127.0.0.1:0").unwrap();
		let url = format!("http://{}", listener.local_addr().unwrap());
		let daemon = daemon.trim_start_matches("http://").trim_end_matches('/').to_owned();
		let (tell, kept) = channel();
		let verb = Arc::new(Mutex::new(Some(verb)));
		let of_all = verb.clone();
		thread::spawn(move || {
			for stream in listener.incoming() {
				let (daemon, tell, verb) = (daemon.clone(), tell.clone(), of_all.clone());
				// Whichever of the two has gone, the other learns of it.
				thread::spawn(move || pass_on(stream?, &daemon, &tell, &verb));
			}
		});
		Self { url, kept, verb }
	}

	/// Keep nothing any more.
	pub(super) fn let_all_pass(&self) {
		*self.verb.lock().unwrap() = None;
	}
}

fn pass_on(
	agent: TcpStream,
	daemon: &str,
	tell: &Sender<String>,
	verb: &Mutex<Option<&'static str>>,
) -> io::Result<()> {
	let mut input = BufReader::new(agent.try_clone()?);
	let mut head = String::new();
	while !head.ends_with("\r\n\r\n") {
		if input.read_line(&mut head)? == 0 {
			return Ok(());
		}
	}
	if verb.lock().unwrap().is_some_and(|verb| head.starts_with(&format!("POST /api/v0/{verb}?"))) {
		let _ = tell.send(head);
		// Until the agent is gone.
		return io::copy(&mut input, &mut io::sink()).map(drop);
	}
	let mut daemon = TcpStream::connect(daemon)?;
	let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
	daemon.write_all(head.as_bytes())?;
	let mut to = daemon.try_clone()?;
	thread::spawn(move || {
		let mut piece = [0; 1 << 16];
		while let Ok(count @ 1..) = input.read(&mut piece) {
			if to.write_all(&piece[..count]).is_err() {
				break;
			}
		}
		let _ = to.shutdown(Shutdown::Both);
	});
	let mut agent = agent;
	io::copy(&mut daemon, &mut agent)?;
	agent.shutdown(Shutdown::Both)
}
