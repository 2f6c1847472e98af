//! Which addresses this node connects to when others name them.
//!
//! Whoever registers a node names its address, so a fetch could be led to whatever this machine
//! reaches and strangers do not: a router, a cloud's metadata, the agent's own interface. Only
//! public addresses are asked, and those of networks that the operator allows. A name is looked up
//! once, and the connection goes to the very address that was judged.

use ipnet::IpNet;
use reqwest::{
	Url,
	dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
	net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
	sync::Arc,
};

/// Addresses that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
	/// Public ones, and those of some networks.
	PublicAnd {
		/// The networks.
		networks: Arc<[IpNet]>,
		/// What the user of this program can do about an address that is none of them.
		advice: Option<&'static str>,
	},
	/// All. For addresses that the user names.
	All,
}

/// Why a gateway is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
	/// The address is no URL.
	#[error("it is no URL: {0}")]
	Malformed(String),
	/// Something else than HTTP.
	#[error("it is neither http nor https")]
	Scheme,
	/// The URL has more than a host, a port and a path.
	#[error("it has a user, a query or a fragment")]
	Decorated,
	/// An address that is not connected to.
	#[error("{address} is not public{}", advice.map_or(String::new(), |words| format!("; {words}")))]
	NotAllowed {
		/// The address.
		address: IpAddr,
		/// What the user of this program can do about it.
		advice: Option<&'static str>,
	},
}

impl Reach {
	/// Public addresses, and those of these networks.
	pub fn public_and(networks: impl IntoIterator<Item = IpNet>) -> Self {
		Self::PublicAnd { networks: networks.into_iter().collect(), advice: None }
	}

	/// The same, with what is said to the user of this program where an address is refused.
	pub fn advising(self, words: &'static str) -> Self {
		match self {
			Self::PublicAnd { networks, .. } => Self::PublicAnd { networks, advice: Some(words) },
			Self::All => Self::All,
		}
	}

	/// Whether an address may be connected to.
	pub fn allows(&self, address: IpAddr) -> bool {
		match self {
			Self::All => true,
			Self::PublicAnd { networks, .. } => {
				let address = address.to_canonical();
				is_public(address) || networks.iter().any(|network| network.contains(&address))
			}
		}
	}

	fn refusal(&self, address: IpAddr) -> AddressError {
		let advice = match self {
			Self::PublicAnd { advice, .. } => *advice,
			Self::All => None,
		};
		AddressError::NotAllowed { address, advice }
	}

	/// A gateway's address, without a slash at its end, if it is one and may be connected to. A name
	/// is judged when it is looked up.
	pub(crate) fn check(&self, url: &str) -> Result<String, AddressError> {
		let parsed = Url::parse(url).map_err(|error| AddressError::Malformed(error.to_string()))?;
		if !matches!(parsed.scheme(), "http" | "https") {
			return Err(AddressError::Scheme);
		}
		let is_decorated = !parsed.username().is_empty()
			|| parsed.password().is_some()
			|| parsed.query().is_some()
			|| parsed.fragment().is_some();
		if is_decorated {
			return Err(AddressError::Decorated);
		}
		let host = parsed.host_str().unwrap_or_default();
		let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
		match literal {
			Ok(address) if !self.allows(address) => Err(self.refusal(address)),
			_ => Ok(parsed.as_str().trim_end_matches('/').to_owned()),
		}
	}
}

impl Resolve for Reach {
	fn resolve(&self, name: Name) -> Resolving {
		let reach = self.clone();
		Box::pin(async move {
			let found: Vec<SocketAddr> =
				tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
			let refused = found.first().copied();
			let allowed: Vec<SocketAddr> =
				found.into_iter().filter(|address| reach.allows(address.ip())).collect();
			match (allowed.is_empty(), refused) {
				(true, Some(address)) => Err(reach.refusal(address.ip()).into()),
				_ => Ok(Box::new(allowed.into_iter()) as Addrs),
			}
		})
	}
}

