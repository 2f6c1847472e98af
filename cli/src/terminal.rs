//! What a person at the terminal is asked. Who waits for an answer can be interrupted: the terminal
//! shows again what is typed, and nobody waits for the line that is not coming.

use crate::{error::CliError, progress::Quiet};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
	io::{self, BufRead, IsTerminal, Write, stderr, stdin},
	thread,
};
use tokio::sync::oneshot;

/// Whether there is somebody to ask.
pub(crate) fn has_person() -> bool {
	stdin().is_terminal()
}

/// Ask for a line.
pub(crate) async fn ask(question: &str) -> Result<String, CliError> {
	let _quiet = Quiet::keep();
	let failed = |source| CliError::Question { source };
	// Questions go where answers do not.
	write!(stderr(), "{question}").and_then(|()| stderr().flush()).map_err(failed)?;
	read_line().await.map_err(failed)
}

/// Ask for so many words, on as many lines as they take. It ends early where nothing more comes.
pub(crate) async fn ask_lines(question: &str, words: usize) -> Result<String, CliError> {
	let mut text = String::new();
	let mut question = question;
	while text.split_whitespace().count() < words {
		let line = ask(question).await?;
		if line.trim().is_empty() {
			break;
		}
		text.push_str(&line);
		question = "";
	}
	Ok(text)
}

/// Ask for a secret, which is not shown as it is typed.
pub(crate) async fn ask_secret(question: &str) -> Result<String, CliError> {
	if !has_person() {
		return Err(CliError::NoSigner);
	}
	let failed = |source| CliError::Question { source };
	let _silence = Silence::begin().map_err(failed)?;
	Ok(ask(question).await?.trim().to_owned())
}

/// The next line of standard input. It is read in a thread of its own that nobody waits for: a line
/// that does not come would else keep the command from ending.
async fn read_line() -> io::Result<String> {
	let (sender, receiver) = oneshot::channel();
	thread::spawn(move || {
		let mut line = String::new();
		let read = stdin().lock().read_line(&mut line).map(|_| line);
		// Whoever asked may have gone.
		let _ = sender.send(read);
	});
	receiver.await.map_err(io::Error::other)?
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
	before: Termios,
}

impl Silence {
	fn begin() -> io::Result<Self> {
		let before = tcgetattr(stdin())?;
		let mut silent = before.clone();
		silent.local_modes.remove(LocalModes::ECHO);
		tcsetattr(stdin(), OptionalActions::Flush, &silent)?;
		Ok(Self { before })
	}
}

impl Drop for Silence {
	fn drop(&mut self) {
		// There is nothing else to try.
		let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
		// The end of the line was not shown either.
		let _ = writeln!(stderr());
	}
}
