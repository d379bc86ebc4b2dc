//! Text from outside, made inert. Safe in element content and in a quoted attribute.

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            // Not allowed in HTML; a replacement shows that something was there.
            c if c.is_control() => escaped.push('\u{fffd}'),
            // Overrides of the writing direction can make a text read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escaped, with the space between a figure and its per cent sign unbreakable.
pub(crate) fn text(text: &str) -> String {
    escape(text).replace(" %", "\u{202f}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_become_inert() {
        assert_eq!(escape("</script><img src=x onerror='1'>"), "&lt;/script&gt;&lt;img src=x onerror=&#39;1&#39;&gt;");
        assert_eq!(escape("a\u{0}\u{1b}\r\u{202e}b\n"), "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}b\n");
        assert_eq!(text("48.1 %"), "48.1\u{202f}%");
    }
}
