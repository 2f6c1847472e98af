//! Keeps web pages out of what people on this machine may read.
//!
//! A browser here can be led to the agent under a foreign name that points to 127.0.0.1, and
//! would then show the answer to a foreign page. Such a request names the foreign host.

use axum::{
	extract::Request,
	http::{HeaderMap, StatusCode, header},
	middleware::Next,
	response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// Refuses requests that do not name this machine as their host.
pub(super) async fn require_local_host(request: Request, next: Next) -> Response {
	match is_local(request.headers()) {
		true => next.run(request).await,
		false => {
			(StatusCode::FORBIDDEN, "the host must be localhost or 127.0.0.1\n").into_response()
		}
	}
}

fn is_local(headers: &HeaderMap) -> bool {
	let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
		return false;
	};
	let name = match host.rsplit_once(':') {
		Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
		Some(_) | None => host,
	};
	let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
	name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
	use super::*;

	fn is_local_host(host: &str) -> bool {
		is_local(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]))
	}

	#[test]
	fn only_this_machine_s_names_are_local() {
		for host in ["127.0.0.1:9955", "localhost", "LOCALHOST:1", "[::1]:9955", "127.0.0.9"] {
			assert!(is_local_host(host), "{host}");
		}
		for host in ["evil.example", "127.0.0.1.evil.example:9955", "10.0.0.1", "", ":9955"] {
			assert!(!is_local_host(host), "{host}");
		}
		assert!(!is_local(&HeaderMap::new()));
	}
}
