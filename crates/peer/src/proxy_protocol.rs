//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection before its first byte.
//!
//! **Invariant:** a header is read to its end and not a byte further, whatever follows it; what is not exactly one is an
//! error. At most [`HEADER_BYTES_MAX`] are asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest header: 16 bytes, addresses, and what a proxy adds about its TLS. Longer ones are refused.
pub const HEADER_BYTES_MAX: usize = 2048;
/// The longest of version 1, by its definition.
const LINE_BYTES_MAX: usize = 107;
/// `PROXY UNKNOWN` and the end of the line.
const LINE_BYTES_MIN: usize = 15;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has at least so many bytes in all.
    NeedsBytes(usize),
    /// It is complete.
    Complete(Said),
}

/// What the proxy has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The connection is a client's with that address.
    Client(IpAddr),
    /// The connection is the proxy's own, such as to see whether the server is there, or it does not know whose.
    Own,
}

/// What is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It begins otherwise.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    NoHeader,
    /// A line of version 1 that is not as it should be.
    #[error("the line is not PROXY TCP4|TCP6 with two addresses and two ports, or PROXY UNKNOWN")]
    Line,
    /// The byte of version and command.
    #[error("version and command are {0:#04x}, not 0x20 or 0x21")]
    Command(u8),
    /// The byte of family and transport.
    #[error("family and transport are {0:#04x}, which is no connection of TCP")]
    Family(u8),
    /// The length that version 2 gives.
    #[error("the length is {0}, which is too short for the addresses or longer than any header")]
    Length(u16),
}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// [`Malformed`] as soon as no byte that may follow would make a header of them.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins_like = |begin: &[u8]| bytes.iter().zip(begin).all(|(byte, other)| byte == other);
    if bytes.is_empty() {
        // No header of either version is shorter.
        Ok(Progress::NeedsBytes(SIGNATURE.len()))
    } else if begins_like(SIGNATURE) {
        version_2(bytes)
    } else if begins_like(b"PROXY ") {
        version_1(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

fn version_1(bytes: &[u8]) -> Result<Progress, Malformed> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        // The end of the line is two bytes, of which one may be there.
        let missing = if line.last() == Some(&b'\r') { 1 } else { 2 };
        let needed = (line.len() + missing).max(LINE_BYTES_MIN);
        return if needed > LINE_BYTES_MAX { Err(Malformed::Line) } else { Ok(Progress::NeedsBytes(needed)) };
    };
    let line = line[..end].strip_suffix(b"\r").filter(|_| end + 1 == bytes.len()).ok_or(Malformed::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "TCP4", source, destination, from, to] => {
            let source: Ipv4Addr = source.parse().map_err(|_| Malformed::Line)?;
            destination.parse::<Ipv4Addr>().map_err(|_| Malformed::Line)?;
            said(source.into(), [from, to])
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let source: Ipv6Addr = source.parse().map_err(|_| Malformed::Line)?;
            destination.parse::<Ipv6Addr>().map_err(|_| Malformed::Line)?;
            said(source.into(), [from, to])
        }
        // What follows is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Ok(Progress::Complete(Said::Own)),
        _ => Err(Malformed::Line),
    }
}

fn said(source: IpAddr, ports: [&str; 2]) -> Result<Progress, Malformed> {
    // A number as it prints: no sign, no zeros before it.
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    if !ports.into_iter().all(is_port) {
        return Err(Malformed::Line);
    }
    Ok(Progress::Complete(Said::Client(source.to_canonical())))
}

