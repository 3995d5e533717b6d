//! Writing XML. Names come from tables; only texts need escaping.

/// `<name xmlns="namespace">`
pub fn open_with_namespace(name: &str, namespace: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    if !namespace.is_empty() {
        out.push_str(" xmlns=\"");
        escape(namespace, out);
        out.push('"');
    }
    out.push('>');
}

pub fn open(name: &str, out: &mut String) {
    open_with_namespace(name, "", out);
}

pub fn close(name: &str, out: &mut String) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// An element with a text in it.
pub fn element(name: &str, text: &str, out: &mut String) {
    open(name, out);
    escape(text, out);
    close(name, out);
}

/// Characters that XML 1.0 can't hold become U+FFFD.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() && c < '\u{20}' => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let mut out = String::new();
        element("a", "x<y>&\"z\"\0\r\n", &mut out);
        assert_eq!(out, "<a>x&lt;y&gt;&amp;&quot;z&quot;\u{fffd}&#xD;\n</a>");
    }
}
