use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// No wish to wait is followed for longer: the code in the message would be of no use by then.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What a gateway answered.
///
/// It has no `Debug`: gateways repeat the receiver's number.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty where it is longer than 64 KiB or broke off.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the gateway asks for fewer requests: 429, or 503 with a time to wait.
    #[must_use]
    pub fn asks_to_wait(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            || (self.status == StatusCode::SERVICE_UNAVAILABLE && self.headers.contains_key(RETRY_AFTER))
    }

    /// Whether the message may have been carried out although the answer says no: 502 and 504 are a proxy's, which may
    /// have passed the request on before it gave up (RFC 9110, sections 15.6.3 and 15.6.5), and so are 520 and 524 of Cloudflare's.
    #[must_use]
    pub fn leaves_in_doubt(&self) -> bool {
        matches!(self.status.as_u16(), 502 | 504 | 520 | 524)
    }

    /// `Retry-After` (RFC 9110, section 10.2.3), one hour at most: seconds, or a date, which is compared with the
    /// answer's own `Date` so that our clock does not matter.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = if let Ok(seconds) = text.parse() {
            Duration::from_secs(seconds)
        } else {
            let until = httpdate::parse_http_date(text).ok()?;
            let now = httpdate::parse_http_date(self.headers.get(DATE)?.to_str().ok()?).ok()?;
            until.duration_since(now).unwrap_or_default()
        };
        Some(wait.min(MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn answer(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Vec::new() }
    }

    #[rstest]
    #[case("120", None, Some(120))]
    #[case("0", None, Some(0))]
    #[case("99999999", None, Some(3600))]
    #[case("Sun, 06 Nov 1994 08:50:07 GMT", Some(DAY), Some(30))]
    #[case("Sun, 06 Nov 1994 08:00:00 GMT", Some(DAY), Some(0))]
    #[case("Sun, 06 Nov 1994 08:50:07 GMT", None, None)]
    #[case("soon", Some(DAY), None)]
    #[case("-5", None, None)]
    fn waiting(#[case] wish: &'static str, #[case] date: Option<&'static str>, #[case] seconds: Option<u64>) {
        let mut answer = answer(429);
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_static(wish));
        if let Some(date) = date {
            answer.headers.insert(DATE, HeaderValue::from_static(date));
        }
        assert_eq!(answer.retry_after(), seconds.map(Duration::from_secs));
    }

    #[test]
    fn a_server_that_fails_without_a_wish_does_not_ask_to_wait() {
        assert!(answer(429).asks_to_wait());
        let mut failed = answer(503);
        assert!(!failed.asks_to_wait());
        failed.headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert!(failed.asks_to_wait());
        failed.status = StatusCode::BAD_GATEWAY;
        assert!(!failed.asks_to_wait());
    }

    #[rstest]
    #[case(200, false)]
    #[case(400, false)]
    #[case(500, false)]
    #[case(502, true)]
    #[case(503, false)]
    #[case(504, true)]
    #[case(520, true)]
    #[case(521, false)]
    #[case(524, true)]
    fn what_a_proxy_gave_up_is_in_doubt(#[case] status: u16, #[case] is_in_doubt: bool) {
        assert_eq!(answer(status).leaves_in_doubt(), is_in_doubt);
    }
}
