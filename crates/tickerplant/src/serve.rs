//! `serve`: a feed and a gateway in one process.
//!
//! **Invariant:** the feed is opened and the address bound before the start-up lines are printed; who reads them can
//! connect.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use gateway::{Gateway, GatewayError, Outcome};

use crate::exit::Failure;
use crate::plan::Plan;
use crate::settings::LogFormat;
use crate::stop;

/// Serves until it is stopped.
pub(crate) fn serve(plan: Plan) -> Result<(), Failure> {
    let Plan { gateway, source, log, log_format } = plan;
    let logs = tracing_subscriber::fmt().with_env_filter(log).with_writer(io::stderr);
    match log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    let stop = stop::listen().context("cannot listen for signals")?;
    let feed = source.open()?;
    let gateway = Gateway::bind(gateway).map_err(failure)?;
    // A closed standard output is no reason not to serve.
    let _ = print_where_to_look(gateway.local_addr());
    match gateway.run(feed, stop).map_err(failure)? {
        Outcome::Stopped => Ok(()),
        Outcome::FeedFailed(error) => Err(Failure::FeedFailed(error)),
    }
}

fn failure(error: GatewayError) -> Failure {
    match error {
        GatewayError::Bind { .. } => Failure::Listen(error),
        GatewayError::Origin(origin) => Failure::Setting(format!("allow_origin: {origin}")),
        other => Failure::Other(other.into()),
    }
}

fn print_where_to_look(address: SocketAddr) -> io::Result<()> {
    let here = reachable(address);
    let mut out = io::stdout().lock();
    writeln!(out, "tickerplant {} listening on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  dashboard  http://{here}/")?;
    writeln!(out, "  websocket  ws://{here}/ws")?;
    writeln!(out, "  metrics    http://{here}/metrics")?;
    out.flush()
}

/// An address that a browser on this machine can use when the server listens on all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_this_machine() {
        for (address, link) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(reachable(address).to_string(), link);
        }
    }
}
