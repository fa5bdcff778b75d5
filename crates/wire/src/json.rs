//! JSON, writing: the pieces of an object with known keys.
//!
//! **Invariant:** writing cannot fail and allocates nothing but the growth of `out`.

/// Appends a number; JSON has no infinities, they become `null`.
pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    // Writing to a `Vec` cannot fail, and the shortest digits are found on the stack.
    let _ = serde_json::to_writer(out, &value);
}

/// Appends a string that may need escapes (RFC 8259, section 7).
pub(crate) fn text(value: &str, out: &mut Vec<u8>) {
    // As above: a `&str` into a `Vec` cannot fail.
    let _ = serde_json::to_writer(out, value);
}
