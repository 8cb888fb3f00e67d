//! Who may ask: bearer keys, and on a keyless loopback address only what cannot come from a web page elsewhere.

use crate::{error::ApiError, limits::KEY_CHARS_MIN};
use axum::http::{HeaderMap, StatusCode, Uri, header, uri::Authority};
use std::net::IpAddr;

/// The hash of an API key. The key itself is not kept.
#[derive(Debug, Clone)]
pub struct ApiKey {
    hash: blake3::Hash,
}

/// A text that cannot be an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an API key has at least {KEY_CHARS_MIN} printable ASCII characters and no spaces; `openssl rand -hex 32` makes one"
)]
pub struct WeakKeyError;

impl ApiKey {
    /// Takes a key that is hard enough to guess and fits into a header.
    pub fn new(key: &str) -> Result<Self, WeakKeyError> {
        if key.len() < KEY_CHARS_MIN || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WeakKeyError);
        }
        Ok(Self { hash: blake3::hash(key.as_bytes()) })
    }
}

/// The rule for this gateway's requests.
#[derive(Debug)]
pub(crate) enum Admission {
    /// No key: the address is loopback, so the only stranger is a web page in the owner's browser.
    Local,
    /// Any of these keys.
    Keyed(Vec<ApiKey>),
}

impl Admission {
    /// Checks a request's head. `open` routes need no key: probes have none.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap, open: bool) -> Result<(), ApiError> {
        match self {
            Self::Local => check_local(uri, headers),
            Self::Keyed(_) if open => Ok(()),
            Self::Keyed(keys) => check_key(keys, headers),
        }
    }
}

fn check_key(keys: &[ApiKey], headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |message| Err(ApiError::request(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"));
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, key)) = given.and_then(|value| value.split_once(' ')) else {
        return refuse("You didn't provide an API key: send it as `Authorization: Bearer KEY`");
    };
    let hash = blake3::hash(key.trim().as_bytes());
    // Comparing hashes takes constant time (`blake3::Hash`), and every key is compared.
    let known = keys.iter().fold(false, |known, key| known | (key.hash == hash));
    if known && scheme.eq_ignore_ascii_case("bearer") { Ok(()) } else { refuse("Incorrect API key provided") }
}

/// A page from elsewhere can make the owner's browser send requests here. If its name was rebound to 127.0.0.1, `Host`
/// still bears the name; if it asks across origins, `Origin` bears the page's. (A `POST` needs `application/json` as
/// well, which no page may send across origins without a preflight, and no preflight is granted.)
fn check_local(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(ApiError::request(StatusCode::FORBIDDEN, message).code("not_local"));
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    if hosts.peek().is_none() {
        return refuse("The `Host` header is missing");
    }
    let host_is_local = |text: &str| text.parse::<Authority>().is_ok_and(|authority| is_local(authority.host()));
    if !hosts.all(|host| host.to_str().is_ok_and(host_is_local)) || uri.host().is_some_and(|host| !is_local(host)) {
        return refuse(
            "This gateway has no API key and answers only to local names such as `localhost` and `127.0.0.1`",
        );
    }
    let origin_is_local = |text: &str| text.parse::<Uri>().is_ok_and(|origin| origin.host().is_some_and(is_local));
    if !headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(origin_is_local)) {
        return refuse("This gateway has no API key and takes no requests from web pages of other machines");
    }
    Ok(())
}

fn is_local(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        check_local(&Uri::from_static("/v1/models"), &headers).is_ok()
    }

    #[test]
    fn local_names_pass_and_others_do_not() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:7433", "127.1.2.3", "[::1]:7433", "a.localhost:1", "localhost."]
        {
            assert!(check(&[("host", host)]), "{host}");
        }
        for host in
            ["evil.test", "evil.test:7433", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1", "", "[::2]"]
        {
            assert!(!check(&[("host", host)]), "{host}");
        }
        assert!(!check(&[]));
        assert!(!check(&[("host", "localhost"), ("host", "evil.test")]));
    }

    #[test]
    fn pages_of_other_machines_do_not_pass() {
        for (origin, passes) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1:7433", true),
            ("tauri://localhost", true),
            ("https://evil.test", false),
            ("http://localhost.evil.test", false),
            ("null", false),
            ("file://", false),
        ] {
            assert_eq!(check(&[("host", "localhost"), ("origin", origin)]), passes, "{origin}");
        }
    }

    #[test]
    fn keys_are_long_and_any_of_them_opens() {
        assert_eq!(ApiKey::new("short").unwrap_err(), WeakKeyError);
        assert_eq!(ApiKey::new("spaces are not for headers").unwrap_err(), WeakKeyError);
        let keys = [ApiKey::new("0123456789abcdef").unwrap(), ApiKey::new("fedcba9876543210").unwrap()];
        let with = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            check_key(&keys, &headers).is_ok()
        };
        assert!(with("Bearer 0123456789abcdef"));
        assert!(with("bearer fedcba9876543210"));
        assert!(!with("Bearer 0123456789abcdeg"));
        assert!(!with("Basic 0123456789abcdef"));
        assert!(!with("0123456789abcdef"));
        assert!(check_key(&keys, &HeaderMap::new()).is_err());
        assert!(!format!("{keys:?}").contains("0123456789abcdef"));
    }
}
