//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1).
//!
//! **Invariant:** a part of the header that does not fit the grammar takes nothing with it but its own offer.
//!
//! What is *not* here: what any extension means.

/// One offer: a name and its parameters in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// The offers of one header line, in order; those that do not fit the grammar are left out.
pub(crate) fn parse(line: &[u8]) -> impl Iterator<Item = Extension> {
    split_unquoted(line, b',').filter_map(parse_extension)
}

fn parse_extension(offer: &[u8]) -> Option<Extension> {
    let mut parts = split_unquoted(offer, b';').map(<[u8]>::trim_ascii);
    let name = token(parts.next()?)?.to_owned();
    let params = parts.map(parse_param).collect::<Option<Vec<_>>>()?;
    Some(Extension { name, params })
}

fn parse_param(part: &[u8]) -> Option<(String, Option<String>)> {
    let Some(equals) = part.iter().position(|&byte| byte == b'=') else {
        return Some((token(part)?.to_owned(), None));
    };
    let name = token(part[..equals].trim_ascii_end())?.to_owned();
    let value = part[equals + 1..].trim_ascii_start();
    let value = match value {
        // "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
        // 'token' ABNF."
        [b'"', quoted @ .., b'"'] => token(&unescape(quoted)?)?.to_owned(),
        plain => token(plain)?.to_owned(),
    };
    Some((name, Some(value)))
}

fn unescape(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = quoted.iter().copied();
    let mut plain = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next()? } else { byte });
    }
    Some(plain)
}

/// The bytes as text, if they are a token: one or more visible ASCII characters that separate nothing.
pub(crate) fn token(bytes: &[u8]) -> Option<&str> {
    let fits = |&byte: &u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if bytes.is_empty() || !bytes.iter().all(fits) {
        return None;
    }
    str::from_utf8(bytes).ok()
}

/// The parts between separators that do not stand within quotes.
fn split_unquoted(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    #[derive(Clone, Copy)]
    enum At {
        Plain,
        Quoted,
        Escaped,
    }
    let mut at = At::Plain;
    bytes.split(move |&byte| {
        at = match (at, byte) {
            (At::Plain, b'"') | (At::Escaped, _) => At::Quoted,
            (At::Quoted, b'"') => At::Plain,
            (At::Quoted, b'\\') => At::Escaped,
            (same, _) => same,
        };
        matches!(at, At::Plain) && byte == separator
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the offers written again, with every value in brackets.
    fn check(line: &str, expected: &[&str]) {
        let write_param = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!(";{name}[{value}]"),
            None => format!(";{name}"),
        };
        let written: Vec<String> = parse(line.as_bytes())
            .map(|offer| offer.name + &offer.params.iter().map(write_param).collect::<String>())
            .collect();
        assert_eq!(written, expected, "{line}");
    }

    #[test]
    fn offers_and_their_parameters_are_taken_apart() {
        check("", &[]);
        check("a", &["a"]);
        check("a,b;c , d; e=1;f = \"2\"", &["a", "b;c", "d;e[1];f[2]"]);
        check(", a,,", &["a"]);
        check(r#"a; b="1\0""#, &["a;b[10]"]);
    }

    #[test]
    fn what_does_not_fit_the_grammar_is_left_out_alone() {
        check("a;, b", &["b"]);
        check("a; =1, b", &["b"]);
        check("a; x=, b", &["b"]);
        check("a b, c", &["c"]);
        check(r#"a; x="1, 2", b"#, &["b"]);
        check(r#"a; x="", b"#, &["b"]);
        check(r#"b, a; x="1"#, &["b"]);
        check(r#"b, a; x="1\"#, &["b"]);
        check("a; x=1=2, b", &["b"]);
        check("\u{e9}, b", &["b"]);
    }
}
