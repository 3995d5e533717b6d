//! Who may come in: by signature (`flint up`), or on trust on this machine alone (`flint dev`).

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::sync::Arc;

use flint_kit::Principal;
use flint_model::{AccountId, Region};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;

use crate::sigv4::{ALGORITHM, Keys, Refusal, Verified, presigned};

/// How callers are let in.
#[derive(Clone, Debug)]
pub enum Gate {
    /// Every call is signed with a key that `keys` knows, for one of `regions` (empty: any).
    Signed { keys: Arc<dyn Keys>, regions: Vec<Region> },
    /// Loopback only, any credentials: for a developer's machine.
    Dev(DevGate),
}

/// The rules of `flint dev`: a web page in the developer's browser must not be able to drive it.
#[derive(Clone, Debug)]
pub struct DevGate {
    /// The account of access keys that are not twelve digits.
    pub account: AccountId,
    /// Host names besides the loopback ones under which this listener is reached, in lower case.
    pub hosts: Vec<String>,
    /// Knows the sessions that we gave out, so that a role's credentials act as the role here too.
    pub keys: Option<Arc<dyn Keys>>,
}

/// Why `dev`'s gate stayed shut. 403, code `AccessDeniedException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shut {
    #[error(
        "the Host header names {0:?}; flint dev answers to 127.0.0.1, localhost, [::1] and *.localhost with its own port"
    )]
    Host(String),
    #[error("the request comes from the web page {0:?}; flint dev answers no web pages")]
    Origin(String),
    #[error("the request comes from another site's web page; flint dev answers no web pages")]
    CrossSite,
}

impl DevGate {
    /// Checks where a request comes from: every request, health included. `port` is the listener's.
    pub fn origin(&self, request: &Parts, port: u16) -> Result<(), Shut> {
        let authority = host_of(request);
        if !self.knows(authority, port) {
            return Err(Shut::Host(authority.to_owned()));
        }
        for origin in request.headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
            let own = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            if !own.is_some_and(|authority| self.knows(authority, port)) {
                return Err(Shut::Origin(origin));
            }
        }
        let site = request.headers.get("sec-fetch-site").map(|v| v.as_bytes());
        match site {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err(Shut::CrossSite),
        }
    }

    /// Takes the caller's word for who it is. A management call without an `Authorization` header is refused:
    /// a form post of a web page can't carry one.
    pub fn admit(&self, request: &Parts, region: &Region) -> Result<Verified, Refusal> {
        if presigned::is_signed(request.uri.query().unwrap_or("")) {
            return Err(Refusal::NotServed("presigned URLs under flint dev, which can't check them; use flint up"));
        }
        let header = request.headers.get(AUTHORIZATION).ok_or(Refusal::Missing)?;
        let header = header.to_str().unwrap_or("");
        let scope: Vec<&str> = credential(header).unwrap_or("").split('/').collect();
        let access_key = scope.first().copied().filter(|k| !k.is_empty() && k.len() <= 128).unwrap_or("anonymous");
        let token = request.headers.get("x-amz-security-token").and_then(|t| t.to_str().ok());
        let session = self.keys.as_ref().zip(token).and_then(|(keys, token)| keys.session(access_key, token));
        let principal = session.map_or_else(
            || {
                let account = access_key.parse().unwrap_or_else(|_| self.account.clone());
                Principal::Root { account, access_key: access_key.to_owned() }
            },
            |session| session.owner.principal,
        );
        let region = scope.get(2).and_then(|r| r.parse().ok()).unwrap_or_else(|| region.clone());
        Ok(Verified::taken_on_trust(principal, region))
    }

    fn knows(&self, authority: &str, port: u16) -> bool {
        let Some((host, asked)) = split(authority) else { return false };
        let host = host.to_ascii_lowercase();
        let loopback = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse() == Ok(Ipv6Addr::LOCALHOST),
            None => host == "127.0.0.1" || host == "localhost" || host.ends_with(".localhost"),
        };
        asked == port && (loopback || self.hosts.contains(&host))
    }
}

/// The authority that the caller named: `Host`, or HTTP/2's `:authority`.
pub(crate) fn host_of(request: &Parts) -> &str {
    let mut values = request.headers.get_all(HOST).iter();
    match (values.next(), values.next()) {
        (Some(host), None) => host.to_str().unwrap_or(""),
        (None, _) => request.uri.authority().map_or("", |authority| authority.as_str()),
        (Some(_), Some(_)) => "",
    }
}

/// The service's name in the credential scope, in the header or in the query; empty if there is none.
pub(crate) fn scope_of(request: &Parts) -> Cow<'_, str> {
    let header = request.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let scope = match header {
        Some(header) => credential(header).and_then(|c| c.split('/').nth(3)).map(Cow::Borrowed),
        None => request.uri.query().and_then(presigned::scope_service).map(Cow::Owned),
    };
    scope.unwrap_or_default()
}

fn credential(header: &str) -> Option<&str> {
    // The usual form needs no search.
    let usual = header.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(" Credential="));
    let rest = usual.or_else(|| header.split_once("Credential=").map(|(_, rest)| rest))?;
    rest.split([',', ' ']).next()
}

/// Host and port of an authority; the port is 80 if it names none.
fn split(authority: &str) -> Option<(&str, u16)> {
    let colon = match authority.rfind(']') {
        Some(end) => authority[end + 1..].strip_prefix(':').map(|port| (&authority[..=end], port)),
        None => authority.split_once(':'),
    };
    match colon {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Some((host, port.parse().ok()?)),
        Some(_) => None,
        None => Some((authority, 80)),
    }
}