fn version_2(bytes: &[u8]) -> Result<Progress, Malformed> {
    let command = match bytes.get(12) {
        None => return Ok(Progress::NeedsBytes(FIXED_BYTES)),
        Some(command @ (0x20 | 0x21)) => *command,
        Some(command) => return Err(Malformed::Command(*command)),
    };
    let [family, high, low] = match bytes.get(13..FIXED_BYTES) {
        Some([family, high, low]) => [*family, *high, *low],
        _ => return Ok(Progress::NeedsBytes(FIXED_BYTES)),
    };
    let length = u16::from_be_bytes([high, low]);
    let total = FIXED_BYTES + usize::from(length);
    let addresses = match (command, family) {
        // What it says of addresses is to be ignored.
        (0x20, _) | (_, 0x00 | 0x31) => 0,
        (_, 0x11) => 12,
        (_, 0x21) => 36,
        _ => return Err(Malformed::Family(family)),
    };
    if length < addresses || total > HEADER_BYTES_MAX {
        return Err(Malformed::Length(length));
    }
    if bytes.len() < total {
        return Ok(Progress::NeedsBytes(total));
    }
    if bytes.len() > total {
        return Err(Malformed::Length(length));
    }
    let source = &bytes[FIXED_BYTES..];
    let said = match addresses {
        12 => source.first_chunk::<4>().map(|ip| Said::Client(Ipv4Addr::from(*ip).into())),
        36 => source.first_chunk::<16>().map(|ip| Said::Client(IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical())),
        _ => None,
    };
    Ok(Progress::Complete(said.unwrap_or(Said::Own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a connection is read: no more bytes than were asked for.
    fn read(stream: &[u8]) -> (Result<Option<Said>, Malformed>, usize) {
        let mut have = 0;
        loop {
            match parse(&stream[..have]) {
                Ok(Progress::Complete(said)) => return (Ok(Some(said)), have),
                Ok(Progress::NeedsBytes(needed)) => {
                    assert!(needed > have && needed <= HEADER_BYTES_MAX, "{needed} after {have}");
                    if needed > stream.len() {
                        return (Ok(None), have);
                    }
                    have = needed;
                }
                Err(error) => return (Err(error), have),
            }
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn client(ip: &str) -> Said {
        Said::Client(ip.parse().unwrap())
    }

    #[test]
    fn lines_of_version_1() {
        let check = |line: &str, want: Result<Said, Malformed>| {
            let stream = format!("{line}GET / HTTP/1.1\r\n\r\n");
            let (got, used) = read(stream.as_bytes());
            assert_eq!(got, want.map(Some), "{line:?}");
            assert!(got.is_err() || used == line.len(), "{line:?}");
        };
        check("PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", Ok(client("192.0.2.7")));
        check("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", Ok(client("2001:db8::1")));
        check("PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 443\r\n", Ok(client("192.0.2.7")));
        check("PROXY UNKNOWN\r\n", Ok(Said::Own));
        check("PROXY UNKNOWN whatever it says\r\n", Ok(Said::Own));
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4711 65536\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 04711 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +4711 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 4711 443\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 4711 443\r\n",
        ] {
            check(line, Err(Malformed::Line));
        }
        check(&format!("PROXY UNKNOWN{}\r\n", " ".repeat(100)), Err(Malformed::Line));
        check("GET / HTTP/1.1\r\n", Err(Malformed::NoHeader));
        check("proxy TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", Err(Malformed::NoHeader));
    }

    #[test]
    fn headers_of_version_2() {
        let check = |header: &[u8], want: Result<Said, Malformed>| {
            let mut stream = header.to_vec();
            stream.extend(b"\x16\x03\x01");
            let (got, used) = read(&stream);
            assert_eq!(got, want.map(Some), "{header:?}");
            assert!(got.is_err() || used == header.len(), "{header:?}");
        };
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        check(&v2(0x21, 0x11, &four), Ok(client("192.0.2.7")));
        check(&v2(0x21, 0x21, &six), Ok(client("2001:db8::1")));
        let with_more = [&four[..], &[4, 0, 2, 1, 1]].concat();
        check(&v2(0x21, 0x11, &with_more), Ok(client("192.0.2.7")));
        check(&v2(0x20, 0x00, &[]), Ok(Said::Own));
        check(&v2(0x20, 0x11, &four), Ok(Said::Own));
        check(&v2(0x21, 0x00, &[1, 2, 3]), Ok(Said::Own));
        check(&v2(0x22, 0x11, &four), Err(Malformed::Command(0x22)));
        check(&v2(0x11, 0x11, &four), Err(Malformed::Command(0x11)));
        check(&v2(0x21, 0x12, &four), Err(Malformed::Family(0x12)));
        check(&v2(0x21, 0x11, &four[..11]), Err(Malformed::Length(11)));
        check(&v2(0x21, 0x11, &[0; HEADER_BYTES_MAX]), Err(Malformed::Length(HEADER_BYTES_MAX as u16)));
    }

    proptest! {
        #[test]
        fn what_was_asked_for_is_enough_whatever_follows(
            ip in any::<u32>(),
            ports in any::<[u16; 2]>(),
            rest in prop::collection::vec(any::<u8>(), 0..40),
            version_2 in any::<bool>(),
        ) {
            let ip = Ipv4Addr::from(ip);
            let header = if version_2 {
                let mut body = ip.octets().to_vec();
                body.extend([0; 8]);
                v2(0x21, 0x11, &body)
            } else {
                format!("PROXY TCP4 {ip} 10.0.0.1 {} {}\r\n", ports[0], ports[1]).into_bytes()
            };
            let stream = [&header[..], &rest].concat();
            prop_assert_eq!(read(&stream), (Ok(Some(Said::Client(ip.into()))), header.len()));
        }

        #[test]
        fn anything_is_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), begin in 0..3) {
            let begin: &[u8] = match begin { 0 => b"", 1 => b"PROXY ", _ => SIGNATURE };
            let _ = read(&[begin, &bytes].concat());
        }
    }
}
