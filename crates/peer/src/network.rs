//! Networks in CIDR notation.
//!
//! **Invariant:** an IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) belongs where the IPv4 address does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// What stands before the slash is no address.
    #[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Address(String),
    /// What stands behind it is no length.
    #[error("the length in {text:?} is not a number from 0 to {max}")]
    Length {
        /// The whole text
        text: String,
        /// The longest prefix of the kind of address
        max: u8,
    },
    /// The address goes on where the network ends.
    #[error("{text:?} has bits behind its length; the network is {network}")]
    HostBits {
        /// The whole text
        text: String,
        /// What was probably meant
        network: Network,
    },
}

impl Network {
    /// Whether the address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        masked(ip.to_canonical(), self.prefix_bits) == Some(self.address)
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Address(text.to_owned()))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = |length: &str| length.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = match length {
            None => max,
            Some(length) => length
                .parse()
                .ok()
                .filter(|bits| digits(length) && *bits <= max)
                .ok_or_else(|| InvalidNetwork::Length { text: text.to_owned(), max })?,
        };
        // An IPv4 address in the clothes of IPv6 is asked for by its own name.
        let address = if length.is_none() { address.to_canonical() } else { address };
        let prefix_bits = if length.is_none() && address.is_ipv4() { 32 } else { prefix_bits };
        let network = masked(address, prefix_bits).map(|address| Self { address, prefix_bits });
        match network {
            Some(network) if network.address == address => Ok(network),
            Some(network) => Err(InvalidNetwork::HostBits { text: text.to_owned(), network }),
            None => Err(InvalidNetwork::Length { text: text.to_owned(), max }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// The first bits of an address; none when it has fewer.
fn masked(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.into())?).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_contain_what_begins_like_them() {
        let check = |network: &str, ip: &str, want: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(ip.parse().unwrap()), want, "{network} {ip}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "192.0.2.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "192.0.2.1", false);
        // More bits than an IPv4 address has must not make a match of the rest.
        check("2001:db8::1", "192.0.2.1", false);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, want: &str| {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        };
        check("desk", "neither an address nor a network");
        check("10.0.0.0/33", "from 0 to 32");
        check("10.0.0.0/+8", "from 0 to 32");
        check("10.0.0.0/", "from 0 to 32");
        check("::/129", "from 0 to 128");
        check("10.0.0.1/8", "the network is 10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn a_network_is_what_it_prints(bits in any::<u32>(), length in 0..=32_u8, ip in any::<u32>()) {
            let address = masked(IpAddr::V4(bits.into()), length).unwrap();
            let network = Network { address, prefix_bits: length };
            prop_assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
            let same = (0..length).all(|bit| (bits ^ ip) & (1 << (31 - bit)) == 0);
            prop_assert_eq!(network.contains(IpAddr::V4(ip.into())), same);
        }
    }
}