#[cfg(test)]
mod tests {
    use flint_base::Timestamp;
    use http::Request;

    use super::*;
    use crate::sigv4::{Owner, SecretKey, Session};

    fn gate() -> DevGate {
        DevGate { account: "000000000000".parse().expect("account"), hosts: vec!["flint.internal".into()], keys: None }
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/2015-03-31/functions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("request").into_parts().0
    }

    #[test]
    fn hosts_and_origins() {
        let check = |headers: &[(&str, &str)], good: bool| {
            assert_eq!(gate().origin(&parts(headers), 4566).is_ok(), good, "{headers:?}");
        };
        for host in [
            "127.0.0.1:4566",
            "localhost:4566",
            "LOCALHOST:4566",
            "[::1]:4566",
            "a.b.localhost:4566",
            "flint.internal:4566",
        ] {
            check(&[("host", host)], true);
        }
        for host in [
            "",
            "evil.example:4566",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost:4567",
            "localhost.evil.example:4566",
            "evillocalhost:4566",
            "[::2]:4566",
            "127.0.0.1:4566:4566",
            "127.0.0.1:+4566",
            "::1:4566",
            "[::1]4566",
            "192.168.0.1:4566",
        ] {
            check(&[("host", host)], false);
        }
        check(&[], false);
        check(&[("host", "localhost:4566"), ("host", "localhost:4566")], false);
        let home = ("host", "localhost:4566");
        check(&[home, ("origin", "http://localhost:4566")], true);
        check(&[home, ("origin", "http://127.0.0.1:4566")], true);
        check(&[home, ("origin", "null")], false);
        check(&[home, ("origin", "https://evil.example")], false);
        check(&[home, ("origin", "http://localhost:3000")], false);
        check(&[home, ("sec-fetch-site", "same-origin")], true);
        check(&[home, ("sec-fetch-site", "none")], true);
        check(&[home, ("sec-fetch-site", "cross-site")], false);
        check(&[home, ("sec-fetch-site", "same-site")], false);
    }

    #[test]
    fn callers_are_taken_at_their_word() {
        let region: Region = "us-east-1".parse().expect("region");
        let admit = |value: &str| gate().admit(&parts(&[("authorization", value)]), &region).expect("admitted");
        let caller = admit(
            "AWS4-HMAC-SHA256 Credential=123456789012/20261121/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0",
        );
        assert_eq!(caller.principal().account().as_str(), "123456789012");
        assert_eq!(caller.region().as_str(), "eu-west-1");
        let caller = admit("Bearer nothing");
        assert_eq!(caller.principal().account().as_str(), "000000000000");
        assert_eq!(caller.region().as_str(), "us-east-1");
        assert_eq!(gate().admit(&parts(&[]), &region).expect_err("refused"), Refusal::Missing);
    }

    #[derive(Debug)]
    struct OneSession;

    impl Keys for OneSession {
        fn owner(&self, _: &str) -> Option<Owner> {
            None
        }

        fn session(&self, access_key: &str, token: &str) -> Option<Session> {
            let principal = Principal::AssumedRole {
                account: "111111111111".parse().expect("account"),
                access_key: access_key.to_owned(),
                role: "r".into(),
                role_id: "AROAX".into(),
                session: "me".into(),
            };
            let owner = Owner { principal, secret: SecretKey::new("s") };
            (token == "known").then_some(Session { owner, expires: Timestamp::from_millis(0) })
        }
    }

    #[test]
    fn a_session_of_ours_acts_as_itself_and_a_presigned_url_is_refused() {
        let region: Region = "us-east-1".parse().expect("region");
        let gate = DevGate { keys: Some(Arc::new(OneSession)), ..gate() };
        let header = "AWS4-HMAC-SHA256 Credential=ASIAX/20261121/eu-west-1/lambda/aws4_request, x";
        let admit = |token: &str| {
            let request = parts(&[("authorization", header), ("x-amz-security-token", token)]);
            gate.admit(&request, &region).expect("admitted").principal().arn()
        };
        assert_eq!(admit("known"), "arn:aws:sts::111111111111:assumed-role/r/me");
        assert_eq!(admit("another"), "arn:aws:iam::000000000000:root");
        let presigned = Request::get("/f?X-Amz-Signature=0").body(()).expect("request").into_parts().0;
        assert!(matches!(gate.admit(&presigned, &region), Err(Refusal::NotServed(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_host_and_origin_is_ours_or_refused(
            host in "(127\\.0\\.0\\.1|localhost|\\[::1\\]|evil\\.example|[a-z.@:/\\[\\]]){0,3}(:4566)?",
            origin in proptest::option::of("(https?://)?(localhost|null|evil\\.example|[a-z.@:/]){0,3}(:4566)?"),
            authorization in "(AWS4-HMAC-SHA256 )?(Credential=)?[ -~]{0,60}",
        ) {
            let gate = DevGate { account: "000000000000".parse().expect("legal"), hosts: Vec::new(), keys: None };
            let mut headers = vec![("host", host.as_str()), ("authorization", authorization.as_str())];
            headers.extend(origin.as_deref().map(|origin| ("origin", origin)));
            let request = parts(&headers);
            if gate.origin(&request, 4566).is_ok() {
                proptest::prop_assert!(host.ends_with("4566") && !host.contains("evil.example:"), "{}", host);
                let foreign = origin.as_deref().is_some_and(|origin| origin.contains("evil.example:"));
                proptest::prop_assert!(!foreign, "{:?}", origin);
            }
            let _ = gate.admit(&request, &"us-east-1".parse().expect("legal"));
        }
    }
}
