//! Authentication of plain HTTP: a guard in front of routes, and what a handler asks of its caller.
//!
//! **Invariant:** behind the guard every request has a [`Caller`]. A secret in the URL is refused wherever it stands,
//! whether or not it is good, and whether or not authentication is on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{StatusCode, Uri};
use hub::{AuthRefusal, Grant};
use market::{Channel, ChannelSet};
use wire::{ErrorCode, Mode};

use super::Presented;
use crate::metrics as names;
use crate::rest::error;
use crate::state::Shared;
use crate::upgrade::Peer;

/// Who a request of plain HTTP comes from.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Presented);

impl Caller {
    fn grant(&self) -> Option<&Arc<Grant>> {
        match &self.0 {
            Presented::Good(grant) => Some(grant),
            Presented::NotNeeded | Presented::Nothing => None,
        }
    }

    /// Whether it may know of the symbol.
    pub(crate) fn allows(&self, symbol: &str) -> bool {
        self.grant().is_none_or(|grant| grant.entitlements.symbols.allows(symbol))
    }

    /// Whether it may have elements of the channel.
    pub(crate) fn allows_channel(&self, channel: Channel) -> bool {
        self.grant().is_none_or(|grant| grant.entitlements.channels.contains(channel))
    }

    /// The answer to a request for a delivery that it is not entitled to; none when it is.
    pub(crate) fn refuse_mode(&self, channels: ChannelSet, mode: Mode) -> Option<Response> {
        let refusal = self.grant()?.entitlements.refusal(channels, mode)?;
        let message = format!("not entitled: {refusal}");
        Some(error(StatusCode::FORBIDDEN, ErrorCode::NotEntitled, &message, &[]))
    }

    /// The answer to a request for what it is not entitled to; none when it is.
    pub(crate) fn refuse(&self, symbols: &[&str], channels: ChannelSet) -> Option<Response> {
        let entitlements = &self.grant()?.entitlements;
        // A snapshot has no mode; the one that is allowed is asked for.
        let modes = [Mode::Every, Mode::Latest { interval_ms: u32::MAX }];
        let refusals = modes.map(|mode| entitlements.refusal(channels, mode));
        if let [Some(refusal), Some(_)] = &refusals {
            let message = format!("not entitled: {refusal}");
            return Some(error(StatusCode::FORBIDDEN, ErrorCode::NotEntitled, &message, &[]));
        }
        let denied: Vec<&str> = symbols.iter().copied().filter(|symbol| !self.allows(symbol)).collect();
        if denied.is_empty() {
            return None;
        }
        let message = format!("{} of the symbols: not entitled; entitled are {}", denied.len(), entitlements.symbols);
        Some(error(StatusCode::FORBIDDEN, ErrorCode::NotEntitled, &message, &denied))
    }
}

/// The middleware in front of all that needs authentication.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(ip)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(refusal) = secret_in_url(&shared, request.uri()) {
        return refusal;
    }
    let presented = shared.auth.of_headers(request.headers(), ip, &shared.admission, shared.clock.now());
    match presented {
        Ok(Presented::Nothing) => {
            shared.metrics.reason(names::AUTH_REFUSED, "missing").increment(1);
            let message = "authenticate with the header Authorization: Bearer and an API key or a JWT";
            challenge(error(StatusCode::UNAUTHORIZED, ErrorCode::AuthRequired, message, &[]))
        }
        Ok(presented) => {
            request.extensions_mut().insert(Caller(presented));
            next.run(request).await
        }
        Err(refusal) => refuse(&shared, &refusal),
    }
}

/// The answer to a request whose URL has a secret in it; none when it has not.
pub(crate) fn secret_in_url(shared: &Shared, uri: &Uri) -> Option<Response> {
    let name = ::auth::secret_in_query(uri.query()?)?;
    shared.metrics.reason(names::AUTH_REFUSED, "in_url").increment(1);
    let name: String = name.chars().take(32).collect();
    let message = format!(
        "a token in the URL (as {name:?}) is refused, as URLs end up in logs: send it in the header Authorization, or by \
         the command auth"
    );
    Some(error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, &message, &[]))
}

/// The answer to a request that presents what is not good.
pub(crate) fn refuse(shared: &Shared, refusal: &AuthRefusal) -> Response {
    let (status, code, text) = match refusal {
        AuthRefusal::Failed(text) => (StatusCode::UNAUTHORIZED, ErrorCode::AuthFailed, text),
        AuthRefusal::TooManyAttempts(text) | AuthRefusal::TooManyConnections(text) => {
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, text)
        }
    };
    count(shared, refusal);
    let mut response = error(status, code, text, &[]);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        return response;
    }
    challenge(response)
}

/// Counts a limit that somebody has come up against. A token that is not good is counted where it is looked at.
pub(crate) fn count(shared: &Shared, refusal: &AuthRefusal) {
    let reason = match refusal {
        AuthRefusal::Failed(_) => return,
        AuthRefusal::TooManyAttempts(_) => "auth_failures_per_ip_per_min",
        AuthRefusal::TooManyConnections(_) => "connections_per_key",
    };
    shared.metrics.reason(names::AUTH_REFUSED, reason).increment(1);
}

/// RFC 6750, section 3.
fn challenge(mut response: Response) -> Response {
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tickerplant\""));
    response
}

/// Where a handler that takes a [`Caller`] stands behind no guard, nobody gets through.
impl<S: Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut http::request::Parts, _state: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, Body::from("no guard\n")).into_response())
    }
}
