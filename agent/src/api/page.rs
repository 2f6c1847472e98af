//! The agent's page: what an operator sees at `/` in a browser on this machine.
//!
//! It only reads, and only the views that programs read, too. All of it is in the binary, and
//! nothing is fetched from elsewhere: the policy that is sent along lets the browser run no script
//! and ask no host but this agent's own. `page/vendor/` is other people's, see `NOTICE.md` there.

use axum::{
	Router,
	extract::Request,
	http::{
		HeaderMap, HeaderName, HeaderValue,
		header::{
			CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
			X_CONTENT_TYPE_OPTIONS,
		},
	},
	middleware::Next,
	response::{IntoResponse, Response},
	routing::get,
};

/// What the browser may do with the page: run the agent's own scripts, apply its own style, ask its
/// own views.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
	connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Keeps other pages from taking an answer in as a script or an image.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The files: path, type, content.
const FILES: [(&str, &str, &str); 10] = [
	("/", "text/html; charset=utf-8", include_str!("page/index.html")),
	("/page/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
	("/page/page.js", SCRIPT, include_str!("page/page.js")),
	("/page/format.js", SCRIPT, include_str!("page/format.js")),
	("/page/tables.js", SCRIPT, include_str!("page/tables.js")),
	("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
	("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
	("/page/uplot.js", SCRIPT, include_str!("page/vendor/uPlot.iife.min.js")),
	(
		"/page/uplot-licence.txt",
		"text/plain; charset=utf-8",
		include_str!("page/vendor/LICENSE-uPlot"),
	),
	("/page/uplot.css", "text/css; charset=utf-8", include_str!("page/vendor/uPlot.min.css")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The routes of the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
	FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
		router.route(path, get(move || async move { answer(kind, content) }))
	})
}

fn answer(kind: &'static str, content: &'static str) -> Response {
	([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
}

/// Sends along with all views what a browser may do with them.
pub(super) async fn restrain(request: Request, next: Next) -> Response {
	let mut response = next.run(request).await;
	let headers: &mut HeaderMap = response.headers_mut();
	for (name, value) in [
		(CONTENT_SECURITY_POLICY, POLICY),
		(X_CONTENT_TYPE_OPTIONS, "nosniff"),
		(REFERRER_POLICY, "no-referrer"),
		(RESOURCE_POLICY, "same-origin"),
	] {
		headers.insert(name, HeaderValue::from_static(value));
	}
	response
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Most bytes of everything together.
	const BYTES_MAX: usize = 200_000;

	#[test]
	fn the_page_is_small_and_asks_for_nothing_from_elsewhere() {
		let bytes: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
		assert!(bytes < BYTES_MAX, "{bytes} bytes");
		for (path, _, content) in FILES.iter().filter(|(path, ..)| !path.contains("uplot")) {
			// The name of the SVG namespace is no address that is asked.
			let content = content.replace("http://www.w3.org/2000/svg", "");
			assert!(!content.contains("http:") && !content.contains("https:"), "{path}");
			for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
			{
				assert!(!content.contains(sink), "{path} uses {sink}");
			}
		}
	}

	#[test]
	fn every_file_that_the_page_names_is_served() {
		let (_, _, html) = FILES[0];
		let named = html.split('"').filter(|text| text.starts_with("/page/"));
		let named: Vec<&str> = named.collect();
		assert!(named.len() >= 4, "{named:?}");
		for path in named {
			assert!(FILES.iter().any(|(served, ..)| *served == path), "{path}");
		}
		assert!(
			!html.contains("<script>") && !html.contains("style=") && !html.contains("onclick")
		);
	}

	/// What is other people's is what they published.
	#[test]
	fn the_library_is_the_one_that_the_notice_names() {
		use sha2::{Digest, Sha256};
		let notice = include_str!("page/vendor/NOTICE.md");
		let vendored = FILES.iter().filter(|(path, ..)| path.starts_with("/page/uplot."));
		let missing: Vec<_> = vendored
			.filter(|(.., content)| !notice.contains(&hex::encode(Sha256::digest(content))))
			.map(|(path, ..)| path)
			.collect();
		assert!(missing.is_empty(), "{missing:?}");
	}
}
