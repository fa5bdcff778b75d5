//! The dashboard, embedded in the binary.
//!
//! **Invariant:** what is served was built from `web/`; without such a build the page says how to make one.
//!
//! A debug build reads the files from the source tree at run time, a release build carries them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode, Uri};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../../web/dist"]
#[allow_missing = true]
struct Dist;

/// Scripts only from here; styles may be inline because chart libraries make them so. Sockets may go to other hosts as a
/// page can be pointed at another gateway.
const CONTENT_SECURITY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
    style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Tickerplant</title>\
    <h1>Tickerplant is running, without its dashboard</h1>\
    <p>This binary was built without the web assets. Build them, then build the binary again:\
    <pre>npm --prefix web ci\nnpm --prefix web run build\ncargo build --release</pre>\
    <p>or let <code>make run</code> do all of it. The WebSocket endpoint <code>/ws</code>, \
    <a href=/api/v1/instruments>the REST interface</a> and <a href=/metrics>the metrics</a> work as they are.</html>";

/// Serves a file of the dashboard.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match Dist::get(path) {
        Some(file) => found(path, file, &headers),
        None if path == "index.html" => page(NOT_BUILT),
        None => (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], "not found\n").into_response(),
    }
}

fn page(html: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
    ];
    (headers, html).into_response()
}

fn found(path: &str, file: rust_embed::EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = entity_tag(&file.metadata.sha256_hash());
    // The build puts a hash of the content into the names below assets/.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [(CACHE_CONTROL, cache), (ETAG, etag.as_str()), (CONTENT_SECURITY_POLICY, CONTENT_SECURITY)];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    if known.any(|tag| tag == etag || tag == "*") {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(CONTENT_TYPE, content_type(path))], Body::from(file.data.into_owned())).into_response()
}

/// 64 bits of the content's hash, quoted: enough to tell the versions of one file apart.
fn entity_tag(sha256: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut tag = String::from("\"");
    for byte in &sha256[..8] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_revalidated_by_their_tag() {
        let hash = [0xab; 32];
        let tag = entity_tag(&hash);
        assert_eq!(tag, "\"abababababababab\"");
        let file = || rust_embed::EmbeddedFile {
            data: b"hello".as_slice().into(),
            metadata: rust_embed::Metadata::__rust_embed_new(hash, None, None),
        };
        let response = found("assets/a-1.js", file(), &HeaderMap::new());
        assert_eq!(response.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, format!("W/\"other\", {tag}").parse().unwrap());
        let response = found("index.html", file(), &headers);
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
    }
}
