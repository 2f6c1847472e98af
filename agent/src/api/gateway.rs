//! A trustless gateway: blocks by CID, for any IPFS client that is pointed at it.
//!
//! See <https://specs.ipfs.tech/http-gateways/trustless-gateway/>: raw blocks and CARs, `GET` and
//! `HEAD`, and the probe for the empty identity block. Blocks are sealed, so whoever fetches
//! them learns sizes and shapes, not content. Even that is kept from strangers: beyond this machine
//! only those are served who are known to the chain, see [`access`].

pub(crate) mod access;
pub(crate) mod car;
pub(crate) mod connections;

use super::Api;
use crate::repositories::{BlockSource, RepositoryError};
use axum::{
	extract::{Path, Query, State},
	http::{HeaderMap, HeaderName, StatusCode, header},
	response::{IntoResponse, Response},
};
use backup_primitives::Cid;
use std::collections::HashMap;

const RAW_BLOCK: &str = "application/vnd.ipld.raw";

/// The empty block under an identity CID, which clients ask for to see if a gateway is one.
const PROBE: &str = "bafkqaaa";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
	/// One block.
	Raw,
	/// Blocks in a CAR.
	Car,
}

/// The handler of `GET /ipfs/{cid}`; axum serves `HEAD` from it too.
pub(super) async fn block(
	State(api): State<Api>,
	Path(name): Path<String>,
	Query(query): Query<HashMap<String, String>>,
	headers: HeaderMap,
) -> Response {
	let Some(format) = format(&query, &headers) else {
		return refuse(StatusCode::BAD_REQUEST, "ask for ?format=raw or ?format=car");
	};
	if name == PROBE && format == Format::Raw {
		return found(&name, Vec::new());
	}
	let Ok(cid) = name.parse::<Cid>() else {
		return refuse(StatusCode::BAD_REQUEST, "this is no CID of a sealed block");
	};
	let Some(store) = api.store.clone() else {
		return refuse(StatusCode::NOT_FOUND, "there is no such block here");
	};
	let reading = store.clone();
	match tokio::task::spawn_blocking(move || reading.get(&cid)).await {
		Ok(Ok(Some(bytes))) => match format {
			Format::Raw => found(&name, bytes),
			Format::Car => match car::Scope::of(&query) {
				Some(scope) => api.cars.stream(store, cid, bytes, scope),
				None => refuse(StatusCode::BAD_REQUEST, "dag-scope is block, entity or all"),
			},
		},
		Ok(Ok(None)) => match only_if_cached(&headers) {
			true => refuse(StatusCode::PRECONDITION_FAILED, "there is no such block here"),
			false => refuse(StatusCode::NOT_FOUND, "there is no such block here"),
		},
		Ok(Err(RepositoryError::Corrupt { .. })) => {
			tracing::error!(%cid, "a stored block is damaged");
			refuse(StatusCode::INTERNAL_SERVER_ERROR, "the block is damaged")
		}
		Ok(Err(_)) | Err(_) => {
			refuse(StatusCode::INTERNAL_SERVER_ERROR, "the block cannot be read now")
		}
	}
}

/// `format=` wins over `Accept`.
fn format(query: &HashMap<String, String>, headers: &HeaderMap) -> Option<Format> {
	match query.get("format").map(String::as_str) {
		Some("raw") => Some(Format::Raw),
		Some("car") => Some(Format::Car),
		Some(_) => None,
		None => {
			let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
			accept.split(',').find_map(|kind| {
				let kind = kind.split(';').next().unwrap_or_default().trim();
				match kind {
					RAW_BLOCK => Some(Format::Raw),
					car::MEDIA_TYPE => Some(Format::Car),
					_ => None,
				}
			})
		}
	}
}

fn only_if_cached(headers: &HeaderMap) -> bool {
	headers
		.get(header::CACHE_CONTROL)
		.and_then(|value| value.to_str().ok())
		.is_some_and(|control| control.contains("only-if-cached"))
}

fn found(name: &str, block: Vec<u8>) -> Response {
	let etag = format!("\"{name}.raw\"");
	(immutable(RAW_BLOCK.to_owned(), name, &format!("{name}.bin"), etag), block).into_response()
}

/// The headers of an answer that never changes.
fn immutable(kind: String, name: &str, file: &str, etag: String) -> [(HeaderName, String); 7] {
	[
		(header::CONTENT_TYPE, kind),
		(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
		(header::ETAG, etag),
		(header::CACHE_CONTROL, "public, max-age=29030400, immutable".to_owned()),
		(header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
		(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
		(HeaderName::from_static("x-ipfs-path"), format!("/ipfs/{name}")),
	]
}

fn refuse(status: StatusCode, words: &'static str) -> Response {
	(status, format!("{words}\n")).into_response()
}
