//! What a request says about who signed it, and the check of it.

use std::borrow::Cow;
use std::time::Duration;

use flint_base::Timestamp;
use flint_kit::Principal;
use flint_model::Region;
use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::canonical::{self, Parts, PathRule};
use super::key::{self, Keys, SecretKey};
use super::presigned::{self, Presigned};
use super::{ALGORITHM, Refusal, TERMINATOR, time};

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// How far a request's date may be from ours, either way.
pub const SKEW: Duration = Duration::from_secs(15 * 60);

/// A caller whose signature was verified (or, by `dev`'s gate, taken on trust). Nothing else makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    principal: Principal,
    region: Region,
}

impl Verified {
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The region of the credential scope.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// For `dev`'s gate alone, which says so when the server starts.
    pub(crate) fn taken_on_trust(principal: Principal, region: Region) -> Self {
        Self { principal, region }
    }
}

/// What a signature must be scoped to.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The signing name of the service that the request names by its target or path; `None` if only the scope says.
    pub service: Option<&'a str>,
    /// The regions that we answer for; empty for any well-formed one.
    pub regions: &'a [Region],
    pub now: Timestamp,
}

/// A signature that is well formed, in scope and in time, and not yet verified.
#[derive(Debug)]
pub struct Claim<'a> {
    access_key: Cow<'a, str>,
    token: Option<Cow<'a, str>>,
    region: Region,
    service: Cow<'a, str>,
    date: Cow<'a, str>,
    /// Names of headers, sorted, joined by semicolons.
    signed: Cow<'a, str>,
    signature: [u8; 32],
    /// The payload hash that the request announces.
    announced: Option<&'a str>,
    presigned: bool,
    now: Timestamp,
}

/// Both forms of a signature say this.
struct Said<'a> {
    credential: Cow<'a, str>,
    signed_headers: Cow<'a, str>,
    signature: Cow<'a, str>,
    token: Option<Cow<'a, str>>,
    date: RequestDate<'a>,
    presigned: bool,
}

impl<'a> Said<'a> {
    /// A request is signed in its header or in its query, never in both.
    fn read(parts: &Parts<'a>, now: Timestamp) -> Result<Self, Refusal> {
        let header = single(parts.headers, &AUTHORIZATION)?;
        let token = single(parts.headers, &X_AMZ_SECURITY_TOKEN)?.map(Cow::Borrowed);
        match (header, presigned::is_signed(parts.query)) {
            (Some(_), true) => Err(Refusal::incomplete(
                "Only one auth mechanism allowed: the Authorization header or the query-string parameters.",
            )),
            (None, false) => Err(Refusal::Missing),
            (Some(header), false) => {
                let fields = Fields::parse(header)?;
                Ok(Self {
                    credential: fields.credential.into(),
                    signed_headers: fields.signed_headers.into(),
                    signature: fields.signature.into(),
                    token,
                    date: request_date(parts.headers)?,
                    presigned: false,
                })
            }
            (None, true) => {
                let said = Presigned::parse(parts.query)?;
                let expires_at = said.expires_at();
                if now > expires_at {
                    return Err(Refusal::invalid(format!(
                        "Signature expired: {} is now earlier than {}",
                        time::basic(expires_at),
                        time::basic(now)
                    )));
                }
                if token.is_some() {
                    return Err(Refusal::incomplete("The security token of a presigned URL is in its query string."));
                }
                Ok(Self {
                    credential: said.credential.into(),
                    signed_headers: said.signed_headers.into(),
                    signature: said.signature.into(),
                    token: said.token.map(Cow::Owned),
                    date: RequestDate { at: said.signed_at, text: said.date.into() },
                    presigned: true,
                })
            }
        }
    }
}

impl<'a> Claim<'a> {
    /// Reads and checks everything that needs neither the body nor a secret.
    pub fn read(parts: &Parts<'a>, expected: &Expected<'_>) -> Result<Self, Refusal> {
        let said = Said::read(parts, expected.now)?;
        let scope = Scope::parse(said.credential)?;
        scope.check(expected, &said.date, said.presigned)?;
        check_signed_headers(&said.signed_headers, parts)?;
        let announced = single(parts.headers, &X_AMZ_CONTENT_SHA256)?;
        if announced.is_some_and(|hash| digest(hash).is_none()) {
            return Err(Refusal::invalid(
                "The value of 'x-amz-content-sha256' must be the SHA-256 of the payload in lower-case hex; unsigned and \
                 streaming payloads are not served here.",
            ));
        }
        let signature = digest(&said.signature).ok_or(Refusal::Mismatch)?;
        Ok(Self {
            access_key: scope.access_key,
            token: said.token,
            region: scope.region,
            service: scope.service,
            date: said.date.text,
            signed: said.signed_headers,
            signature,
            announced,
            presigned: said.presigned,
            now: expected.now,
        })
    }

