//! Where a secret may stand in a request, and where it must not.
//!
//! **Invariant:** a secret in a URL is found by the key's name or by its look, whatever the request is for; URLs end up in
//! logs, histories and `Referer` headers.

/// A header `Authorization` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Another scheme
    #[error("the header Authorization should be: Bearer, a space, and an API key or a JWT")]
    Scheme,
    /// Bytes that no token has
    #[error("the token in the header Authorization has characters that no token has")]
    Characters,
}

/// The token in the value of a header `Authorization` (RFC 6750).
///
/// # Errors
/// [`BadHeader`] when there is none.
pub fn bearer(value: &[u8]) -> Result<&str, BadHeader> {
    let scheme = value.get(..7).ok_or(BadHeader::Scheme)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(BadHeader::Scheme);
    }
    let token = value[7..].trim_ascii();
    if token.is_empty() {
        return Err(BadHeader::Scheme);
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(BadHeader::Characters);
    }
    std::str::from_utf8(token).map_err(|_| BadHeader::Characters)
}

/// Names that others use for a secret in a query.
const SECRET_NAMES: [&str; 11] = [
    "token",
    "access_token",
    "auth_token",
    "id_token",
    "api_key",
    "apikey",
    "api-key",
    "key",
    "jwt",
    "authorization",
    "secret",
];

/// The name of the query's key that holds a secret, if one does; its value is not returned.
pub fn secret_in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = SECRET_NAMES.iter().any(|secret| secret.eq_ignore_ascii_case(name));
        // `tp_`, or the beginning of a JSON object in base64, as all JWTs have.
        let looks = value.starts_with("tp_") || (value.starts_with("eyJ") && value.contains('.'));
        (named || looks).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_taken_from_its_header() {
        assert_eq!(bearer(b"Bearer abc"), Ok("abc"));
        assert_eq!(bearer(b"bearer  abc "), Ok("abc"));
        for none in [&b""[..], b"Bearer", b"Bearer ", b"Basic dXNlcjpw", b"abc"] {
            assert_eq!(bearer(none), Err(BadHeader::Scheme), "{none:?}");
        }
        for bad in [&b"Bearer a b"[..], b"Bearer \xc3\xa9", b"Bearer a\tb"] {
            assert_eq!(bearer(bad), Err(BadHeader::Characters), "{bad:?}");
        }
    }

    #[test]
    fn secrets_in_a_query_are_found() {
        assert_eq!(secret_in_query("format=json&token=x"), Some("token"));
        assert_eq!(secret_in_query("Access_Token=x"), Some("Access_Token"));
        assert_eq!(secret_in_query("t=tp_0123abcd_00"), Some("t"));
        assert_eq!(secret_in_query("t=eyJhbGciOiJIUzI1NiJ9.e30.x"), Some("t"));
        assert_eq!(secret_in_query("format=json&symbols=BTC-USD"), None);
        assert_eq!(secret_in_query(""), None);
    }
}
