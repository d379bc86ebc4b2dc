//! What `fuzz/` reaches of this crate: the reader of replies, without a connection. Nobody else's business.

/// A reply is read the same whole and in pieces of `size` bytes, whatever it is.
pub fn reply(body: &[u8], size: usize) {
    crate::http::same_however_cut(body, size);
}
