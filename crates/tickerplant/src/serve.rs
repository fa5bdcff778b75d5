//! `serve`: a feed and a gateway in one process; `record`: a feed and a recorder.
//!
//! **Invariant:** the feed is opened and the address bound before the start-up lines are printed; who reads them can
//! connect.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use gateway::{AuthConfig, Gateway, GatewayError, Outcome};

use crate::cli::Loaded;
use crate::exit::Failure;
use crate::logs::Logs;
use crate::plan::Plan;
use crate::reload::Reloader;
use crate::stop;

/// Records without serving, until the feed has ended or it is stopped.
pub(crate) fn record(plan: Plan) -> Result<(), Failure> {
    let Plan { gateway, source, log, log_format, otlp_endpoint: _ } = plan;
    if gateway.record.is_none() {
        return Err(Failure::Setting("record: it is not said where to: --out FILE or FOLDER".into()));
    }
    Logs::begin(log, log_format, None).context("cannot write logs")?;
    let stop = stop::listen().context("cannot listen for signals")?;
    let feed = source.open()?;
    match gateway::record(gateway, feed, stop).map_err(failure)? {
        Outcome::Stopped => Ok(()),
        Outcome::FeedFailed(error) => Err(Failure::FeedFailed(error)),
    }
}

/// Serves until it is stopped.
pub(crate) fn serve(plan: Plan, loaded: &Loaded) -> Result<(), Failure> {
    let Plan { gateway, source, log, log_format, otlp_endpoint } = plan;
    // Held to the end, when what is left of them is sent.
    let (logs, _traces) = Logs::begin(log, log_format, otlp_endpoint.as_deref()).context("cannot write logs")?;
    let stop = stop::listen().context("cannot listen for signals")?;
    let feed = source.open()?;
    let (listen, everybody) = (gateway.listen, matches!(gateway.auth, AuthConfig::Off));
    let schemes = if gateway.tls.is_some() { SECURE } else { PLAIN };
    let gateway = Gateway::bind(gateway).map_err(failure)?;
    let mut reloader = Reloader::new(loaded, gateway.control(), logs);
    stop::on_hangup(move || reloader.again()).context("cannot listen for signals")?;
    if everybody && !listen.ip().is_loopback() {
        tracing::warn!(address = %listen, "authentication is off: everybody who reaches this address is served");
    } else if everybody {
        tracing::info!("authentication is off");
    } else {
        tracing::info!("clients must authenticate");
    }
    // A closed standard output is no reason not to serve.
    let _ = print_where_to_look(schemes, gateway.local_addr(), gateway.admin_addr());
    match gateway.run(feed, stop).map_err(failure)? {
        Outcome::Stopped => Ok(()),
        Outcome::FeedFailed(error) => Err(Failure::FeedFailed(error)),
    }
}

fn failure(error: GatewayError) -> Failure {
    match error {
        GatewayError::Bind { .. } | GatewayError::Record { .. } => Failure::Listen(error),
        GatewayError::Auth { .. } | GatewayError::Tls { .. } => Failure::Setting(error.to_string()),
        GatewayError::Origin(origin) => Failure::Setting(format!("allow_origin: {origin}")),
        other => Failure::Other(other.into()),
    }
}

/// How addresses begin: of HTTP, of WebSocket.
type Schemes = [&'static str; 2];
const PLAIN: Schemes = ["http", "ws"];
const SECURE: Schemes = ["https", "wss"];

fn print_where_to_look([http, ws]: Schemes, address: SocketAddr, admin: Option<SocketAddr>) -> io::Result<()> {
    let here = reachable(address);
    let mut out = io::stdout().lock();
    writeln!(out, "tickerplant {} listening on {http}://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  dashboard  {http}://{here}/")?;
    writeln!(out, "  websocket  {ws}://{here}/ws")?;
    writeln!(out, "  metrics    {http}://{here}/metrics")?;
    if let Some(admin) = admin {
        writeln!(out, "  admin      http://{admin}/admin")?;
    }
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