    /// The signing name of the service in the scope.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Whether there is such a key at all.
    pub fn is_known(&self, keys: &dyn Keys) -> bool {
        match &self.token {
            None => keys.owner(&self.access_key).is_some(),
            Some(token) => keys.session(&self.access_key, token).is_some(),
        }
    }

    /// Checks the payload and the signature. `payload_hash` is the SHA-256 of the body as sent, in lower-case hex.
    pub fn verify(&self, parts: &Parts<'_>, payload_hash: &str, keys: &dyn Keys) -> Result<Verified, Refusal> {
        let rule = if self.service == "s3" { PathRule::Once } else { PathRule::Twice };
        let canonical = if self.presigned {
            let query = presigned::without_signature(parts.query);
            canonical::request(&Parts { query: &query, ..*parts }, &self.signed, payload_hash, rule)?
        } else {
            canonical::request(parts, &self.signed, payload_hash, rule)?
        };
        let (owner, expires) = match &self.token {
            None => (keys.owner(&self.access_key), None),
            Some(token) => {
                let session = keys.session(&self.access_key, token);
                session.map_or((None, None), |session| (Some(session.owner), Some(session.expires)))
            }
        };
        let nobody = SecretKey::new("no key has this secret; it only costs the same time to check");
        let secret = owner.as_ref().map_or(&nobody, |o| &o.secret);
        let good = key::signature(secret, &self.date, self.region.as_str(), &self.service, &canonical);
        let payload = self.announced.unwrap_or(payload_hash);
        let matches = good.ct_eq(&self.signature) & payload.as_bytes().ct_eq(payload_hash.as_bytes());
        let owner = owner.ok_or(Refusal::Unrecognized)?;
        if !bool::from(matches) {
            return Err(Refusal::Mismatch);
        }
        // After the signature: whether a session is over is told to its holder alone.
        if expires.is_some_and(|at| at <= self.now) {
            return Err(Refusal::Expired);
        }
        Ok(Verified { principal: owner.principal, region: self.region.clone() })
    }
}

/// The parameters of the `Authorization` header.
struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(header: &'a str) -> Result<Self, Refusal> {
        let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
        if algorithm != ALGORITHM {
            return Err(Refusal::incomplete(format!(
                "Unsupported AWS 'algorithm': expected '{ALGORITHM}' at the start of the Authorization header."
            )));
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in rest.split(',') {
            let (name, value) = field.trim_matches(' ').split_once('=').unwrap_or(("", ""));
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(Refusal::incomplete("Authorization header holds a part that is not 'name=value'.")),
            };
            if slot.replace(value).is_some() {
                return Err(Refusal::incomplete(format!("Authorization header holds '{name}' twice.")));
            }
        }
        let mut missing = String::new();
        for (name, value) in [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)] {
            if value.is_none_or(str::is_empty) {
                missing.push_str(&format!("Authorization header requires '{name}' parameter. "));
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) if missing.is_empty() => {
                Ok(Self { credential, signed_headers, signature })
            }
            _ => Err(Refusal::Incomplete(missing.trim_end().to_owned())),
        }
    }
}

struct Scope<'a> {
    access_key: Cow<'a, str>,
    day: Cow<'a, str>,
    region: Region,
    service: Cow<'a, str>,
}

impl<'a> Scope<'a> {
    fn parse(credential: Cow<'a, str>) -> Result<Self, Refusal> {
        match credential {
            Cow::Borrowed(text) => Self::split(text),
            Cow::Owned(text) => Scope::split(&text).map(Scope::into_owned),
        }
    }

