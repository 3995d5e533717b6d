//! What a request is aimed at: one host, and a path.
//!
//! Reference: RFC 9112, section 3.2 (forms of the target, the Host field); RFC 9113, section 8.3.1 (`:authority`).

use http::header::HOST;
use http::request::Parts;
use http::{Method, Version};

/// Refuses a request whose target or host two readers could understand differently.
pub(super) fn check(head: &Parts) -> Result<(), &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("the request has more than one Host field");
    }
    let authority = head.uri.authority();
    match (host, authority) {
        (None, _) if head.version == Version::HTTP_11 => return Err("the request has no Host field"),
        (Some(host), _) if !is_host(host.as_bytes()) => return Err("the request's Host field names no host"),
        (_, Some(authority)) if !is_host(authority.as_str().as_bytes()) => {
            return Err("the request's target names no host");
        }
        (Some(host), Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err("the request's target and its Host field name different hosts");
        }
        _ => {}
    }
    if head.method == Method::CONNECT {
        return Err("this server is no proxy");
    }
    match head.uri.path() {
        "*" if head.method == Method::OPTIONS => Ok(()),
        path if path.starts_with('/') => Ok(()),
        _ => Err("the request's target is no path"),
    }
}

/// A name or an address, with or without a port.
fn is_host(text: &[u8]) -> bool {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (1..=255).contains(&text.len()) && text.iter().all(legal)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(method: &str, target: &str, version: Version, hosts: &[&str]) -> Result<(), &'static str> {
        let mut request = Request::builder().method(method).uri(target).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        check(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn one_host_and_a_path() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (method, target, version, hosts) in [
            ("GET", "/", one, &["x:1"][..]),
            ("GET", "/", Version::HTTP_10, &[]),
            ("GET", "http://x:1/a", one, &["X:1"]),
            ("GET", "http://[::1]:80/", two, &[]),
            ("OPTIONS", "*", one, &["x"]),
        ] {
            assert_eq!(ask(method, target, version, hosts), Ok(()), "{method} {target} {hosts:?}");
        }
        for (method, target, version, hosts) in [
            ("GET", "/", one, &[][..]),
            ("GET", "/", one, &["x", "x"]),
            ("GET", "/", one, &[""]),
            ("GET", "/", one, &["a b"]),
            ("GET", "/", one, &["x/y"]),
            ("GET", "/", one, &["user@x"]),
            ("GET", "http://evil.example/", one, &["x"]),
            ("GET", "http://x@evil.example/", two, &[]),
            ("GET", "http://x/", two, &["y"]),
            ("CONNECT", "x:443", one, &["x:443"]),
            ("GET", "*", one, &["x"]),
        ] {
            assert!(ask(method, target, version, hosts).is_err(), "{method} {target} {hosts:?}");
        }
    }
}
