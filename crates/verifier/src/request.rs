//! What requests and their refusals look like, for every framework alike: bearer tokens by RFC 6750, errors in the shape
//! of Vestibule's own.

use crate::refusal::Refusal;

/// The token of a request, from the values of `Authorization`.
pub(crate) fn bearer<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, Refusal> {
    let value = values.next().ok_or(Refusal::NoToken)?;
    // Of two, another server on the way may have read the other one.
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let value = str::from_utf8(value).map_err(|_| Refusal::Malformed)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refusal::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::NoToken);
    }
    Ok(token.trim_matches(' '))
}

/// The answer to a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<&'static str>,
    /// `Retry-After`.
    pub(crate) retry_after: Option<&'static str>,
    /// JSON.
    pub(crate) body: &'static str,
}

impl From<Refusal> for Answer {
    /// Says no more of a bad token than that it is bad: the reason is for our own logs.
    fn from(refusal: Refusal) -> Self {
        let forbidden = |body| Self {
            status: 403,
            challenge: Some(r#"Bearer error="insufficient_scope""#),
            retry_after: None,
            body,
        };
        match refusal {
            Refusal::NoToken => Self::unauthorized("Bearer"),
            Refusal::TooLong
            | Refusal::NotV4Public
            | Refusal::Malformed
            | Refusal::UnknownKey
            | Refusal::BadSignature
            | Refusal::BadClaims
            | Refusal::WrongIssuer
            | Refusal::WrongAudience
            | Refusal::Expired
            | Refusal::NotYetValid => Self::unauthorized(r#"Bearer error="invalid_token""#),
            Refusal::InsufficientScope => forbidden(
                r#"{"error":"INSUFFICIENT_SCOPE","errorId":403,"message":"The token does not allow this.","systemId":"core"}"#,
            ),
            Refusal::InsufficientKyc => forbidden(
                r#"{"error":"INSUFFICIENT_KYC_LEVEL","errorId":403,"message":"More must be known of the customer for this.","systemId":"core"}"#,
            ),
            Refusal::NoKeysYet => Self {
                status: 503,
                challenge: None,
                retry_after: Some("1"),
                body: r#"{"error":"SERVICE_UNAVAILABLE","errorId":503,"message":"Please try again in a moment.","systemId":"core","data":{"retryAfterSeconds":1}}"#,
            },
        }
    }
}

impl Answer {
    const fn unauthorized(challenge: &'static str) -> Self {
        Self {
            status: 401,
            challenge: Some(challenge),
            retry_after: None,
            body: r#"{"error":"UNAUTHORIZED","errorId":401,"message":"Please sign in.","systemId":"core"}"#,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(&["Bearer abc"], Ok("abc"))]
    #[case::any_case(&["bEARER abc"], Ok("abc"))]
    #[case::more_space(&["Bearer   abc "], Ok("abc"))]
    #[case::no_header(&[], Err(Refusal::NoToken))]
    #[case::another_scheme(&["Basic abc"], Err(Refusal::NoToken))]
    #[case::scheme_only(&["Bearer"], Err(Refusal::NoToken))]
    #[case::no_scheme(&["abc"], Err(Refusal::NoToken))]
    #[case::empty(&["Bearer "], Ok(""))]
    #[case::two(&["Bearer abc", "Bearer abc"], Err(Refusal::Malformed))]
    fn a_bearer_token_is_found(#[case] values: &[&'static str], #[case] expected: Result<&str, Refusal>) {
        assert_eq!(bearer(values.iter().map(|value| value.as_bytes())), expected);
    }

    #[test]
    fn what_is_no_text_is_malformed() {
        assert_eq!(bearer([b"Bearer \xff".as_slice()].into_iter()), Err(Refusal::Malformed));
    }

    #[rstest]
    #[case(Refusal::NoToken, 401, "UNAUTHORIZED", Some("Bearer"))]
    #[case(Refusal::Expired, 401, "UNAUTHORIZED", Some(r#"Bearer error="invalid_token""#))]
    #[case(
        Refusal::InsufficientScope,
        403,
        "INSUFFICIENT_SCOPE",
        Some(r#"Bearer error="insufficient_scope""#)
    )]
    #[case(
        Refusal::InsufficientKyc,
        403,
        "INSUFFICIENT_KYC_LEVEL",
        Some(r#"Bearer error="insufficient_scope""#)
    )]
    #[case(Refusal::NoKeysYet, 503, "SERVICE_UNAVAILABLE", None)]
    fn answers_have_the_shape_of_the_service(
        #[case] refusal: Refusal,
        #[case] status: u16,
        #[case] error: &str,
        #[case] challenge: Option<&str>,
    ) {
        let answer = Answer::from(refusal);
        let body: serde_json::Value = serde_json::from_str(answer.body).unwrap();
        assert_eq!((answer.status, answer.challenge), (status, challenge));
        assert_eq!((body["error"].as_str(), body["errorId"].as_u64()), (Some(error), Some(status.into())));
        assert_eq!(body["systemId"], "core");
        assert!(body["message"].is_string());
    }
}
