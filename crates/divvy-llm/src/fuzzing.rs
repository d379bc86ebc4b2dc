//! What `fuzz/` reaches of this crate: the readers of what endpoints send, without a connection. Nobody else's business.

/// A reply is read the same whole and in pieces of `size` bytes, whatever it is.
pub fn reply(body: &[u8], size: usize) {
    crate::http::same_however_cut(body, size);
}

/// A row of a batch's results is a reply, or there is a reason why not.
pub fn batch_row(line: &[u8]) {
    crate::http::batch_lines::read_or_refused(line);
}

/// Limits in headers, which stand one a line, are limits or are not heard.
pub fn limits(lines: &str) {
    crate::http::heard_of(lines);
}
