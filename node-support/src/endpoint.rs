//! Where the agent is: the check of its address, and its place in the node's storage.

use crate::args::Agent;
use backup_primitives::auth::{AgentEndpoint, ENDPOINT_STORAGE_KEY, URL_BYTES_MAX};
use codec::Encode;
use sp_core::offchain::{OffchainStorage, STORAGE_PREFIX};
use url::{Host, Url};
use zeroize::{Zeroize, Zeroizing};

/// Which machines the agent may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
	/// This machine.
	Loopback,
	/// Any machine.
	Anywhere,
}

/// Scheme, host and port of an agent, without a slash at the end: the worker appends paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentUrl(String);

/// Why an address is not one of an agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
	/// It is not a URL at all.
	#[error("{url} is not a URL; give one such as http://127.0.0.1:9955")]
	Malformed {
		/// What was given.
		url: String,
		/// What is wrong with it.
		#[source]
		source: url::ParseError,
	},
	/// The scheme is not `http`, or `https` for an agent elsewhere.
	#[error("the scheme {scheme} is not supported; give http")]
	Scheme {
		/// What was given.
		scheme: String,
	},
	/// There is a path, a query, a fragment, a user or a password.
	#[error("{url} has more than a scheme, a host and a port; give one such as {expected}")]
	Excess {
		/// What was given, without a password.
		url: String,
		/// What would be right.
		expected: String,
	},
	/// The agent would be on another machine, and this was not allowed.
	#[error(
		"{host} is not this machine; use 127.0.0.1, [::1] or localhost, or give \
		 --backup-agent-allow-remote"
	)]
	NotLoopback {
		/// The host that was given.
		host: String,
	},
	/// The address is longer than the worker accepts.
	#[error("the address has {bytes} bytes, at most {URL_BYTES_MAX} are allowed")]
	TooLong {
		/// Its length.
		bytes: usize,
	},
}

impl AgentUrl {
	/// Checks `text` and brings it into the form that the worker expects.
	pub(crate) fn parse(text: &str, reach: Reach) -> Result<Self, UrlError> {
		if text.len() > URL_BYTES_MAX {
			return Err(UrlError::TooLong { bytes: text.len() });
		}
		let url = Url::parse(text)
			.map_err(|source| UrlError::Malformed { url: text.to_owned(), source })?;
		let secure_elsewhere = reach == Reach::Anywhere && url.scheme() == "https";
		if url.scheme() != "http" && !secure_elsewhere {
			return Err(UrlError::Scheme { scheme: url.scheme().to_owned() });
		}
		let base = url.origin().ascii_serialization();
		if base != url.as_str().trim_end_matches('/') {
			return Err(excess(url, base));
		}
		if reach == Reach::Loopback && !is_loopback(&url) {
			return Err(UrlError::NotLoopback { host: url.host_str().unwrap_or_default().into() });
		}
		Ok(Self(base))
	}

	pub(crate) fn as_str(&self) -> &str {
		&self.0
	}
}

fn excess(mut url: Url, expected: String) -> UrlError {
	if url.password().is_some() {
		// Fails only for URLs without a host, and those have no password either.
		let _ = url.set_password(Some("***"));
	}
	UrlError::Excess { url: url.into(), expected }
}

fn is_loopback(url: &Url) -> bool {
	match url.host() {
		Some(Host::Ipv4(address)) => address.is_loopback(),
		Some(Host::Ipv6(address)) => address.is_loopback(),
		Some(Host::Domain(name)) => name == "localhost",
		None => false,
	}
}

/// Writes down where the agent is, for the worker to read in every block.
pub(crate) fn store(storage: &mut impl OffchainStorage, agent: &Agent) {
	let mut endpoint = AgentEndpoint {
		url: agent.url.as_str().as_bytes().to_vec(),
		secret: *agent.secret.expose(),
	};
	storage.set(STORAGE_PREFIX, ENDPOINT_STORAGE_KEY, &Zeroizing::new(endpoint.encode()));
	endpoint.secret.zeroize();
}

/// Forgets the agent, so that the worker is idle.
pub(crate) fn clear(storage: &mut impl OffchainStorage) {
	storage.remove(STORAGE_PREFIX, ENDPOINT_STORAGE_KEY);
}

#[cfg(test)]
mod tests {
	use super::*;

	fn check(text: &str, reach: Reach) -> Result<String, String> {
		AgentUrl::parse(text, reach).map(|url| url.0).map_err(|error| error.to_string())
	}

	#[test]
	fn loopback_addresses_are_accepted_without_their_slash() {
		let cases = [
			("http://127.0.0.1:9955", "http://127.0.0.1:9955"),
			("http://127.0.0.1:9955/", "http://127.0.0.1:9955"),
			("http://127.8.9.10:1", "http://127.8.9.10:1"),
			("http://[::1]:9955", "http://[::1]:9955"),
			("http://localhost:9955", "http://localhost:9955"),
			("HTTP://LOCALHOST:9955", "http://localhost:9955"),
			("http://127.0.0.1", "http://127.0.0.1"),
		];
		for (text, expected) in cases {
			assert_eq!(check(text, Reach::Loopback).unwrap(), expected);
		}
	}

	#[test]
	fn fails_on_other_machines() {
		for text in [
			"http://192.168.0.1:9955",
			"http://0.0.0.0:9955",
			"http://example.org",
			"http://localhost.example.org",
			"http://127.0.0.1.example.org",
			"http://[::2]:9955",
			"http://[::ffff:10.0.0.1]:9955",
		] {
			let error = check(text, Reach::Loopback).unwrap_err();
			assert!(error.contains("--backup-agent-allow-remote"), "{text}: {error}");
			assert!(check(text, Reach::Anywhere).is_ok(), "{text}");
		}
	}

	#[test]
	fn https_is_for_other_machines_only() {
		let error = check("https://127.0.0.1:9955", Reach::Loopback).unwrap_err();
		assert_eq!(error, "the scheme https is not supported; give http");
		assert!(check("https://agent.example.org", Reach::Anywhere).is_ok());
		for text in ["file:///etc/passwd", "unix:/run/agent", "ftp://127.0.0.1"] {
			assert!(check(text, Reach::Anywhere).unwrap_err().contains("scheme"), "{text}");
		}
	}

	#[test]
	fn fails_on_more_than_scheme_host_and_port() {
		for text in [
			"http://127.0.0.1:9955/v1",
			"http://127.0.0.1:9955/?a=b",
			"http://127.0.0.1:9955/#a",
			"http://127.0.0.1@example.org",
			"http://user@127.0.0.1:9955",
		] {
			let error = check(text, Reach::Anywhere).unwrap_err();
			assert!(error.contains("more than a scheme"), "{text}: {error}");
		}
	}

	#[test]
	fn a_password_is_not_repeated() {
		let error = check("http://user:hunter2@127.0.0.1:9955", Reach::Loopback).unwrap_err();
		assert!(!error.contains("hunter2"), "{error}");
	}

	#[test]
	fn boundary_length() {
		let host = |bytes: usize| format!("http://{}", "a".repeat(bytes - "http://".len()));
		assert!(check(&host(URL_BYTES_MAX), Reach::Anywhere).is_ok());
		assert_eq!(
			check(&host(URL_BYTES_MAX + 1), Reach::Anywhere).unwrap_err(),
			"the address has 257 bytes, at most 256 are allowed"
		);
	}

	#[test]
	fn fails_on_what_is_no_url() {
		for text in ["", "127.0.0.1:9955", "localhost:9955", "http://", "http://:9955"] {
			assert!(check(text, Reach::Loopback).is_err(), "{text}");
		}
	}
}
