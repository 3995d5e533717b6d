//! The canonical request: the text that both sides hash.

use std::borrow::Cow;

use http::HeaderMap;

use super::Refusal;

/// How often a path is percent-encoded on its way into the canonical request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// Dot segments and doubled slashes removed, then what was sent is encoded once more: every service but S3.
    Twice,
    /// As sent: S3.
    Once,
}

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub method: &'a str,
    /// As sent, percent-encoded.
    pub path: &'a str,
    /// As sent, without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// The authority of an HTTP/2 request that has no `Host` header.
    pub authority: Option<&'a str>,
}

/// Builds the canonical request over the headers that `signed` names (lower case, sorted, joined by semicolons).
///
/// Errors: a header that is named and not there or not text, a bent percent sign in the query.
pub fn request(parts: &Parts<'_>, signed: &str, payload_hash: &str, rule: PathRule) -> Result<String, Refusal> {
    // Most requests fit, so that it never grows.
    let mut out = String::with_capacity(1024);
    out.push_str(parts.method);
    out.push('\n');
    out.push_str(&path(parts.path, rule));
    out.push('\n');
    out.push_str(&query(parts.query)?);
    out.push('\n');
    for name in signed.split(';') {
        out.push_str(name);
        out.push(':');
        header(parts, name, &mut out)?;
        out.push('\n');
    }
    out.push('\n');
    out.push_str(signed);
    out.push('\n');
    out.push_str(payload_hash);
    Ok(out)
}

/// Appends the value of a signed header: trimmed, inner runs of blanks folded, several values joined by commas.
fn header(parts: &Parts<'_>, name: &str, out: &mut String) -> Result<(), Refusal> {
    let mut found = false;
    for value in parts.headers.get_all(name) {
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Refusal::invalid(format!("The value of the signed header '{name}' is not text.")))?;
        if found {
            out.push(',');
        }
        found = true;
        if !text.bytes().any(|b| matches!(b, b' ' | b'\t')) {
            out.push_str(text);
            continue;
        }
        let mut words = text.split([' ', '\t']).filter(|w| !w.is_empty());
        if let Some(first) = words.next() {
            out.push_str(first);
            words.for_each(|w| {
                out.push(' ');
                out.push_str(w);
            });
        }
    }
    if !found && name == "host" {
        out.push_str(parts.authority.unwrap_or(""));
        found = parts.authority.is_some();
    }
    if found { Ok(()) } else { Err(Refusal::invalid(format!("The signed header '{name}' is not in the request."))) }
}

fn path(raw: &str, rule: PathRule) -> Cow<'_, str> {
    if rule == PathRule::Once || raw == "/" {
        return Cow::Borrowed(if raw.is_empty() { "/" } else { raw });
    }
    let normal = normalise(raw);
    let mut out = String::with_capacity(normal.len() + 16);
    for byte in normal.bytes() {
        if byte == b'/' { out.push('/') } else { encode(byte, &mut out) }
    }
    Cow::Owned(out)
}

/// Removes dot segments and empty segments; a trailing slash stays.
fn normalise(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(raw.len() + 1);
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    let trailing = raw.ends_with('/') || raw.ends_with("/.") || raw.ends_with("/..");
    if segments.is_empty() || trailing {
        out.push('/');
    }
    out
}

/// Decodes and encodes every name and value anew, then sorts.
fn query(raw: &str) -> Result<String, Refusal> {
    if raw.is_empty() {
        return Ok(String::new());
    }
    let mut pairs = Vec::new();
    for pair in raw.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((recode(name)?, recode(value)?));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(pairs.join("&"))
}

fn recode(raw: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            encode(byte, &mut out);
            continue;
        }
        let digits = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
        let (Some(high), Some(low)) = digits else {
            return Err(Refusal::invalid(
                "The query string holds a percent sign that is not followed by two hex digits.",
            ));
        };
        encode(high << 4 | low, &mut out);
    }
    Ok(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn encode(byte: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_rule() {
        let check = |raw: &str, twice: &str| assert_eq!(path(raw, PathRule::Twice), twice, "{raw}");
        check("", "/");
        check("/", "/");
        check("//", "/");
        check("/a/./b/../c", "/a/c");
        check("/a//b/", "/a/b/");
        check("/functions/arn%3Aaws", "/functions/arn%253Aaws");
        check("/a b", "/a%20b");
        check("/../..", "/");
        assert_eq!(path("/a//b%20c", PathRule::Once), "/a//b%20c");
    }

    #[test]
    fn queries_are_recoded_and_sorted() {
        let check = |raw: &str, want: &str| assert_eq!(query(raw).expect("canonical"), want, "{raw}");
        check("", "");
        check("b=2&a=1", "a=1&b=2");
        check("List=ALL&x", "List=ALL&x=");
        check("a=%2f&a=%2B&a=+", "a=%2B&a=%2B&a=%2F");
        check("a=b=c", "a=b%3Dc");
        check("ä=1", "%C3%A4=1");
        assert!(query("a=%").is_err());
        assert!(query("a=%g0").is_err());
    }
}
