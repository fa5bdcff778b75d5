//! `GET /ws`: from an HTTP request to a socket in a shard.
//!
//! **Invariant:** every refusal happens before the 101, has a body that says why, and is counted by reason. After the 101
//! the socket leaves this thread's reactor; nothing of HTTP stays allocated for a session.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{StatusCode, Version};
use hub::{Access, AuthRefusal};
use hyper::upgrade::Upgraded;
use websocket::deflate::{self, Params};
use websocket::handshake::{self, HttpVersion, Refusal};
use websocket::origin::OriginList;
use wire::Dialect;

use crate::admission::Permit;
use crate::auth::{self, Holding, secret_in_url};
use crate::metrics as names;
use crate::shard::NewSession;
use crate::state::{Phase, Shared};
use crate::tls::Carrier;

/// The client's address, put into each request by the accept loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Which pages may connect.
#[derive(Debug, Clone)]
pub(crate) enum OriginPolicy {
    /// All
    Any,
    /// Those that this server served itself: the origin's host is the request's
    SameHost,
    /// Those of a list
    Listed(OriginList),
}

/// What `/ws` needs.
#[derive(Debug, Clone)]
pub(crate) struct UpgradeState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origins: Arc<OriginPolicy>,
}

/// Seconds after which a refused client may try again; the answer is short because places free up all the time.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");
/// The same while draining or overloaded: by then the process is gone or has less to do, or, behind a balancer, another one
/// answers.
const RETRY_AFTER_DRAIN_S: HeaderValue = HeaderValue::from_static("5");

/// Answers an upgrade request.
pub(crate) async fn upgrade(
    State(state): State<UpgradeState>,
    Extension(Peer(ip)): Extension<Peer>,
    mut request: Request,
) -> Response {
    let shared = state.shared;
    if let Some(refusal) = secret_in_url(&shared, request.uri()) {
        shared.metrics.reason(names::UPGRADES_REFUSED, "token_in_url").increment(1);
        return refusal;
    }
    let mut accepted = match judge(&request, &state.origins) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            shared.metrics.reason(names::UPGRADES_REFUSED, refusal.label).increment(1);
            return refuse(&refusal);
        }
    };
    let permit = match admit(&shared, ip) {
        Ok(permit) => permit,
        Err(response) => return response,
    };
    let (access, holding) = match identify(&shared, &request, ip) {
        Ok(identified) => identified,
        Err(refusal) => {
            shared.metrics.reason(names::UPGRADES_REFUSED, "auth").increment(1);
            return auth::refuse(&shared, &refusal);
        }
    };
    if shared.config.deflate.is_some() {
        accepted.deflate = negotiate(&request);
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let dialect = accepted.dialect;
    let deflate = accepted.deflate.as_ref().map(|(params, _)| *params);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => hand_over(&shared, upgraded, |carrier, early| NewSession {
                carrier,
                early,
                dialect,
                deflate,
                permit,
                access,
                holding,
            }),
            // The client went away while the 101 was written; the permit is dropped.
            Err(error) => tracing::debug!(%error, "the upgrade was not completed"),
        }
    });
    accepted.response()
}

/// A hand-shake that is accepted.
#[derive(Debug)]
struct Accepted {
    accept: String,
    dialect: Dialect,
    /// What was agreed of permessage-deflate, and the header's value that says so.
    deflate: Option<(Params, String)>,
    /// Whether the client offered subprotocols; one that was not offered must not be answered.
    offered: Offered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offered {
    Nothing,
    Subprotocols,
}

impl Accepted {
    fn response(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.offered == Offered::Subprotocols {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.dialect.subprotocol()));
        }
        let extensions = self.deflate.as_ref().map(|(_, answer)| HeaderValue::from_str(answer));
        if let Some(Ok(answer)) = extensions {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, answer);
        }
        response
    }
}

/// The client's messages are small, so that they refer to earlier ones is declined: one inflater then serves a shard.
fn negotiate(request: &Request) -> Option<(Params, String)> {
    let offers = request.headers().get_all(SEC_WEBSOCKET_EXTENSIONS);
    deflate::negotiate(offers.iter().map(HeaderValue::as_bytes), deflate::Policy::default())
}

fn judge(request: &Request, origins: &OriginPolicy) -> Result<Accepted, Refusal> {
    let version = if request.version() == Version::HTTP_11 { HttpVersion::Http11 } else { HttpVersion::Other };
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let checked = handshake::check(request.method().as_str(), version, headers)?;
    match origins {
        OriginPolicy::Any => {}
        OriginPolicy::Listed(list) => list.check(checked.origin)?,
        OriginPolicy::SameHost => own_origins(request).check(checked.origin)?,
    }
    let known = Dialect::ALL.map(Dialect::subprotocol);
    let offered = if checked.subprotocols.is_empty() { Offered::Nothing } else { Offered::Subprotocols };
    let dialect = match offered {
        Offered::Nothing => dialect_of_query(request.uri().query().unwrap_or_default()),
        Offered::Subprotocols => handshake::select_subprotocol(&checked.subprotocols, &known)
            .and_then(Dialect::from_subprotocol)
            .ok_or_else(|| Refusal::unknown_subprotocol(&known))?,
    };
    Ok(Accepted { accept: checked.accept, dialect, deflate: None, offered })
}

