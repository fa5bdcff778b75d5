//! What holds for all of plain HTTP: who may read it from a page, what is compressed, what need not be sent again; and the
//! document that describes it.
//!
//! **Invariant:** pages of other origins may read exactly what they may connect to by WebSocket.
//!
//! What is *not* here: what is answered, which is `rest`, `history` and `stream`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderName, Method, StatusCode};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate as _, SizeAbove};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::upgrade::OriginPolicy;

/// How long a browser may remember what it was allowed.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);
/// What fits into one packet gains nothing by being smaller.
const COMPRESSED_FROM_BYTES: u64 = 1024;

/// The description of all calls.
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    // One build has one document.
    (headers, [(ETAG, concat!("W/\"", env!("CARGO_PKG_VERSION"), "\""))], OPENAPI).into_response()
}

/// Lets pages of the allowed origins read what is answered.
pub(crate) fn cors(origins: &OriginPolicy) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([AUTHORIZATION, HeaderName::from_static("last-event-id"), IF_NONE_MATCH])
        .expose_headers([ETAG, RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE);
    match origins {
        OriginPolicy::Any => layer.allow_origin(Any),
        // Pages that came from here need no leave.
        OriginPolicy::SameHost => layer,
        OriginPolicy::Listed(list) => {
            let list = list.clone();
            layer.allow_origin(AllowOrigin::predicate(move |origin, _| {
                origin.to_str().is_ok_and(|origin| list.allows(origin))
            }))
        }
    }
}

type WorthIt = And<And<SizeAbove, NotForContentType>, NotForContentType>;

/// Compresses what is worth it: not streams, which would be compressed for each client anew, nor what is compressed already.
/// Fast, as it is done while others wait.
pub(crate) fn compression() -> CompressionLayer<WorthIt> {
    let worth_it = SizeAbove::new(COMPRESSED_FROM_BYTES).and(NotForContentType::SSE).and(NotForContentType::IMAGES);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

/// Answers 304 where the client says that it has what it would be sent.
pub(crate) async fn not_modified(request: Request, next: Next) -> Response {
    let known = request.headers().get_all(IF_NONE_MATCH);
    let known: Vec<String> = known.iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    let mut response = next.run(request).await;
    if response.status() != StatusCode::OK || known.is_empty() {
        return response;
    }
    let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()) else { return response };
    // Tags are compared weakly (RFC 9110, section 13.1.2).
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tag = plain(tag);
    let same = |value: &String| value.split(',').any(|known| known.trim() == "*" || plain(known) == tag);
    if known.iter().any(same) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes = crate::accept::routes();
        let served: BTreeSet<&str> = routes.iter().map(|(path, _)| *path).collect();
        assert_eq!(described, served);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_channels_of_the_document_are_those_there_are() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described = document["components"]["schemas"]["channel"]["enum"].as_array().unwrap();
        let described: Vec<&str> = described.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(described, market::Channel::ALL.map(market::Channel::name));
    }
}
