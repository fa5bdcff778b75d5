//! The few plain HTTP requests of a run: the server's symbols and its metrics.
//!
//! **Invariant:** a request has a time limit and a size limit; a server that has no such thing makes it absent.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::tls::{Stream, Tls};
use crate::upgrade::Target;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A list of 10,000 instruments has about 2 MB.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Fetches `path` from the server at `address`.
///
/// # Errors
/// No answer, or another one than 200.
pub(crate) fn get(address: SocketAddr, tls: Option<&Tls>, authority: &str, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut stream = Stream::new(stream, tls)?;
    // HTTP/1.0 keeps the answer in one piece and ends it with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the server answered {status:?} to GET {path}");
    }
    Ok(body.to_owned())
}

#[derive(Deserialize)]
struct Instruments {
    instruments: Vec<Instrument>,
}

#[derive(Deserialize)]
struct Instrument {
    symbol: String,
}

/// The symbols of a native server.
///
/// # Errors
/// It does not list them.
pub(crate) fn symbols(address: SocketAddr, tls: Option<&Tls>, target: &Target) -> anyhow::Result<Vec<String>> {
    let body = get(address, tls, &target.authority, "/api/v1/instruments")?;
    let list: Instruments = serde_json::from_str(&body)?;
    Ok(list.instruments.into_iter().map(|instrument| instrument.symbol).collect())
}

/// The metrics of a server, by name and labels; buckets of histograms are left out.
///
/// # Errors
/// It has none.
pub(crate) fn metrics(
    address: SocketAddr,
    tls: Option<&Tls>,
    target: &Target,
) -> anyhow::Result<BTreeMap<String, f64>> {
    Ok(parse_metrics(&get(address, tls, &target.authority, &target.path)?))
}

fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs
        .filter(|(name, _)| !name.contains("_bucket{"))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP a b\na_total 5\n\nb{reason=\"x y\"} 1.5\nc_bucket{le=\"1\"} 7\n";
        let want = [("a_total".to_owned(), 5.0), ("b{reason=\"x y\"}".to_owned(), 1.5)];
        assert_eq!(parse_metrics(text), want.into_iter().collect());
    }
}