/// The origins of pages that came from where the request goes.
fn own_origins(request: &Request) -> OriginList {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = ["http", "https"].map(|scheme| format!("{scheme}://{host}"));
    // A host that is no host allows no origin.
    OriginList::parse(own).unwrap_or_default()
}

fn dialect_of_query(query: &str) -> Dialect {
    if query.split('&').any(|pair| pair == "format=json") { Dialect::NativeJson } else { Dialect::NativeMessagePack }
}

#[allow(clippy::result_large_err, reason = "a response is what the caller returns either way")]
fn admit(shared: &Shared, ip: IpAddr) -> Result<Permit, Response> {
    if shared.phase() == Phase::Draining {
        shared.metrics.reason(names::UPGRADES_REFUSED, "draining").increment(1);
        let body = "the server is draining, connect again\n";
        return Err((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_DRAIN_S)], body).into_response());
    }
    if let Some(overloaded) = shared.overload.now() {
        shared.metrics.reason(names::UPGRADES_REFUSED, overloaded.label()).increment(1);
        let body = format!("{overloaded}\n");
        return Err((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_DRAIN_S)], body).into_response());
    }
    shared.admission.admit(ip, shared.clock.now().monotonic).map_err(|refused| {
        shared.metrics.reason(names::UPGRADES_REFUSED, refused.label()).increment(1);
        (refused.status(), [(RETRY_AFTER, RETRY_AFTER_S)], format!("{refused}\n")).into_response()
    })
}

/// Who the client is, as far as it says so in its request, and its place among the connections of its key.
fn identify(shared: &Shared, request: &Request, ip: IpAddr) -> Result<(Access, Option<Holding>), AuthRefusal> {
    let presented = shared.auth.of_headers(request.headers(), ip, &shared.admission, shared.clock.now())?;
    let access = presented.access();
    let holding = match &access {
        Access::Granted(grant) => Some(shared.auth.holders.connect(grant).map_err(AuthRefusal::TooManyConnections)?),
        Access::Open | Access::Required => None,
    };
    Ok((access, holding))
}

fn refuse(refusal: &Refusal) -> Response {
    let mut response = Response::new(Body::from(format!("{}\n", refusal.message)));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in &refusal.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Takes the socket out of HTTP and gives it to the shard with the fewest sessions.
fn hand_over(shared: &Shared, upgraded: Upgraded, session: impl FnOnce(Carrier, Vec<u8>) -> NewSession) {
    let Some((carrier, early)) = Carrier::of(upgraded) else { return };
    let fewest = shared.shards.iter().min_by_key(|shard| shard.load());
    if let Some(shard) = fewest {
        shard.hand_over(session(carrier, early));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().uri("/ws?format=json");
        let given = [
            ("host", "desk.example:8080"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in given.iter().chain(headers) {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_subprotocol_decides_before_the_query() {
        let check = |offered: Option<&str>, want: Result<(Dialect, Offered), u16>| {
            let headers: Vec<_> = offered.map(|value| ("sec-websocket-protocol", value)).into_iter().collect();
            let got = judge(&request(&headers), &OriginPolicy::Any);
            let got = got.map(|a| (a.dialect, a.offered)).map_err(|refusal| refusal.status);
            assert_eq!(got, want, "{offered:?}");
        };
        check(None, Ok((Dialect::NativeJson, Offered::Nothing)));
        check(Some("ticker.v1.msgpack"), Ok((Dialect::NativeMessagePack, Offered::Subprotocols)));
        check(Some("other, ticker.v1.json"), Ok((Dialect::NativeJson, Offered::Subprotocols)));
        check(Some("ticker.v9"), Err(400));
    }

    #[test]
    fn pages_of_other_hosts_are_refused() {
        let check = |policy: &OriginPolicy, origin: &str, want: Result<(), u16>| {
            let got = judge(&request(&[("origin", origin)]), policy).map(|_| ()).map_err(|refusal| refusal.status);
            assert_eq!(got, want, "{origin}");
        };
        check(&OriginPolicy::Any, "https://evil.example", Ok(()));
        check(&OriginPolicy::SameHost, "http://desk.example:8080", Ok(()));
        check(&OriginPolicy::SameHost, "https://desk.example:8080", Ok(()));
        check(&OriginPolicy::SameHost, "http://evil.example:8080", Err(403));
        check(&OriginPolicy::SameHost, "null", Err(403));
        let listed = OriginPolicy::Listed(OriginList::parse(["https://desk.example"]).unwrap());
        check(&listed, "https://desk.example", Ok(()));
        check(&listed, "http://desk.example:8080", Err(403));
        assert!(judge(&request(&[]), &listed).is_ok(), "bots send no origin");
    }
}