/// Whether an address is one of the public internet, by the registries of special purposes:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry/> and the one for IPv6.
fn is_public(address: IpAddr) -> bool {
	match address {
		IpAddr::V4(address) => is_public_v4(address),
		IpAddr::V6(address) => is_public_v6(address),
	}
}

fn is_public_v4(address: Ipv4Addr) -> bool {
	let [a, b, c, _] = address.octets();
	let is_special = matches!(
		(a, b, c),
		(0 | 10 | 127, _, _)
			| (100, 64..=127, _)
			| (169, 254, _)
			| (172, 16..=31, _)
			| (192, 0, 0 | 2)
			| (192, 88, 99)
			| (192, 168, _)
			| (198, 18 | 19, _)
			| (198, 51, 100)
			| (203, 0, 113)
			| (224..=255, _, _)
	);
	!is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
	match address.segments() {
		// What routers translate to IPv4.
		[0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
			is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
		}
		// Teredo and its neighbours, documentation, 6to4.
		[0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002 | 0x3fff, ..] => false,
		// All that is given out as public so far.
		[first, ..] => first & 0xe000 == 0x2000,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn public() -> Reach {
		Reach::public_and([])
	}

	#[test]
	fn public_addresses_are_allowed() {
		for text in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
			assert!(public().allows(text.parse().unwrap()), "{text}");
		}
	}

	#[test]
	fn addresses_that_strangers_do_not_reach_are_not() {
		for text in [
			"127.0.0.1",
			"10.1.2.3",
			"172.16.0.1",
			"172.31.255.255",
			"192.168.1.1",
			"169.254.169.254",
			"100.64.0.1",
			"0.0.0.0",
			"255.255.255.255",
			"224.0.0.1",
			"::1",
			"::",
			"::ffff:127.0.0.1",
			"64:ff9b::7f00:1",
			"fe80::1",
			"fd00::1",
			"ff02::1",
			"2001:db8::1",
			"2002:7f00:1::",
		] {
			assert!(!public().allows(text.parse().unwrap()), "{text}");
		}
	}

	#[test]
	fn a_network_that_the_operator_allows_is_reached() {
		let reach = Reach::public_and(["10.0.0.0/8".parse().unwrap()]);
		assert!(reach.allows("10.9.9.9".parse().unwrap()));
		assert!(reach.allows("::ffff:10.9.9.9".parse().unwrap()));
		assert!(!reach.allows("127.0.0.1".parse().unwrap()));
	}

	#[test]
	fn a_url_that_names_a_forbidden_address_is_refused_at_once() {
		for url in
			["http://127.0.0.1:9955", "http://[::1]/", "http://0x7f000001", "http://2130706433"]
		{
			let refused = public().check(url).unwrap_err();
			assert!(matches!(refused, AddressError::NotAllowed { .. }), "{url}: {refused}");
		}
	}

	#[test]
	fn who_is_refused_hears_what_this_program_advises() {
		let words = |reach: &Reach| reach.check("http://10.0.0.1").unwrap_err().to_string();
		assert_eq!(words(&public()), "10.0.0.1 is not public");
		assert_eq!(
			words(&public().advising("ask your operator")),
			"10.0.0.1 is not public; ask your operator"
		);
	}

	#[test]
	fn what_is_no_address_of_a_gateway_is_refused() {
		for url in ["", "node-1", "localhost:80", "ftp://node-1", "http://a@node-1", "http://n/?a"]
		{
			assert!(public().check(url).is_err(), "{url}");
		}
	}

	#[test]
	fn a_slash_at_the_end_makes_no_difference() {
		assert_eq!(public().check("http://node-1:80/blocks/").unwrap(), "http://node-1/blocks");
		assert_eq!(public().check("https://node-1").unwrap(), "https://node-1");
	}

	#[tokio::test]
	async fn a_name_that_leads_to_a_forbidden_address_is_refused() {
		let name = || "localhost".parse::<Name>().unwrap();
		assert!(public().resolve(name()).await.is_err());
		assert!(Reach::All.resolve(name()).await.unwrap().next().is_some());
	}
}