    fn into_owned<'b>(self) -> Scope<'b> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let Self { access_key, day, region, service } = self;
        Scope { access_key: own(access_key), day: own(day), region, service: own(service) }
    }

    fn split(credential: &'a str) -> Result<Self, Refusal> {
        let mut parts = credential.split('/');
        let mut next = || parts.next();
        let five = (next(), next(), next(), next(), next(), next());
        let (Some(access_key), Some(day), Some(region), Some(service), Some(terminator), None) = five else {
            return Err(Refusal::incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            ));
        };
        if terminator != TERMINATOR {
            return Err(Refusal::invalid(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}'."
            )));
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if access_key.is_empty() || access_key.len() > 128 || !access_key.bytes().all(legal) {
            return Err(Refusal::Unrecognized);
        }
        let region = region.parse().map_err(|_| Refusal::invalid("Credential should be scoped to a valid region."))?;
        Ok(Self { access_key: access_key.into(), day: day.into(), region, service: service.into() })
    }

    /// `lasting`: a presigned URL says itself how long it holds, so its date may be long ago.
    fn check(&self, expected: &Expected<'_>, date: &RequestDate<'_>, lasting: bool) -> Result<(), Refusal> {
        if let Some(service) = expected.service
            && service != self.service
        {
            return Err(Refusal::invalid(format!("Credential should be scoped to correct service: '{service}'.")));
        }
        if !expected.regions.is_empty() && !expected.regions.contains(&self.region) {
            return Err(Refusal::invalid("Credential should be scoped to a valid region."));
        }
        let (now, at) = (expected.now, date.at);
        let text = &date.text;
        if !lasting && now.since(at) > SKEW {
            let edge = time::basic(Timestamp::from_millis(now.as_millis() - SKEW.as_millis() as i64));
            return Err(Refusal::invalid(format!(
                "Signature expired: {text} is now earlier than {edge} ({} - 15 min.)",
                time::basic(now)
            )));
        }
        if at.since(now) > SKEW {
            let edge = time::basic(now.saturating_add(SKEW));
            return Err(Refusal::invalid(format!(
                "Signature not yet current: {text} is still later than {edge} ({} + 15 min.)",
                time::basic(now)
            )));
        }
        let day = &text[..8];
        if day != self.day {
            return Err(Refusal::invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != \
                 '{day}', from '{text}'.",
                self.day
            )));
        }
        Ok(())
    }
}

struct RequestDate<'a> {
    at: Timestamp,
    /// In the basic form, sixteen ASCII characters.
    text: Cow<'a, str>,
}

/// `X-Amz-Date`, else `Date`.
fn request_date(headers: &HeaderMap) -> Result<RequestDate<'_>, Refusal> {
    let missing = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
    let at = match single(headers, &X_AMZ_DATE)? {
        Some(text) => match time::parse_basic(text) {
            Some(at) => return Ok(RequestDate { at, text: text.into() }),
            None => None,
        },
        None => time::parse_date(single(headers, &DATE)?.ok_or_else(|| Refusal::incomplete(missing))?),
    };
    let at = at.ok_or_else(|| {
        Refusal::incomplete("Date must be in ISO-8601 'basic format', such as '20261121T090000Z', or an HTTP date.")
    })?;
    let text = time::basic(at);
    if text.len() == 16 { Ok(RequestDate { at, text: text.into() }) } else { Err(Refusal::incomplete(missing)) }
}

/// Checks the list of signed headers: lower case, sorted, each once, with `host` and every `x-amz-*` header in it.
fn check_signed_headers(list: &str, parts: &Parts<'_>) -> Result<(), Refusal> {
    let lower = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
    // Requests sign about ten headers.
    let names: SmallVec<[&str; 16]> = list.split(';').collect();
    if !names.iter().all(|n| lower(n)) || !names.windows(2).all(|w| w[0] < w[1]) {
        return Err(Refusal::invalid("SignedHeaders must be lower-case names, sorted, each once."));
    }
    let demand = |name: &str| {
        if names.binary_search(&name).is_ok() {
            Ok(())
        } else {
            Err(Refusal::invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")))
        }
    };
    demand("host")?;
    for name in parts.headers.keys().map(|n| n.as_str()).filter(|n| n.starts_with("x-amz-")) {
        demand(name)?;
    }
    Ok(())
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::incomplete(format!("The request holds the header '{name}' more than once.")));
    }
    let text = value.to_str().map_err(|_| Refusal::incomplete(format!("The header '{name}' is not text.")))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// The digest that sixty-four lower-case hex digits stand for.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut out).ok().map(|()| out)
}
